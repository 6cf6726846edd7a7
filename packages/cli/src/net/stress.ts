// A share of what ring3 echo-stress sends: makes the datagrams of its requests, checks every byte of what comes back, and accounts
// for each.
import { checkPayload, fillPayload } from "./echo-payload.ts";

/** What is to be sent, and how. */
export interface StressLoad {
  /** Also the number in its payloads. */
  readonly sender: number;
  readonly count: number;
  readonly sizeBytes: number;
  /** Requests on their way at once. */
  readonly window: number;
  readonly timeoutMs: number;
}

export interface StressReport {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly late: number;
  readonly corrupt: number;
  /** Nanoseconds of what came back since the last report. */
  readonly latencies: Float64Array;
  readonly done: boolean;
}

export class Stress {
  readonly #load: StressLoad;
  readonly #send: (datagrams: Uint8Array) => void;
  readonly #onTheWay: Map<number, number> = new Map();
  readonly #latencies: number[] = [];
  #next = 0;
  #received = 0;
  #lost = 0;
  #late = 0;
  #corrupt = 0;

  /** `send` takes datagrams one after the other, each of the load's size. */
  constructor(load: StressLoad, send: (datagrams: Uint8Array) => void) {
    this.#load = load;
    this.#send = send;
  }

  /** Makes as many requests as there is room for, some at a time: a batch is cheaper to send than each alone. */
  fill(): void {
    const { window, count, sizeBytes, sender } = this.#load;
    const wanted = Math.min(window - this.#onTheWay.size, count - this.#next);
    if (wanted <= 0 || (wanted < window / 4 && this.#next + wanted < count)) return;
    const bytes = new Uint8Array(wanted * sizeBytes);
    const now = performance.now();
    for (let i = 0; i < wanted; i++) {
      fillPayload(bytes.subarray(i * sizeBytes, (i + 1) * sizeBytes), sender, this.#next);
      this.#onTheWay.set(this.#next++, now);
    }
    this.#send(bytes);
  }

  /** A datagram came back: `length` bytes at `at`. */
  take(bytes: Uint8Array, at: number, length: number): void {
    const { sizeBytes, sender } = this.#load;
    const sequence = checkPayload(bytes, at, length, sender, sizeBytes);
    const sentMs = this.#onTheWay.get(sequence);
    if (sequence < 0) this.#corrupt++;
    else if (sentMs === undefined) this.#late++;
    else {
      this.#onTheWay.delete(sequence);
      this.#received++;
      this.#latencies.push((performance.now() - sentMs) * 1e6);
    }
  }

  /** Gives up what took too long, and says how far it is. */
  report(): StressReport {
    const before = performance.now() - this.#load.timeoutMs;
    for (const [sequence, sentMs] of this.#onTheWay) {
      if (sentMs > before) break;
      this.#onTheWay.delete(sequence);
      this.#lost++;
    }
    this.fill();
    return {
      sent: this.#next,
      received: this.#received,
      lost: this.#lost,
      late: this.#late,
      corrupt: this.#corrupt,
      latencies: Float64Array.from(this.#latencies.splice(0)),
      done: this.#next >= this.#load.count && this.#onTheWay.size === 0,
    };
  }
}

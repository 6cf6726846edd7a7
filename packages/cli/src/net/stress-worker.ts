// A thread of ring3 echo-stress: makes the datagrams of its requests and checks every byte of what comes back. The thread that
// has the device sends and receives for all of them; batches of datagrams go between the two.
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { checkPayload, fillPayload } from "./echo-payload.ts";

/** What a thread is told at its start. */
export interface StressOrder {
  readonly kind: "echo-stress";
  /** Also the number in its payloads. */
  readonly sender: number;
  readonly count: number;
  readonly sizeBytes: number;
  /** Requests on their way at once. */
  readonly window: number;
  readonly timeoutMs: number;
}

/** Datagrams one after the other, each of `sizeBytes`. */
interface StressBatch {
  readonly bytes: Uint8Array;
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

/** What a thread says: requests to send, or how far it is. */
export type StressMessage = { readonly batch: StressBatch } | { readonly report: StressReport };

/** Where this file lies, for the thread. */
export const STRESS_WORKER: URL = new URL(import.meta.url);

const LOOK_MS = 20;

class Stress {
  readonly #order: StressOrder;
  readonly #send: (message: StressMessage) => void;
  readonly #onTheWay: Map<number, number> = new Map();
  readonly #latencies: number[] = [];
  #next = 0;
  #received = 0;
  #lost = 0;
  #late = 0;
  #corrupt = 0;

  constructor(order: StressOrder, send: (message: StressMessage) => void) {
    this.#order = order;
    this.#send = send;
  }

  fill(): void {
    const { window, count, sizeBytes, sender } = this.#order;
    const wanted = Math.min(window - this.#onTheWay.size, count - this.#next);
    // Not for every one that came back: a message between threads costs more than a datagram.
    if (wanted <= 0 || (wanted < window / 4 && this.#next + wanted < count)) return;
    const bytes = new Uint8Array(wanted * sizeBytes);
    const now = performance.now();
    for (let i = 0; i < wanted; i++) {
      fillPayload(bytes.subarray(i * sizeBytes, (i + 1) * sizeBytes), sender, this.#next);
      this.#onTheWay.set(this.#next++, now);
    }
    this.#send({ batch: { bytes } });
  }

  take({ bytes }: StressBatch): void {
    const { sizeBytes, sender } = this.#order;
    const now = performance.now();
    for (let at = 0; at + sizeBytes <= bytes.length; at += sizeBytes) {
      const sequence = checkPayload(bytes, at, sizeBytes, sender, sizeBytes);
      const sentMs = this.#onTheWay.get(sequence);
      if (sequence < 0) this.#corrupt++;
      else if (sentMs === undefined) this.#late++;
      else {
        this.#onTheWay.delete(sequence);
        this.#received++;
        this.#latencies.push((now - sentMs) * 1e6);
      }
    }
    this.fill();
  }

  /** Gives up what took too long, and says how far it is; whether all is accounted for. */
  look(): boolean {
    const before = performance.now() - this.#order.timeoutMs;
    for (const [sequence, sentMs] of this.#onTheWay) {
      if (sentMs > before) break;
      this.#onTheWay.delete(sequence);
      this.#lost++;
    }
    this.fill();
    const done = this.#next >= this.#order.count && this.#onTheWay.size === 0;
    const latencies = Float64Array.from(this.#latencies.splice(0));
    const report = {
      sent: this.#next,
      received: this.#received,
      lost: this.#lost,
      late: this.#late,
      corrupt: this.#corrupt,
    };
    this.#send({ report: { ...report, latencies, done } });
    return done;
  }
}

const order = workerData as StressOrder | undefined;
if (!isMainThread && order?.kind === "echo-stress" && parentPort !== null) {
  const port = parentPort;
  const stress = new Stress(order, (message) => port.postMessage(message));
  port.on("message", (batch: StressBatch) => stress.take(batch));
  stress.fill();
  const timer = setInterval(() => {
    if (!stress.look()) return;
    clearInterval(timer);
    port.close();
  }, LOOK_MS);
}

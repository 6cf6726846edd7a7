// Bringing a controller back: one recovery at a time, a few attempts, harder from the second on, and an end for a
// controller that needs it again and again. Hard about it: the function may be lost or reset by somebody else while it is
// under way; what was done so far is void then, and nothing that is awaited will come.
import { isRing3Error, messageOf, Ring3Error } from "../../binary/error.ts";
import type { Clock } from "../clock.ts";

/** What a recovery does to the controller and its queues. */
export interface Recoverable {
  readonly address: string;
  readonly clock: Clock;
  /** Nothing posts any more until `restart` has succeeded. May be called again. */
  freeze(): void;
  /** Resets and enables the controller, makes the queues anew and goes on. */
  restart(): Promise<void>;
  /** Resets the function. */
  resetFunction(): Promise<void>;
  /** Has whatever `restart` waits for reject. */
  interrupt(error: Ring3Error): void;
  /** Whether there is no point in trying. */
  over(): boolean;
  recovered(reason: string): void;
  fail(error: Ring3Error): void;
}

const ATTEMPTS = 3;
/** Recoveries within {@link SPAN_MS} after which a controller is given up. */
const LIMIT = 5;
const SPAN_MS = 60_000;

export class Recovery {
  readonly #target: Recoverable;
  #running: Promise<void> | undefined;
  #timesMs: number[] = [];
  /** The attempt under way is void. */
  #void = false;
  #wake: () => void = () => {};

  constructor(target: Recoverable) {
    this.#target = target;
  }

  /** The recovery under way; it never rejects. */
  get running(): Promise<void> | undefined {
    return this.#running;
  }

  /** Starts a recovery, or joins the one under way. Resolves when the controller is back or given up. */
  start(reason: string): Promise<void> {
    if (this.#target.over()) return Promise.resolve();
    this.#running ??= this.#run(reason).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** As {@link start} for a function that lost its state just now: a recovery under way begins anew. */
  startAnew(reason: string): Promise<void> {
    if (this.#running === undefined) return this.start(reason);
    this.#count();
    this.#void = true;
    this.#target.interrupt(new Ring3Error("NVME_NOT_READY", `${this.#target.address} lost its state: ${reason}`));
    this.#wake();
    return this.#running;
  }

  /** Nobody need wait for the function any more. */
  stop(): void {
    this.#wake();
  }

  #count(): void {
    const nowMs = this.#target.clock.now();
    this.#timesMs = [...this.#timesMs.filter((at) => nowMs - at < SPAN_MS), nowMs];
  }

  async #run(reason: string): Promise<void> {
    const target = this.#target;
    this.#count();
    target.freeze();
    let last: unknown = `it needed ${LIMIT} resets within a minute`;
    for (let attempt = 0; attempt < ATTEMPTS && this.#timesMs.length <= LIMIT && !target.over(); ) {
      this.#void = false;
      let lost = false;
      try {
        if (attempt > 0) await target.resetFunction();
        await target.restart();
        if (!this.#isVoid()) {
          target.recovered(reason);
          return;
        }
      } catch (error) {
        last = error;
        lost = isRing3Error(error, "CONNECTION_LOST");
      }
      target.freeze();
      // A function that is away comes back, which is told, or it is gone for good.
      if (lost && !this.#isVoid() && !target.over()) await new Promise<void>((resolve) => (this.#wake = resolve));
      attempt = this.#isVoid() ? 0 : attempt + 1;
    }
    const why = messageOf(last);
    const sentence = `${target.address} could not be brought back (${reason}): ${why}`;
    target.fail(new Ring3Error("NVME_FAILED", sentence, { cause: last }));
  }

  #isVoid(): boolean {
    return this.#void;
  }
}

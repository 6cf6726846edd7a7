// Bringing a controller back: one recovery at a time, a few attempts, harder from the second on, and an end for a
// controller that needs it again and again.
import { Ring3Error } from "../../binary/error.ts";
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

  async #run(reason: string): Promise<void> {
    const target = this.#target;
    const nowMs = target.clock.now();
    this.#timesMs = [...this.#timesMs.filter((at) => nowMs - at < SPAN_MS), nowMs];
    target.freeze();
    let last: unknown = `it needed ${LIMIT} resets within a minute`;
    for (let attempt = 0; attempt < ATTEMPTS && this.#timesMs.length <= LIMIT && !target.over(); attempt++) {
      try {
        if (attempt > 0) await target.resetFunction();
        await target.restart();
        target.recovered(reason);
        return;
      } catch (error) {
        last = error;
        target.freeze();
      }
    }
    const why = last instanceof Error ? last.message : String(last);
    const sentence = `${target.address} could not be brought back (${reason}): ${why}`;
    target.fail(new Ring3Error("NVME_FAILED", sentence, { cause: last }));
  }
}

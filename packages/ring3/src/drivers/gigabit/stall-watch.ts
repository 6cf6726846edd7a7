// Whether a queue goes on: a device that is asked to send and reports nothing for a while, or leaves a descriptor out, has lost its
// place and will not find it again by itself.
import type { GigabitQueue } from "./queue.ts";

/** So many looks without progress are a stall. */
const STALLED_LOOKS = 10;

export class StallWatch {
  readonly #queue: GigabitQueue;
  #oldest = -1;
  #looks = 0;

  constructor(queue: GigabitQueue) {
    this.#queue = queue;
  }

  /** What is wrong, if it has been for a while. */
  look(linkUp: boolean): string | undefined {
    const queue = this.#queue;
    const sending = linkUp && queue.txPending() > 0;
    const leftOut = queue.stuck;
    this.#looks = leftOut || (sending && queue.oldest === this.#oldest) ? this.#looks + 1 : 0;
    this.#oldest = sending ? queue.oldest : -1;
    if (this.#looks < STALLED_LOOKS) return undefined;
    this.#looks = 0;
    return leftOut ? `queue ${queue.index} left a descriptor out` : `queue ${queue.index} does not send`;
  }
}

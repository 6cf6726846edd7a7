// A command as the driver's parts give it to a queue pair, and those that wait there for a slot.
import type { Ring3Error } from "../../binary/error.ts";
import type { Settlement } from "./command-slots.ts";
import type { DataSegment } from "./data-pointer.ts";

/** A command as the driver's parts give it to a queue pair; what is left out is 0. */
export interface Command {
  /** For messages: `read of 8 blocks at 0`. */
  readonly what: string;
  readonly opcode: number;
  readonly nsid?: number;
  readonly cdw10?: number;
  readonly cdw11?: number;
  readonly cdw12?: number;
  readonly cdw13?: number;
  readonly cdw14?: number;
  readonly cdw15?: number;
  /** Where the data lies; device addresses. */
  readonly data?: readonly DataSegment[] | undefined;
  /** Doing it twice has the effect of doing it once: it is posted again after an abort or a controller reset. */
  readonly repeatable: boolean;
  /** Overrides the queue's; `Infinity` for commands that complete when something happens (asynchronous events). */
  readonly timeoutMs?: number;
}

/** A command without a slot. */
export interface Waiting {
  readonly command: Command;
  readonly settlement: Settlement;
  readonly repeats: number;
}

/** First in, first out; each command is moved once on average. */
export class WaitingCommands {
  #list: Waiting[] = [];
  #from = 0;

  get count(): number {
    return this.#list.length - this.#from;
  }

  push(waiting: Waiting): void {
    this.#list.push(waiting);
  }

  /** Gives each in turn to `take` until that refuses one. */
  drain(take: (waiting: Waiting) => boolean): void {
    while (this.#from < this.#list.length) {
      if (!take(this.#list[this.#from] as Waiting)) break;
      this.#from++;
    }
    // What went is cut off once it is half of the list.
    if (this.#from > 0 && 2 * this.#from >= this.#list.length) {
      this.#list.splice(0, this.#from);
      this.#from = 0;
    }
  }

  rejectAll(error: Ring3Error): void {
    const waiting = this.#list.slice(this.#from);
    this.#list = [];
    this.#from = 0;
    for (const { settlement } of waiting) settlement.reject(error);
  }
}

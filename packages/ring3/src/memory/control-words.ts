// The arena's first pages: one word per window that every thread compares before an access, so that a window can be
// suspended or revoked everywhere with one store. A word carries a generation, so a stale window never matches again.
import { Ring3Error } from "../binary/error.ts";

/** Bytes at the start of an arena that are never handed out; offset 0 is therefore never anybody's memory. */
export const HEADER_BYTES: number = 16384;

export type WindowState = "live" | "suspended" | "revoked";

const MAGIC = 0x72696e33;
const ATTACHMENTS = 1;
const FIRST = 16;
const SUSPENDED = 1;
/** A generation is a multiple of 4: bit 0 says suspended, bit 1 is free; words are retired before they wrap. */
const STEP = 4;
const LAST_GENERATION = 0x7fff_fff0;

/** The control words of an arena, as one thread sees them. */
export class ControlWords {
  /** The words themselves; compare `words[index]` with a window's generation. */
  readonly words: Int32Array;
  readonly #recycled: number[] = [];
  #next = FIRST;

  constructor(words: Int32Array, attached: boolean) {
    this.words = words;
    if (!attached) words[0] = MAGIC;
    else {
      if (words[0] !== MAGIC) {
        throw new Ring3Error("ARENA_HANDLE_INVALID", "the handle's memory is not an arena of this version of ring3");
      }
      Atomics.add(words, ATTACHMENTS, 1);
    }
  }

  /** How many threads are attached. */
  get attachments(): number {
    return Atomics.load(this.words, ATTACHMENTS);
  }

  detach(): void {
    Atomics.sub(this.words, ATTACHMENTS, 1);
  }

  /** Takes a word for a live window: its index, and the value that it has while the window lives. */
  open(): { readonly index: number; readonly live: number } {
    const index = this.#recycled.pop() ?? (this.#next < this.words.length ? this.#next++ : undefined);
    if (index === undefined) {
      throw new Ring3Error("WINDOWS_FULL", `an arena holds at most ${this.words.length - FIRST} windows; dispose some`);
    }
    const live = Atomics.load(this.words, index) + STEP;
    Atomics.store(this.words, index, live);
    return { index, live };
  }

  /** Moves a live or suspended window between the two. */
  set(index: number, live: number, state: "live" | "suspended"): void {
    Atomics.store(this.words, index, state === "live" ? live : live + SUSPENDED);
  }

  /** Ends a window for good. */
  close(index: number, live: number): void {
    Atomics.store(this.words, index, live + STEP);
    if (live < LAST_GENERATION) this.#recycled.push(index);
  }

  /** What a window with this word and generation is now. */
  state(index: number, live: number): WindowState {
    const word = Atomics.load(this.words, index);
    return word === live ? "live" : word === live + SUSPENDED ? "suspended" : "revoked";
  }
}

// Frames that one thread hands to another: a ring of copies that any thread puts into and one takes from, without a lock. It is
// Dmitry Vyukov's bounded queue (1024cores.net): a slot's sequence number says whose turn it is.
//
//        head (the taker's)        tail (claimed by whoever puts)
//          v                         v
//   [ ][ ][5][6][7][8: being filled][ ][ ]      sequence of slot i: p where it is free for position p, p + 1 where p lies in it

const Word = { TAIL: 0, HEAD: 16, BELL: 32, SLOTS: 48 } as const;
const SlotWord = { SEQUENCE: 0, LENGTH: 1, FLAGS: 2, OFFLOAD: 3, DATA: 4 } as const;

/** A frame that lies in a ring. */
export interface HandedFrame {
  length: number;
  flags: number;
  offload: number;
}

/** Words that a ring takes. */
export function handOverWords(slots: number, frameBytes: number): number {
  return Word.SLOTS + slots * slotWords(frameBytes);
}

function slotWords(frameBytes: number): number {
  return SlotWord.DATA + Math.ceil(frameBytes / 4);
}

export class HandOverRing {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;
  readonly #slots: number;
  readonly #slotWords: number;
  readonly #frameBytes: number;

  /** Over {@link handOverWords} of `memory` from word `at` on; `slots` is a power of two. */
  constructor(memory: SharedArrayBuffer, at: number, slots: number, frameBytes: number) {
    const count = handOverWords(slots, frameBytes);
    this.#words = new Int32Array(memory, at * 4, count);
    this.#bytes = new Uint8Array(memory, at * 4, count * 4);
    this.#slots = slots;
    this.#slotWords = slotWords(frameBytes);
    this.#frameBytes = frameBytes;
  }

  /** For whoever makes the ring, before another thread has it. */
  clear(): void {
    for (let i = 0; i < this.#slots; i++) this.#words[this.#slot(i) + SlotWord.SEQUENCE] = i;
  }

  #slot(position: number): number {
    return Word.SLOTS + (position & (this.#slots - 1)) * this.#slotWords;
  }

  /** Puts a copy of a frame in; `false` where the ring is full, or the frame larger than a slot. */
  put(bytes: Uint8Array, at: number, length: number, flags: number, offload: number): boolean {
    if (length > this.#frameBytes) return false;
    const words = this.#words;
    let position = Atomics.load(words, Word.TAIL);
    let slot = this.#slot(position);
    for (;;) {
      // Positions wrap: what counts is which comes first.
      const turn = (Atomics.load(words, slot + SlotWord.SEQUENCE) - position) | 0;
      if (turn < 0) return false;
      const seen =
        turn > 0
          ? Atomics.load(words, Word.TAIL)
          : Atomics.compareExchange(words, Word.TAIL, position, (position + 1) | 0);
      if (turn === 0 && seen === position) break;
      position = seen;
      slot = this.#slot(position);
    }
    words[slot + SlotWord.LENGTH] = length;
    words[slot + SlotWord.FLAGS] = flags;
    words[slot + SlotWord.OFFLOAD] = offload;
    const to = (slot + SlotWord.DATA) * 4;
    for (let i = 0; i < length; i++) this.#bytes[to + i] = bytes[at + i] as number;
    Atomics.store(words, slot + SlotWord.SEQUENCE, (position + 1) | 0);
    this.ring();
    return true;
  }

  /** For the taker: whether a frame lies there. */
  get ready(): boolean {
    const head = this.#words[Word.HEAD] as number;
    return Atomics.load(this.#words, this.#slot(head) + SlotWord.SEQUENCE) === ((head + 1) | 0);
  }

  /** For the taker: takes a frame out to `at` of `bytes`; `false` where none lies there. */
  take(bytes: Uint8Array, at: number, frame: HandedFrame): boolean {
    if (!this.ready) return false;
    const words = this.#words;
    const head = words[Word.HEAD] as number;
    const slot = this.#slot(head);
    frame.length = words[slot + SlotWord.LENGTH] as number;
    frame.flags = words[slot + SlotWord.FLAGS] as number;
    frame.offload = words[slot + SlotWord.OFFLOAD] as number;
    const from = (slot + SlotWord.DATA) * 4;
    for (let i = 0; i < frame.length; i++) bytes[at + i] = this.#bytes[from + i] as number;
    words[Word.HEAD] = (head + 1) | 0;
    Atomics.store(words, slot + SlotWord.SEQUENCE, (head + this.#slots) | 0);
    return true;
  }

  /** How often something was put in, for {@link rung}. */
  get rings(): number {
    return Atomics.load(this.#words, Word.BELL);
  }

  /** Resolves once {@link rings} is not `seen`. */
  async rung(seen: number): Promise<void> {
    const { async, value } = Atomics.waitAsync(this.#words, Word.BELL, seen);
    if (async) await value;
  }

  /** Wakes whoever waits in {@link rung}. */
  ring(): void {
    Atomics.add(this.#words, Word.BELL, 1);
    Atomics.notify(this.#words, Word.BELL);
  }
}

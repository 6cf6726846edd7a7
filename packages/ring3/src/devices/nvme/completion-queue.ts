// A completion queue as the controller sees it: NVMe base 2.0, section 3.3.1.2. The host learns of an entry by its phase
// tag, so the word with the tag is written last.
import type { GuestMemory, MemoryMap } from "../../virtual/guest-memory.ts";
import { wordsOf } from "./submission-queue.ts";

const ENTRY_BYTES = 16;
const ENTRY_WORDS = 4;
const PHASE = 0x1_0000;

/** A completion that found the queue full. */
interface Waiting {
  readonly dw0: number;
  readonly dw2: number;
  readonly dw3: number;
}

export class CompletionQueue {
  readonly id: number;
  readonly iova: number;
  readonly entries: number;
  /** Interrupt vector; `undefined` where interrupts are off for this queue. */
  readonly vector: number | undefined;
  /** What the host has taken, as last told. */
  head = 0;
  tail = 0;
  phase: number = PHASE;
  /** Submission queues that complete here. */
  users = 0;
  /** Entries were written since the host was last interrupted. */
  unsignalled = false;
  /** The last doorbell value that made no sense. */
  refused: number | undefined;
  readonly waiting: Waiting[] = [];
  readonly #memory: GuestMemory;
  readonly #entry: Uint32Array = new Uint32Array(ENTRY_WORDS);
  #words: Uint32Array | undefined;
  #arenaOffset: number | undefined;
  #map: MemoryMap | undefined;

  constructor(memory: GuestMemory, id: number, iova: number, entries: number, vector: number | undefined) {
    this.#memory = memory;
    this.id = id;
    this.iova = iova;
    this.entries = entries;
    this.vector = vector;
  }

  get full(): boolean {
    const next = this.tail + 1;
    return (next === this.entries ? 0 : next) === this.head;
  }

  /** Entries that the host has not taken. */
  get used(): number {
    return this.tail >= this.head ? this.tail - this.head : this.tail - this.head + this.entries;
  }

  /**
   * Writes an entry, or keeps it until there is room and memory is in reach. `dw3` has no phase tag yet. Throws
   * `DMA_FAULT`.
   */
  post(dw0: number, dw2: number, dw3: number): void {
    if (this.full || this.waiting.length > 0 || !this.#memory.busMaster) this.waiting.push({ dw0, dw2, dw3 });
    else this.#write(dw0, dw2, dw3);
  }

  /** Writes what waited, as far as there is room. Throws `DMA_FAULT`. */
  drain(): void {
    while (this.waiting.length > 0 && !this.full && this.#memory.busMaster) {
      const { dw0, dw2, dw3 } = this.waiting.shift() as Waiting;
      this.#write(dw0, dw2, dw3);
    }
  }

  /** Where the entries lie in the arena, a multiple of 8; `undefined` where they do not. */
  get arenaOffset(): number | undefined {
    if (this.#words === undefined) this.#find();
    return this.#arenaOffset;
  }

  /** Lets go of memory that is about to be unmapped. */
  forget(map: MemoryMap): void {
    if (this.#map !== map) return;
    this.#map = undefined;
    this.#words = undefined;
    this.#arenaOffset = undefined;
  }

  #write(dw0: number, dw2: number, dw3: number): void {
    const words = this.#words ?? this.#find();
    const { tail, phase } = this;
    // The place is taken first: the messages of a slow write may let in what writes the next entry.
    if (tail + 1 === this.entries) {
      this.tail = 0;
      this.phase = phase ^ PHASE;
    } else this.tail = tail + 1;
    if (words === undefined) this.#writeSlowly(tail, dw0, dw2, dw3 | phase);
    else {
      const at = tail * ENTRY_WORDS;
      words[at] = dw0;
      words[at + 1] = 0;
      words[at + 2] = dw2;
      // A sequentially consistent store: on arm64 plain ones could pass each other.
      Atomics.store(words, at + 3, dw3 | phase);
      this.#memory.written(this.iova + tail * ENTRY_BYTES, ENTRY_BYTES);
    }
    this.unsignalled = true;
  }

  #find(): Uint32Array | undefined {
    const found = wordsOf(this.#memory, this.iova, this.entries * ENTRY_WORDS, "write");
    this.#map = found?.map;
    this.#words = found?.words;
    this.#arenaOffset = found?.arenaOffset;
    return this.#words;
  }

  #writeSlowly(tail: number, dw0: number, dw2: number, dw3: number): void {
    const entry = this.#entry;
    entry[0] = dw0;
    entry[2] = dw2;
    entry[3] = dw3;
    this.#memory.write(this.iova + tail * ENTRY_BYTES, new Uint8Array(entry.buffer));
  }
}

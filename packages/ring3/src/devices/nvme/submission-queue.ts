// A submission queue as the controller sees it: NVMe base 2.0, section 3.3.1. The host writes entries and moves the tail;
// here they are copied out, once each, because the host can change them at any time.
import type { GuestMemory, MemoryMap } from "../../virtual/guest-memory.ts";
import type { CompletionQueue } from "./completion-queue.ts";

const ENTRY_BYTES = 64;
const ENTRY_WORDS = 16;

export class SubmissionQueue {
  readonly id: number;
  readonly iova: number;
  readonly entries: number;
  readonly completion: CompletionQueue;
  /** The next entry to fetch; this is what completions report as SQHD. */
  head = 0;
  /** As last told by the host. */
  tail = 0;
  /** Commands fetched and not completed yet. */
  inFlight = 0;
  /** The identifier of the command that deletes the queue: nothing more is fetched. */
  deletedBy: number | undefined;
  /** Called once, when the last command in flight has been completed. */
  onIdle: (() => void) | undefined;
  /** The last doorbell value that made no sense. */
  refused: number | undefined;
  readonly #memory: GuestMemory;
  #words: Uint32Array | undefined;
  #arenaOffset: number | undefined;
  #map: MemoryMap | undefined;

  constructor(memory: GuestMemory, id: number, iova: number, entries: number, completion: CompletionQueue) {
    this.#memory = memory;
    this.id = id;
    this.iova = iova;
    this.entries = entries;
    this.completion = completion;
  }

  /** Copies the entry at the head to `target` and moves the head. Throws `DMA_FAULT`. */
  fetch(target: Uint32Array): void {
    const words = this.#words ?? this.#find();
    const { head } = this;
    if (words === undefined) this.#fetchSlowly(target);
    else {
      const at = head * ENTRY_WORDS;
      for (let i = 0; i < ENTRY_WORDS; i++) target[i] = words[at + i] as number;
    }
    this.head = head + 1 === this.entries ? 0 : head + 1;
  }

  /** Entries that wait. */
  get waiting(): number {
    return this.tail >= this.head ? this.tail - this.head : this.tail - this.head + this.entries;
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

  #find(): Uint32Array | undefined {
    const found = wordsOf(this.#memory, this.iova, this.entries * ENTRY_WORDS, "read");
    this.#map = found?.map;
    this.#words = found?.words;
    this.#arenaOffset = found?.arenaOffset;
    return this.#words;
  }

  #fetchSlowly(target: Uint32Array): void {
    const bytes = new Uint8Array(target.buffer, target.byteOffset, ENTRY_BYTES);
    this.#memory.read(this.iova + this.head * ENTRY_BYTES, bytes);
  }
}

/** Words of guest memory as an array, and where they are. */
export interface WordsInReach {
  readonly map: MemoryMap;
  readonly words: Uint32Array;
  /** Their place in the arena, if they lie there aligned to 8. */
  readonly arenaOffset: number | undefined;
}

/** `count` words of guest memory as an array, where they lie in one map of this process, aligned. */
export function wordsOf(
  memory: GuestMemory,
  iova: number,
  count: number,
  access: "read" | "write",
): WordsInReach | undefined {
  const map = memory.find(iova, count * 4, access);
  const bytes = map?.backing.bytes;
  if (map === undefined || bytes === undefined) return undefined;
  const inMap = iova - map.iova;
  const at = bytes.byteOffset + inMap;
  if (at % 4 !== 0) return undefined;
  const place = map.arenaOffset === undefined ? undefined : map.arenaOffset + inMap;
  const arenaOffset = place !== undefined && place % 8 === 0 ? place : undefined;
  return { map, words: new Uint32Array(bytes.buffer, at, count), arenaOffset };
}

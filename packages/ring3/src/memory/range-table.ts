// Ranges that do not overlap, sorted by address: a client may map 65,535 of them, in any order, and every DMA access looks
// one up. A list of short sorted blocks: finding is two binary searches over plain numbers, inserting moves one block.

/** Entries of a block before it is split. */
const FULL = 256;

class Block<T> {
  starts: Float64Array;
  ends: Float64Array;
  readonly entries: T[] = [];

  constructor(capacity: number) {
    this.starts = new Float64Array(capacity);
    this.ends = new Float64Array(capacity);
  }

  insert(at: number, start: number, end: number, entry: T): void {
    const { length } = this.entries;
    if (length === this.starts.length) {
      this.starts = grown(this.starts);
      this.ends = grown(this.ends);
    }
    this.starts.copyWithin(at + 1, at, length);
    this.ends.copyWithin(at + 1, at, length);
    this.starts[at] = start;
    this.ends[at] = end;
    if (at === length) this.entries.push(entry);
    else this.entries.splice(at, 0, entry);
  }

  remove(at: number, count: number): T[] {
    this.starts.copyWithin(at, at + count, this.entries.length);
    this.ends.copyWithin(at, at + count, this.entries.length);
    return this.entries.splice(at, count);
  }

  /** Removes those of the entries from `from` to `to` that `which` names. */
  removeSome(from: number, to: number, which: (entry: T) => boolean): T[] {
    const removed: T[] = [];
    let kept = from;
    for (let at = from; at < to; at++) {
      const entry = this.entries[at] as T;
      if (which(entry)) removed.push(entry);
      else {
        this.starts[kept] = this.starts[at] as number;
        this.ends[kept] = this.ends[at] as number;
        this.entries[kept++] = entry;
      }
    }
    this.remove(kept, to - kept);
    return removed;
  }

  /** Takes the upper part away. Blocks that grow at their end, as ascending maps do, stay nearly full. */
  split(at: number): Block<T> {
    const upper = new Block<T>(FULL);
    upper.starts.set(this.starts.subarray(at, this.entries.length));
    upper.ends.set(this.ends.subarray(at, this.entries.length));
    for (const entry of this.entries.splice(at)) upper.entries.push(entry);
    return upper;
  }
}

/** What lies at the sorted ranges. Addresses are exact numbers: ends are at most 2^53. */
export class RangeTable<T> {
  #blocks: Block<T>[] = [];
  /** First address of each block. */
  #lows: Float64Array = new Float64Array(4);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The entry that holds `address`. */
  at(address: number): T | undefined {
    const block = this.#blocks[this.#blockAt(address)];
    if (block === undefined) return undefined;
    const index = lastAtOrBelow(block.starts, block.entries.length, address);
    return index >= 0 && address < (block.ends[index] as number) ? block.entries[index] : undefined;
  }

  /** Adds an entry at `size` bytes from `start` on; gives the one that overlaps it, and adds nothing, where there is one. */
  insert(start: number, size: number, entry: T): T | undefined {
    const end = start + size;
    const at = this.#blockAt(start);
    const block = this.#blocks[at];
    if (block === undefined) {
      // Below everything, or the first of all.
      const first = this.#blocks[0];
      if (first === undefined) {
        const fresh = new Block<T>(4);
        fresh.insert(0, start, end, entry);
        this.#blocks.push(fresh);
      } else {
        if ((first.starts[0] as number) < end) return first.entries[0];
        first.insert(0, start, end, entry);
      }
      this.#inserted(0);
      return undefined;
    }
    const { length } = block.entries;
    const index = lastAtOrBelow(block.starts, length, start);
    if ((block.ends[index] as number) > start) return block.entries[index];
    const behind = index + 1 < length ? block.starts[index + 1] : this.#blocks[at + 1]?.starts[0];
    if (behind !== undefined && behind < end) return block.entries[index + 1] ?? this.#blocks[at + 1]?.entries[0];
    block.insert(index + 1, start, end, entry);
    this.#inserted(at);
    return undefined;
  }

  /** Removes all entries that start from `start` on and before `end`, or those of them that `which` names, ascending. */
  removeBetween(start: number, end: number, which?: (entry: T) => boolean): T[] {
    const removed: T[] = [];
    let at = Math.max(this.#blockAt(start), 0);
    while (at < this.#blocks.length) {
      const block = this.#blocks[at] as Block<T>;
      const { length } = block.entries;
      const from = firstFrom(block.starts, length, start);
      const to = firstFrom(block.starts, length, end);
      const gone = which === undefined ? block.remove(from, to - from) : block.removeSome(from, to, which);
      for (const entry of gone) removed.push(entry);
      if (block.entries.length === 0) this.#dropBlock(at);
      else {
        this.#lows[at] = block.starts[0] as number;
        at++;
      }
      if (to < length) break;
    }
    this.#count -= removed.length;
    return removed;
  }

  clear(): T[] {
    const all = Array.from(this);
    this.#blocks = [];
    this.#count = 0;
    return all;
  }

  *[Symbol.iterator](): Generator<T> {
    for (const { entries } of this.#blocks) yield* entries;
  }

  /** Index of the last block that begins at or below `address`; -1 where there is none. */
  #blockAt(address: number): number {
    return lastAtOrBelow(this.#lows, this.#blocks.length, address);
  }

  #inserted(at: number): void {
    this.#count++;
    const block = this.#blocks[at] as Block<T>;
    if (this.#lows.length <= at) this.#lows = grown(this.#lows);
    this.#lows[at] = block.starts[0] as number;
    if (block.entries.length < FULL) return;
    const atTheEnd = at === this.#blocks.length - 1;
    const upper = block.split(atTheEnd ? FULL - 16 : FULL / 2);
    if (this.#lows.length <= this.#blocks.length) this.#lows = grown(this.#lows);
    this.#lows.copyWithin(at + 2, at + 1, this.#blocks.length);
    this.#lows[at + 1] = upper.starts[0] as number;
    this.#blocks.splice(at + 1, 0, upper);
  }

  #dropBlock(at: number): void {
    this.#lows.copyWithin(at, at + 1, this.#blocks.length);
    this.#blocks.splice(at, 1);
  }
}

function lastAtOrBelow(values: Float64Array, length: number, address: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function firstFrom(values: Float64Array, length: number, address: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) < address) low = middle + 1;
    else high = middle;
  }
  return low;
}

function grown(values: Float64Array): Float64Array {
  const larger = new Float64Array(Math.max(values.length * 2, 4));
  larger.set(values);
  return larger;
}

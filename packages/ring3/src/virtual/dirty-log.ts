// Which pages a device wrote, while somebody wants to know (live migration). A bit per page in small pieces that exist only
// where something was written, so that a log over all of 2^53 costs nothing until then. Hard about it: memory is bounded
// whatever a client maps; beyond the bound the log says less precisely what is dirty, never too little.
import { Ring3Error } from "../binary/error.ts";
import type { ByteRange } from "../pci/function.ts";

/** Pages of a piece: 512 bytes of bits. */
const PIECE_PAGES = 4096;
const END = 2 ** 53;

export interface DirtyLogOptions {
  /** Bytes of bits at most; 32 MiB by default, which is 1 TiB of memory in pages of 4 KiB. */
  readonly maximumBytes?: number;
}

export class DirtyLog {
  /** Whether writes are recorded now. Emitted loops look at it to know whether to report what they wrote. */
  active = false;
  readonly #maximumPieces: number;
  readonly #pieces = new Map<number, Uint8Array>();
  #pageSize = 4096;
  /** What is watched: starts and ends, ascending and apart. */
  #starts: number[] = [];
  #ends: number[] = [];
  /** The bound was reached: everything watched counts as dirty. */
  #overflowed = false;
  #lastKey = -1;
  #lastPiece: Uint8Array | undefined;

  constructor(options: DirtyLogOptions = {}) {
    this.#maximumPieces = Math.max(1, Math.floor((options.maximumBytes ?? 2 ** 25) / (PIECE_PAGES / 8)));
  }

  /** The granularity in bytes; 4096 while nothing was started. */
  get pageSize(): number {
    return this.#pageSize;
  }

  /** Whether the log lost precision: all that is watched is reported dirty until it is started again. */
  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** Bytes of bits held at present. */
  get bytes(): number {
    return (this.#pieces.size * PIECE_PAGES) / 8;
  }

  /**
   * Begins to record, forgetting what was there. `pageSize` is a power of two from 4096 on; `ranges` in any order, apart;
   * none means everything. Throws `DIRTY_LOG_INVALID`.
   */
  start(pageSize = 4096, ranges: readonly ByteRange[] = []): void {
    checkPageSize(pageSize);
    const sorted = Array.from(ranges).sort((a, b) => a.offset - b.offset);
    let end = 0;
    for (const { offset, size } of sorted) {
      checkRange(offset, size);
      if (offset < end) throw invalid(`the ranges to watch overlap at ${hex(offset)}`);
      end = offset + size;
    }
    this.stop();
    this.#pageSize = pageSize;
    this.#starts = sorted.length === 0 ? [0] : sorted.map(({ offset }) => offset);
    this.#ends = sorted.length === 0 ? [END] : sorted.map(({ offset, size }) => offset + size);
    this.active = true;
  }

  /** Stops recording and forgets everything. */
  stop(): void {
    this.active = false;
    this.#pieces.clear();
    this.#starts = [];
    this.#ends = [];
    this.#overflowed = false;
    this.#lastKey = -1;
    this.#lastPiece = undefined;
  }

  /** Records a write. Nothing happens while the log is not active. */
  mark(iova: number, size: number): void {
    if (!this.active || this.#overflowed || !(size > 0)) return;
    const end = iova + size;
    for (let i = this.#firstEndingAfter(iova); i < this.#starts.length; i++) {
      const start = Math.max(iova, this.#starts[i] as number);
      const stop = Math.min(end, this.#ends[i] as number);
      if (start >= stop) return;
      this.#set(Math.floor(start / this.#pageSize), Math.floor((stop - 1) / this.#pageSize));
    }
  }

  /**
   * Writes to `bitmap` which pages of `length` bytes from `iova` on are dirty: bit 0 of byte 0 is the first, in pages of
   * `pageSize`, whatever that of the log is. Pages wholly inside are clean afterwards. Throws `DIRTY_LOG_INVALID` where
   * the log is off, the range is none, or the bitmap too short.
   */
  report(iova: number, length: number, pageSize: number, bitmap: Uint8Array): void {
    if (!this.active) throw invalid("nothing is recorded: start the log first");
    checkPageSize(pageSize);
    checkRange(iova, length);
    if (iova % pageSize !== 0) throw invalid(`${hex(iova)} is no multiple of the page size ${pageSize}`);
    const pages = Math.ceil(length / pageSize);
    if (bitmap.length < Math.ceil(pages / 8)) {
      throw invalid(`${pages} pages need ${Math.ceil(pages / 8)} bytes of bitmap, not ${bitmap.length}`);
    }
    bitmap.fill(0);
    if (this.#overflowed) this.#reportWatched(iova, iova + length, pageSize, bitmap);
    else this.#reportPieces(iova, iova + length, pageSize, bitmap);
  }

  #reportWatched(first: number, end: number, pageSize: number, bitmap: Uint8Array): void {
    for (let i = this.#firstEndingAfter(first); i < this.#starts.length; i++) {
      const start = Math.max(first, this.#starts[i] as number);
      const stop = Math.min(end, this.#ends[i] as number);
      if (start >= stop) return;
      setBits(bitmap, Math.floor((start - first) / pageSize), Math.floor((stop - 1 - first) / pageSize));
    }
  }

  #reportPieces(first: number, end: number, pageSize: number, bitmap: Uint8Array): void {
    const size = this.#pageSize;
    const firstPage = Math.floor(first / size);
    const lastPage = Math.floor((end - 1) / size);
    // Pages that the range covers only in part stay dirty: the rest of them was not reported.
    const clearFrom = Math.ceil(first / size);
    const clearTo = Math.floor(end / size) - 1;
    const visit = (key: number, piece: Uint8Array): void => {
      const base = key * PIECE_PAGES;
      const from = Math.max(firstPage - base, 0);
      const to = Math.min(lastPage - base, PIECE_PAGES - 1);
      for (let at = from; at <= to; at++) {
        const byte = piece[at >>> 3] as number;
        if (byte === 0) at |= 7;
        else if ((byte & (1 << (at & 7))) !== 0) {
          const page = base + at;
          const start = Math.max(page * size, first);
          const stop = Math.min((page + 1) * size, end);
          setBits(bitmap, Math.floor((start - first) / pageSize), Math.floor((stop - 1 - first) / pageSize));
          if (page >= clearFrom && page <= clearTo) piece[at >>> 3] = byte & ~(1 << (at & 7));
        }
      }
      if (piece.every((byte) => byte === 0)) this.#drop(key);
    };
    const firstKey = Math.floor(firstPage / PIECE_PAGES);
    const lastKey = Math.floor(lastPage / PIECE_PAGES);
    // Whichever is less: the pieces that there are, or those that the range could have.
    if (lastKey - firstKey < this.#pieces.size) {
      for (let key = firstKey; key <= lastKey; key++) {
        const piece = this.#pieces.get(key);
        if (piece !== undefined) visit(key, piece);
      }
    } else {
      for (const [key, piece] of Array.from(this.#pieces)) if (key >= firstKey && key <= lastKey) visit(key, piece);
    }
  }

  #set(firstPage: number, lastPage: number): void {
    for (let page = firstPage; page <= lastPage; ) {
      const key = Math.floor(page / PIECE_PAGES);
      const base = key * PIECE_PAGES;
      const last = Math.min(lastPage, base + PIECE_PAGES - 1);
      const piece = this.#piece(key);
      if (piece === undefined) return;
      setBits(piece, page - base, last - base);
      page = last + 1;
    }
  }

  #piece(key: number): Uint8Array | undefined {
    if (key === this.#lastKey) return this.#lastPiece;
    let piece = this.#pieces.get(key);
    if (piece === undefined) {
      if (this.#pieces.size >= this.#maximumPieces) {
        this.#overflowed = true;
        this.#pieces.clear();
        this.#lastKey = -1;
        this.#lastPiece = undefined;
        return undefined;
      }
      piece = new Uint8Array(PIECE_PAGES / 8);
      this.#pieces.set(key, piece);
    }
    this.#lastKey = key;
    this.#lastPiece = piece;
    return piece;
  }

  #drop(key: number): void {
    this.#pieces.delete(key);
    if (key === this.#lastKey) {
      this.#lastKey = -1;
      this.#lastPiece = undefined;
    }
  }

  #firstEndingAfter(iova: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] as number) > iova) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Sets the bits from `first` to `last`, both included. */
function setBits(bitmap: Uint8Array, first: number, last: number): void {
  const firstByte = Math.floor(first / 8);
  const lastByte = Math.floor(last / 8);
  const head = 0xff << (first % 8);
  const tail = 0xff >>> (7 - (last % 8));
  if (firstByte === lastByte) {
    bitmap[firstByte] = (bitmap[firstByte] as number) | (head & tail);
    return;
  }
  bitmap[firstByte] = (bitmap[firstByte] as number) | head;
  bitmap.fill(0xff, firstByte + 1, lastByte);
  bitmap[lastByte] = (bitmap[lastByte] as number) | tail;
}

function checkPageSize(pageSize: number): void {
  if (!(pageSize >= 4096 && pageSize <= 2 ** 52 && 2 ** Math.round(Math.log2(pageSize)) === pageSize)) {
    throw invalid(`a page size is a power of two from 4096 on, not ${pageSize}`);
  }
}

function checkRange(iova: number, size: number): void {
  if (!(Number.isSafeInteger(iova) && Number.isSafeInteger(size) && iova >= 0 && size > 0 && iova + size <= END)) {
    throw invalid(`${size} bytes at ${iova} are no range below 2^53`);
  }
}

function invalid(why: string): Ring3Error {
  return new Ring3Error("DIRTY_LOG_INVALID", why);
}

function hex(address: number): string {
  return `0x${address.toString(16)}`;
}

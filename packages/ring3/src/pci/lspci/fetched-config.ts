// Config space as lspci sees it: pieces are fetched before they are looked at, and a piece that cannot be fetched as a whole
// is not decoded. Looking at a byte that nobody fetched is a slip that the real one ends with; so does this one, since what
// it prints for broken input is to be the same.
import { Ring3Error } from "../../binary/error.ts";

/** A byte was decoded that is not there: the message is lspci's. */
export class UnfetchedByteError extends Ring3Error {
  constructor(offset: number) {
    super(
      "CONFIG_UNREADABLE",
      `Internal bug: Accessing non-read configuration byte at position ${offset.toString(16)}`,
    );
  }
}

/** The readable bytes of a function's config space, and which of them have been fetched. */
export class FetchedConfig {
  readonly #bytes: Uint8Array;
  /** Starts and ends of what has been fetched, in no order; none touches another. */
  readonly #pieces: number[] = [];
  /** The piece that was looked at last. */
  #start = 0;
  #end = 0;
  /** How much of the standard header could be had: 0, 64 or (CardBus) 128. */
  readonly headerSize: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.headerSize = bytes.length < 64 ? 0 : 64;
    if (this.headerSize === 0) return;
    this.#add(0, 64);
    if ((this.byte(0x0e) & 0x7f) === 2 && this.fetch(64, 64)) this.headerSize = 128;
  }

  get isReadable(): boolean {
    return this.headerSize !== 0;
  }

  /** Makes `size` bytes available; false where they cannot all be read. */
  fetch(offset: number, size: number): boolean {
    let from = offset;
    let to = offset + size;
    while (from < to && this.#holds(from, 1)) from = this.#end;
    if (from >= to) return true;
    while (this.#holds(to - 1, 1)) to = this.#start;
    if (to > this.#bytes.length) return false;
    this.#add(from, to);
    return true;
  }

  /** How much can be read. */
  get size(): number {
    return this.#bytes.length;
  }

  /** Like {@link peek}, of any width. */
  peekAt(offset: number, width: 1 | 2 | 4): number {
    if (width === 1) return this.#bytes[offset] ?? 0xff;
    if (width === 2) return this.peek(offset);
    return (this.peek(offset) | (this.peek(offset + 2) << 16)) >>> 0;
  }

  /** 16 bits that need not have been fetched: ones where there are none. */
  peek(offset: number): number {
    if (offset + 2 > this.#bytes.length) return 0xffff;
    return (this.#bytes[offset] ?? 0) | ((this.#bytes[offset + 1] ?? 0) << 8);
  }

  byte(offset: number): number {
    this.#check(offset, 1);
    return this.#bytes[offset] ?? 0;
  }

  word(offset: number): number {
    this.#check(offset, 2);
    const bytes = this.#bytes;
    return (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
  }

  /** Unsigned. */
  long(offset: number): number {
    this.#check(offset, 4);
    const bytes = this.#bytes;
    const low = (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
    return (low | ((bytes[offset + 2] ?? 0) << 16) | ((bytes[offset + 3] ?? 0) << 24)) >>> 0;
  }

  /** 64 bits, low half first. */
  quad(offset: number): bigint {
    return BigInt(this.long(offset)) | (BigInt(this.long(offset + 4)) << 32n);
  }

  /** The first byte that nobody fetched counts. */
  #check(offset: number, width: number): void {
    if (offset >= this.#start && offset + width <= this.#end) return;
    if (this.#holds(offset, width)) return;
    for (let at = offset; ; at++) if (!this.#holds(at, 1)) throw new UnfetchedByteError(at);
  }

  /** Whether one piece has all of it; that piece is then the one that was looked at last. */
  #holds(offset: number, width: number): boolean {
    const pieces = this.#pieces;
    for (let at = 0; at < pieces.length; at += 2) {
      const [start, end] = [pieces[at] ?? 0, pieces[at + 1] ?? 0];
      if (offset < start || offset + width > end) continue;
      this.#start = start;
      this.#end = end;
      return true;
    }
    return false;
  }

  #add(from: number, to: number): void {
    const pieces = this.#pieces;
    let [start, end] = [from, to];
    for (let at = 0; at < pieces.length; ) {
      const [other, otherEnd] = [pieces[at] ?? 0, pieces[at + 1] ?? 0];
      if (other > end || otherEnd < start) at += 2;
      else {
        start = Math.min(start, other);
        end = Math.max(end, otherEnd);
        pieces.splice(at, 2);
        at = 0;
      }
    }
    pieces.push(start, end);
    this.#start = start;
    this.#end = end;
  }
}

// Config space as lspci sees it: pieces are fetched before they are looked at, and a piece that cannot be fetched as a whole
// is not decoded. Looking at a byte that nobody fetched is a slip that the real one ends with; so does this one, since what
// it prints for broken input is to be the same.
import { Ring3Error } from "../../binary/error.ts";

const LIMIT = 4096;

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
  readonly #fetched = new Uint8Array(LIMIT);
  /** How much of the standard header could be had: 0, 64 or (CardBus) 128. */
  readonly headerSize: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.headerSize = bytes.length < 64 ? 0 : 64;
    this.#fetched.fill(1, 0, this.headerSize);
    if (this.headerSize === 64 && (this.byte(0x0e) & 0x7f) === 2 && this.fetch(64, 64)) this.headerSize = 128;
  }

  get isReadable(): boolean {
    return this.headerSize !== 0;
  }

  /** Makes `size` bytes available; false where they cannot all be read. */
  fetch(offset: number, size: number): boolean {
    let from = offset;
    let to = offset + size;
    while (from < to && this.#fetched[from] === 1) from++;
    while (to > from && this.#fetched[to - 1] === 1) to--;
    if (from === to) return true;
    if (to > this.#bytes.length) return false;
    this.#fetched.fill(1, from, to);
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
    if (this.#fetched[offset] !== 1) throw new UnfetchedByteError(offset);
    return this.#bytes[offset] ?? 0;
  }

  word(offset: number): number {
    return this.byte(offset) | (this.byte(offset + 1) << 8);
  }

  /** Unsigned. */
  long(offset: number): number {
    return (this.word(offset) | (this.word(offset + 2) << 16)) >>> 0;
  }

  /** 64 bits, low half first. */
  quad(offset: number): bigint {
    return BigInt(this.long(offset)) | (BigInt(this.long(offset + 4)) << 32n);
  }
}

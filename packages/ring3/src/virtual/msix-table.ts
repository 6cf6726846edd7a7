// The MSI-X table and its pending bits, as they lie in a BAR. PCIe 6.0, sections 7.7.2.6 to 7.7.2.10. Software accesses
// dwords and quadwords; other widths reach the same bytes here.
import { Ring3Error } from "../binary/error.ts";

const ENTRY_BYTES = 16;
/** Bits of a table entry that software writes: the address's lowest two and all of vector control but the mask are fixed. */
const WRITABLE = [0xffff_fffc, 0xffff_ffff, 0xffff_ffff, 1] as const;

/** One message as software programmed it. */
export interface MsixMessage {
  readonly address: bigint;
  readonly data: number;
}

export class MsixTable {
  readonly vectors: number;
  /** Bytes of the table, and of the pending bits. */
  readonly size: number;
  readonly pendingSize: number;
  readonly #words: Uint32Array;
  readonly #pending: Uint32Array;
  readonly #onUnmask: (vector: number) => void;

  /** `onUnmask` hears of vectors whose mask bit was cleared by a write from the bus. */
  constructor(vectors: number, onUnmask: (vector: number) => void) {
    this.vectors = vectors;
    this.size = vectors * ENTRY_BYTES;
    this.pendingSize = Math.ceil(vectors / 64) * 8;
    this.#words = new Uint32Array(vectors * 4);
    this.#pending = new Uint32Array(this.pendingSize / 4);
    this.#onUnmask = onUnmask;
    this.reset();
  }

  /** A piece of the table of up to 4 bytes that does not cross a dword. */
  read(offset: number, width: 1 | 2 | 4): number {
    return lanes(this.#words[offset >>> 2] ?? 0, offset, width);
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const index = offset >>> 2;
    const before = this.#words[index];
    if (before === undefined) return;
    const shift = (offset & 3) * 8;
    const covered = width === 4 ? 0xffff_ffff : ((2 ** (width * 8) - 1) << shift) >>> 0;
    const mask = ((WRITABLE[index & 3] ?? 0) & covered) >>> 0;
    const after = ((before & ~mask) | ((value << shift) & mask)) >>> 0;
    this.#words[index] = after;
    if ((index & 3) === 3 && (before & 1) === 1 && (after & 1) === 0) this.#onUnmask(index >>> 2);
  }

  /** A piece of the pending bits; software cannot write them. */
  readPending(offset: number, width: 1 | 2 | 4): number {
    return lanes(this.#pending[offset >>> 2] ?? 0, offset, width);
  }

  masked(vector: number): boolean {
    return ((this.#words[vector * 4 + 3] ?? 1) & 1) === 1;
  }

  /** Sets a vector's mask bit; nothing is delivered by that. */
  mask(vector: number, on: boolean): void {
    const index = vector * 4 + 3;
    const word = this.#words[index];
    if (word !== undefined) this.#words[index] = on ? word | 1 : word & ~1;
  }

  pending(vector: number): boolean {
    return ((this.#pending[vector >>> 5] ?? 0) & (1 << (vector & 31))) !== 0;
  }

  setPending(vector: number, on: boolean): void {
    const word = this.#pending[vector >>> 5];
    if (word === undefined) return;
    const bit = 1 << (vector & 31);
    this.#pending[vector >>> 5] = on ? word | bit : word & ~bit;
  }

  /** Vectors that wait, ascending. */
  allPending(): number[] {
    const vectors: number[] = [];
    for (const [at, word] of this.#pending.entries()) {
      for (let rest = word; rest !== 0; ) {
        const bit = 31 - Math.clz32(rest & -rest);
        vectors.push(at * 32 + bit);
        rest &= rest - 1;
      }
    }
    return vectors;
  }

  clearPending(): void {
    this.#pending.fill(0);
  }

  message(vector: number): MsixMessage {
    const [low = 0, high = 0, data = 0] = this.#words.subarray(vector * 4, vector * 4 + 3);
    return { address: BigInt(low) | (BigInt(high) << 32n), data };
  }

  /** Everything masked, nothing pending. */
  reset(): void {
    this.#words.fill(0);
    this.#pending.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) this.mask(vector, true);
  }

  /** Table, then pending bits, in the byte order of the bus. */
  save(): Uint8Array {
    const bytes = new Uint8Array(this.size + this.pendingSize);
    const view = new DataView(bytes.buffer);
    for (const [at, word] of this.#words.entries()) view.setUint32(at * 4, word, true);
    for (const [at, word] of this.#pending.entries()) view.setUint32(this.size + at * 4, word, true);
    return bytes;
  }

  /** Throws `STATE_INVALID` for bytes of another size. Bits that cannot be set stay as they are. */
  restore(bytes: Uint8Array): void {
    if (bytes.length !== this.size + this.pendingSize) {
      throw new Ring3Error("STATE_INVALID", `${bytes.length} bytes are no MSI-X table of ${this.vectors} vectors`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < this.#words.length; at++) {
      this.#words[at] = view.getUint32(at * 4, true) & (WRITABLE[at & 3] ?? 0);
    }
    for (let at = 0; at < this.#pending.length; at++) {
      const there = Math.min(Math.max(this.vectors - at * 32, 0), 32);
      this.#pending[at] = view.getUint32(this.size + at * 4, true) & (2 ** there - 1);
    }
  }
}

function lanes(word: number, offset: number, width: 1 | 2 | 4): number {
  if (width === 4) return word;
  return (word >>> ((offset & 3) * 8)) & (2 ** (width * 8) - 1);
}

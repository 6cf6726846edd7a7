// Registers of a range that no single window covers: each access goes to the window that holds it, else to the slow way.
import { Ring3Error } from "../binary/error.ts";
import type { Registers } from "../memory/registers.ts";
import type { ArenaWindow } from "../memory/window.ts";
import type { ByteRange } from "./function.ts";

/** A window and the part of the BAR that it shows. */
export interface RegisterPiece {
  readonly window: ArenaWindow;
  readonly offset: number;
  readonly size: number;
  readonly covers: (range: ByteRange) => boolean;
}

export class PieceRegisters implements Registers {
  readonly size: number;
  readonly arenaOffset: undefined = undefined;
  readonly #slow: Registers;
  readonly #base: number;
  readonly #pieces: readonly RegisterPiece[];

  /** `slow` and the pieces count from the BAR's start; this from the start of `range`. */
  constructor(slow: Registers, range: ByteRange, pieces: readonly RegisterPiece[]) {
    this.#slow = slow;
    this.#base = range.offset;
    this.size = range.size;
    this.#pieces = pieces;
  }

  read8(offset: number): number {
    const at = this.#check(offset, 1);
    const piece = this.#pieceAt(at, 1);
    return piece === undefined ? this.#slow.read8(at) : piece.window.read8(at - piece.offset);
  }
  read16(offset: number): number {
    const at = this.#check(offset, 2);
    const piece = this.#pieceAt(at, 2);
    return piece === undefined ? this.#slow.read16(at) : piece.window.read16(at - piece.offset);
  }
  read32(offset: number): number {
    const at = this.#check(offset, 4);
    const piece = this.#pieceAt(at, 4);
    return piece === undefined ? this.#slow.read32(at) : piece.window.read32(at - piece.offset);
  }
  read64(offset: number): bigint {
    const at = this.#check(offset, 8);
    const piece = this.#pieceAt(at, 8);
    return piece === undefined ? this.#slow.read64(at) : piece.window.read64(at - piece.offset);
  }
  write8(offset: number, value: number): void {
    const at = this.#check(offset, 1);
    const piece = this.#pieceAt(at, 1);
    if (piece === undefined) this.#slow.write8(at, value);
    else piece.window.write8(at - piece.offset, value);
  }
  write16(offset: number, value: number): void {
    const at = this.#check(offset, 2);
    const piece = this.#pieceAt(at, 2);
    if (piece === undefined) this.#slow.write16(at, value);
    else piece.window.write16(at - piece.offset, value);
  }
  write32(offset: number, value: number): void {
    const at = this.#check(offset, 4);
    const piece = this.#pieceAt(at, 4);
    if (piece === undefined) this.#slow.write32(at, value);
    else piece.window.write32(at - piece.offset, value);
  }
  write64(offset: number, value: bigint): void {
    const at = this.#check(offset, 8);
    const piece = this.#pieceAt(at, 8);
    if (piece === undefined) this.#slow.write64(at, value);
    else piece.window.write64(at - piece.offset, value);
  }

  #pieceAt(at: number, width: number): RegisterPiece | undefined {
    return this.#pieces.find(({ offset, size }) => at >= offset && at + width <= offset + size);
  }

  /** Alignment counts from the BAR's start, as the device sees it. */
  #check(offset: number, width: number): number {
    if (!(Number.isInteger(offset) && offset >= 0 && offset + width <= this.size)) {
      throw new Ring3Error("REGISTER_RANGE", `a ${width * 8}-bit access at offset ${offset} leaves ${this.size} bytes`);
    }
    const at = this.#base + offset;
    if (at % width !== 0) {
      throw new Ring3Error("REGISTER_RANGE", `a ${width * 8}-bit access at offset ${offset} is misaligned`);
    }
    return at;
  }
}

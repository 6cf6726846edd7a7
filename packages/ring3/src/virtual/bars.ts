// One BAR of a virtual function: each access goes to plain memory, to the MSI-X structures or to the model's handlers. Hard
// about it: a model has handlers for some widths only, and every width, alignment and length must have one defined result.
import type { Arena } from "../memory/arena.ts";
import type { BarIndex } from "../pci/function.ts";
import { type BarArea, type MsixPlacement, memoryRanges, reserveAreas } from "./bar-areas.ts";
import type { AccessWidth, BarDeclaration } from "./declaration.ts";

export type { BarArea, MsixPlacement } from "./bar-areas.ts";

/** The model's accesses by BAR, and for which widths (as a sum: 1 + 2 + 4 + 8) it has them. */
export interface BarModel {
  reads(bar: BarIndex): number;
  writes(bar: BarIndex): number;
  read8(bar: BarIndex, offset: number): number;
  read16(bar: BarIndex, offset: number): number;
  read32(bar: BarIndex, offset: number): number;
  read64(bar: BarIndex, offset: number): bigint;
  write8(bar: BarIndex, offset: number, value: number): void;
  write16(bar: BarIndex, offset: number, value: number): void;
  write32(bar: BarIndex, offset: number, value: number): void;
  write64(bar: BarIndex, offset: number, value: bigint): void;
}

export interface BarParts {
  readonly declaration: BarDeclaration | undefined;
  readonly arena: () => Arena;
  readonly model: BarModel;
  readonly msix: MsixPlacement | undefined;
}

const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn;

export class VirtualBar {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly #parts: BarParts;
  readonly #model: BarModel;
  /** Widths that the bus may use. */
  readonly #widths: number;
  readonly #merge: boolean;
  /** By log2 of the width: which of the model's widths serves it; 0 for none. */
  readonly #readBy: readonly number[];
  readonly #writeBy: readonly number[];
  #size: number;
  #areas: readonly BarArea[];

  constructor(index: BarIndex, parts: BarParts) {
    const { declaration, model } = parts;
    this.index = index;
    this.kind = declaration === undefined ? "none" : (declaration.kind ?? "memory32");
    this.prefetchable = declaration?.prefetchable ?? false;
    this.#parts = parts;
    this.#model = model;
    this.#widths = (declaration?.widths ?? [1, 2, 4, 8]).reduce<number>((sum, width) => sum | width, 0);
    this.#merge = declaration?.narrowWrites === "merge";
    const reads = declaration === undefined ? 0 : model.reads(index);
    const writes = declaration === undefined ? 0 : model.writes(index);
    this.#readBy = [1, 2, 4, 8].map((width) => servedBy(width, reads));
    this.#writeBy = [1, 2, 4, 8].map((width) => servedBy(width, writes));
    this.#size = declaration?.size ?? 0;
    this.#areas = this.#reserve([]);
  }

  /** In bytes; 0 without a BAR. A resizable one changes. */
  get size(): number {
    return this.#size;
  }

  /** Runs of plain memory, ascending; clients may map them. */
  get areas(): readonly BarArea[] {
    return this.#areas;
  }

  /** Whether clients in other processes may map the areas: they are this process's own memory. */
  get shareable(): boolean {
    return true;
  }

  /** The area that holds a byte. */
  areaAt(offset: number): BarArea | undefined {
    for (const area of this.#areas) if (offset >= area.offset && offset < area.offset + area.size) return area;
    return undefined;
  }

  // --- Single aligned accesses inside the BAR ---------------------------------------------------------------------

  read(offset: number, width: 1 | 2 | 4): number {
    const area = this.#areas.length === 0 ? undefined : this.areaAt(offset);
    if (area !== undefined) {
      const { accessors } = area.range.arena;
      const at = area.range.offset + offset - area.offset;
      return width === 4 ? accessors.load32(at) >>> 0 : width === 2 ? accessors.load16(at) : accessors.load8(at);
    }
    const structure = this.#parts.msix === undefined ? undefined : this.#readMsix(offset, width);
    if (structure !== undefined) return structure;
    if ((this.#widths & width) === 0) return ones(width);
    return this.#readModel(offset, width);
  }

  read64(offset: number): bigint {
    const area = this.#areas.length === 0 ? undefined : this.areaAt(offset);
    if (area !== undefined) {
      return BigInt.asUintN(64, area.range.arena.accessors.load64(area.range.offset + offset - area.offset));
    }
    if (this.#parts.msix !== undefined && this.#readMsix(offset, 4) !== undefined) {
      return BigInt(this.#readMsix(offset, 4) ?? 0) | (BigInt(this.#readMsix(offset + 4, 4) ?? 0) << 32n);
    }
    if ((this.#widths & 8) === 0) return ALL_ONES_64;
    const by = this.#readBy[3] ?? 0;
    if (by === 0) return ALL_ONES_64;
    if (by === 8) return BigInt.asUintN(64, this.#model.read64(this.index, offset));
    const low = this.#readModel(offset, 4);
    return BigInt(low) | (BigInt(this.#readModel(offset + 4, 4)) << 32n);
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const area = this.#areas.length === 0 ? undefined : this.areaAt(offset);
    if (area !== undefined) {
      const at = offset - area.offset;
      if (width === 4) area.range.words[at >>> 2] = value;
      else if (width === 2) area.range.halfwords[at >>> 1] = value;
      else area.range.bytes[at] = value;
      return;
    }
    if (this.#parts.msix !== undefined && this.#writeMsix(offset, width, value)) return;
    if ((this.#widths & width) !== 0) this.#writeModel(offset, width, value);
  }

  write64(offset: number, value: bigint): void {
    const area = this.#areas.length === 0 ? undefined : this.areaAt(offset);
    if (area !== undefined) {
      area.range.longwords[(offset - area.offset) / 8] = value;
      return;
    }
    const low = Number(BigInt.asUintN(32, value));
    const high = Number(BigInt.asUintN(32, value >> 32n));
    if (this.#parts.msix !== undefined && this.#writeMsix(offset, 4, low)) {
      this.#writeMsix(offset + 4, 4, high);
      return;
    }
    if ((this.#widths & 8) === 0) return;
    const by = this.#writeBy[3] ?? 0;
    if (by === 8) this.#model.write64(this.index, offset, BigInt.asUintN(64, value));
    else if (by !== 0) {
      this.#writeModel(offset, 4, low);
      this.#writeModel(offset + 4, 4, high);
    }
  }

  // --- Any offset and length inside the BAR -----------------------------------------------------------------------

  /** Reads in aligned pieces, lowest first. A length of 1, 2, 4 or 8 at its alignment is one access of that width. */
  readInto(offset: number, target: Uint8Array): void {
    const { length } = target;
    const area = length > 8 ? this.areaAt(offset) : undefined;
    if (area !== undefined && offset + length <= area.offset + area.size) {
      const start = offset - area.offset;
      target.set(area.range.bytes.subarray(start, start + length));
      return;
    }
    const view = new DataView(target.buffer, target.byteOffset, length);
    for (let at = 0; at < length; ) {
      const width = this.#pieceWidth(offset + at, length - at, length);
      if (width === 8) view.setBigUint64(at, this.read64(offset + at), true);
      else if (width === 4) view.setUint32(at, this.read(offset + at, 4), true);
      else if (width === 2) view.setUint16(at, this.read(offset + at, 2), true);
      else view.setUint8(at, this.read(offset + at, 1));
      at += width;
    }
  }

  /** Writes in aligned pieces, as {@link readInto} reads. */
  writeFrom(offset: number, source: Uint8Array): void {
    const { length } = source;
    const area = length > 8 ? this.areaAt(offset) : undefined;
    if (area !== undefined && offset + length <= area.offset + area.size) {
      area.range.bytes.set(source, offset - area.offset);
      return;
    }
    const view = new DataView(source.buffer, source.byteOffset, length);
    for (let at = 0; at < length; ) {
      const width = this.#pieceWidth(offset + at, length - at, length);
      if (width === 8) this.write64(offset + at, view.getBigUint64(at, true));
      else if (width === 4) this.write(offset + at, 4, view.getUint32(at, true));
      else if (width === 2) this.write(offset + at, 2, view.getUint16(at, true));
      else this.write(offset + at, 1, view.getUint8(at));
      at += width;
    }
  }

  // --- The function's side ----------------------------------------------------------------------------------------

  /** A resizable BAR was given another size. What memory held below the smaller of both stays. Throws `ARENA_FULL`. */
  resize(size: number): void {
    this.#size = size;
    this.#areas = this.#reserve(this.#areas);
  }

  /** Fills all memory with zeros. */
  clear(): void {
    for (const { range } of this.#areas) range.bytes.fill(0);
  }

  dispose(): void {
    for (const { range } of this.#areas) range[Symbol.dispose]();
    this.#areas = [];
  }

  // --- Inside -----------------------------------------------------------------------------------------------------

  #reserve(former: readonly BarArea[]): readonly BarArea[] {
    const { declaration, arena, msix } = this.#parts;
    // Areas are whole pages; a smaller BAR has no memory that could be mapped, but memory all the same.
    const ranges = memoryRanges(this.index, this.#size, declaration?.memory, msix);
    return ranges.length === 0 && former.length === 0 ? [] : reserveAreas(arena(), ranges, former);
  }

  /** The widest aligned piece that is left; of an access that is no single one, the widest that the BAR takes. */
  #pieceWidth(offset: number, left: number, total: number): AccessWidth {
    for (let width: AccessWidth = 8; width > 1; width = (width / 2) as AccessWidth) {
      if (left < width || offset % width !== 0) continue;
      if (total === width || (this.#widths & width) !== 0 || this.areaAt(offset) !== undefined) return width;
    }
    return 1;
  }

  #readModel(offset: number, width: 1 | 2 | 4): number {
    const by = this.#readBy[width >>> 1] ?? 0;
    if (by === 0) return ones(width);
    if (by === width) return this.#readWhole(offset, width);
    if (by < width) {
      const half = (width / 2) as 1 | 2;
      const low = this.#readModel(offset, half);
      return (low | (this.#readModel(offset + half, half) << (8 * half))) >>> 0;
    }
    // Lanes of a wider register.
    const start = offset - (offset % by);
    const shift = 8 * (offset - start);
    if (by === 8) {
      const wide = BigInt.asUintN(64, this.#model.read64(this.index, start));
      return Number(BigInt.asUintN(8 * width, wide >> BigInt(shift)));
    }
    return ((this.#readWhole(start, by as 2 | 4) >>> shift) & ones(width)) >>> 0;
  }

  #readWhole(offset: number, width: 1 | 2 | 4): number {
    if (width === 4) return this.#model.read32(this.index, offset) >>> 0;
    return width === 2 ? this.#model.read16(this.index, offset) & 0xffff : this.#model.read8(this.index, offset) & 0xff;
  }

  #writeModel(offset: number, width: 1 | 2 | 4, value: number): void {
    const by = this.#writeBy[width >>> 1] ?? 0;
    if (by === 0) return;
    if (by === width) this.#writeWhole(offset, width, value);
    else if (by < width) {
      const half = (width / 2) as 1 | 2;
      this.#writeModel(offset, half, value & ones(half));
      this.#writeModel(offset + half, half, (value >>> (8 * half)) & ones(half));
    } else if (this.#merge) this.#mergeWrite(offset, width, value, by);
  }

  #mergeWrite(offset: number, width: 1 | 2 | 4, value: number, by: number): void {
    const start = offset - (offset % by);
    const shift = 8 * (offset - start);
    if (by === 8) {
      const mask = BigInt(ones(width)) << BigInt(shift);
      const before = this.read64(start);
      this.#model.write64(this.index, start, (before & ~mask) | ((BigInt(value) << BigInt(shift)) & mask));
      return;
    }
    const mask = ones(width) << shift;
    const before = this.#readModel(start, by as 2 | 4);
    this.#writeWhole(start, by as 2 | 4, ((before & ~mask) | ((value << shift) & mask)) >>> 0);
  }

  #writeWhole(offset: number, width: 1 | 2 | 4, value: number): void {
    if (width === 4) this.#model.write32(this.index, offset, value >>> 0);
    else if (width === 2) this.#model.write16(this.index, offset, value & 0xffff);
    else this.#model.write8(this.index, offset, value & 0xff);
  }

  #readMsix(offset: number, width: 1 | 2 | 4): number | undefined {
    const { table, tablePlace, pendingPlace } = this.#parts.msix as MsixPlacement;
    if (tablePlace.bar === this.index && offset >= tablePlace.offset && offset < tablePlace.offset + tablePlace.size) {
      return table.read(offset - tablePlace.offset, width);
    }
    if (pendingPlace.bar !== this.index || offset < pendingPlace.offset) return undefined;
    if (offset >= pendingPlace.offset + pendingPlace.size) return undefined;
    return table.readPending(offset - pendingPlace.offset, width);
  }

  /** Whether the place is one of the MSI-X structures, whose pending bits drop what is written. */
  #writeMsix(offset: number, width: 1 | 2 | 4, value: number): boolean {
    const { table, tablePlace, pendingPlace } = this.#parts.msix as MsixPlacement;
    if (tablePlace.bar === this.index && offset >= tablePlace.offset && offset < tablePlace.offset + tablePlace.size) {
      table.write(offset - tablePlace.offset, width, value);
      return true;
    }
    if (pendingPlace.bar !== this.index || offset < pendingPlace.offset) return false;
    return offset < pendingPlace.offset + pendingPlace.size;
  }
}

function ones(width: 1 | 2 | 4): number {
  return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
}

/** Which of the model's widths serves an access: its own, else the next narrower, else the next wider. */
function servedBy(width: number, there: number): number {
  for (let by = width; by >= 1; by /= 2) if ((there & by) !== 0) return by;
  for (let by = width * 2; by <= 8; by *= 2) if ((there & by) !== 0) return by;
  return 0;
}

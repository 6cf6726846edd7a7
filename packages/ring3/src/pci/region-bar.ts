// A BAR of any back end: slow accesses, which are always there, and windows where the back end can map. A range that is
// only partly mappable, because the MSI-X table's page must not be mapped, is served piece by piece.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { Registers } from "../memory/registers.ts";
import type { OwnedWindow, WindowHandle } from "../memory/window.ts";
import type { Bar, BarIndex, ByteRange, MappedRegisters } from "./function.ts";
import { PieceRegisters, type RegisterPiece } from "./piece-registers.ts";
import type { WindowGate } from "./window-gate.ts";

const pageBytes = 4096;

/** What a back end does for a BAR. Offsets count from its start; they lie inside and are aligned to the width. */
export interface RegionAccess {
  read(offset: number, width: 1 | 2 | 4): number;
  write(offset: number, width: 1 | 2 | 4, value: number): void;
  read64(offset: number): bigint;
  write64(offset: number, value: bigint): void;
  readInto(offset: number, bytes: Uint8Array): void;
  writeFrom(offset: number, bytes: Uint8Array): void;
  /** A window over whole pages inside one mappable area. Throws `ARENA_FULL` where there is no room for it. */
  window(pages: ByteRange): OwnedWindow;
}

/** A BAR as its back end found it; `size` is 0 where `kind` is `none`. */
export interface BarShape {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly size: number;
  readonly mappable: readonly ByteRange[];
}

export class RegionBar implements Bar {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly size: number;
  readonly mappable: readonly ByteRange[];
  readonly arenaOffset: undefined = undefined;
  readonly #access: RegionAccess;
  readonly #gate: WindowGate;
  /** Windows of `registers()`, shared by range, since their users do not dispose them. */
  readonly #shared: { readonly pages: ByteRange; readonly window: OwnedWindow }[] = [];

  constructor(shape: BarShape, access: RegionAccess, gate: WindowGate) {
    const present = shape.kind !== "none";
    this.index = shape.index;
    this.kind = shape.kind;
    this.prefetchable = shape.prefetchable;
    this.size = present ? shape.size : 0;
    this.mappable = present ? shape.mappable : [];
    this.#access = access;
    this.#gate = gate;
  }

  read8(offset: number): number {
    return this.#read(offset, 1);
  }
  read16(offset: number): number {
    return this.#read(offset, 2);
  }
  read32(offset: number): number {
    return this.#read(offset, 4);
  }
  read64(offset: number): bigint {
    this.#place(offset, 8);
    return this.#access.read64(offset);
  }
  write8(offset: number, value: number): void {
    this.#write(offset, 1, value);
  }
  write16(offset: number, value: number): void {
    this.#write(offset, 2, value);
  }
  write32(offset: number, value: number): void {
    this.#write(offset, 4, value);
  }
  write64(offset: number, value: bigint): void {
    this.#place(offset, 8);
    this.#access.write64(offset, value);
  }

  readBytes(offset: number, size: number): Uint8Array {
    this.#range(offset, size);
    const bytes = new Uint8Array(size);
    this.#access.readInto(offset, bytes);
    return bytes;
  }

  writeBytes(offset: number, bytes: Uint8Array): void {
    this.#range(offset, bytes.length);
    this.#access.writeFrom(offset, bytes);
  }

  map(range: ByteRange = { offset: 0, size: this.size }): MappedRegisters {
    this.#gate.check();
    const pages = this.#mappablePages(range);
    if (pages === undefined || range.offset % 8 !== 0) {
      const areas = this.mappable.map(({ offset, size }) => `${size} bytes at ${offset}`).join(", ");
      throw new Ring3Error(
        "NOT_MAPPABLE",
        `${range.size} bytes at ${range.offset} of BAR ${this.index} cannot be mapped (${areas === "" ? "nothing can" : areas}); ` +
          "`registers()` gives the same registers the slow way",
      );
    }
    return new MappedSlice(this.#window(pages), range, pages);
  }

  registers(range: ByteRange = { offset: 0, size: this.size }): Registers {
    this.#range(range.offset, range.size);
    if (range.size === 0) return new PieceRegisters(this, range, []);
    const pieces: RegisterPiece[] = [];
    for (const area of this.mappable) {
      const start = Math.max(range.offset, area.offset);
      const end = Math.min(range.offset + range.size, area.offset + area.size);
      const window = end > start ? this.#sharedWindow({ offset: start, size: end - start }) : undefined;
      if (window !== undefined) pieces.push(window);
    }
    const [whole] = pieces;
    // The usual case needs no indirection: one window that holds all of it.
    if (whole !== undefined && pieces.length === 1 && range.offset % 8 === 0 && whole.covers(range)) {
      return whole.window.slice(range.offset - whole.offset, range.size);
    }
    return new PieceRegisters(this, range, pieces);
  }

  /** Windows that `registers()` made, for workers. */
  windows(): { bar: BarIndex; offset: number; window: WindowHandle }[] {
    return this.#shared.map(({ pages, window }) => ({
      bar: this.index,
      offset: pages.offset,
      window: window.handle(),
    }));
  }

  #sharedWindow(range: ByteRange): RegisterPiece | undefined {
    const pages = this.#mappablePages(range);
    if (pages === undefined) return undefined;
    let window = this.#shared.find(
      ({ pages: { offset, size } }) => offset === pages.offset && size === pages.size,
    )?.window;
    if (window === undefined) {
      try {
        window = this.#window(pages);
      } catch (error) {
        // A BAR larger than what is left of the arena is still there by system call.
        if (isRing3Error(error, "ARENA_FULL")) return undefined;
        throw error;
      }
      this.#shared.push({ pages, window });
    }
    const found = window;
    return {
      window: found,
      offset: pages.offset,
      size: Math.min(pages.size, this.size - pages.offset),
      covers: (wanted) => wanted.offset >= pages.offset && wanted.offset + wanted.size <= pages.offset + pages.size,
    };
  }

  #window(pages: ByteRange): OwnedWindow {
    this.#gate.check();
    const window = this.#access.window(pages);
    this.#gate.add(window);
    return window;
  }

  /** The whole pages around a range, where they lie in one mappable area. A BAR smaller than a page fills one. */
  #mappablePages({ offset, size }: ByteRange): ByteRange | undefined {
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size > 0)) return undefined;
    const area = this.mappable.find((one) => offset >= one.offset && offset + size <= one.offset + one.size);
    if (area === undefined) return undefined;
    const start = Math.floor(offset / pageBytes) * pageBytes;
    return { offset: start, size: Math.ceil((offset + size) / pageBytes) * pageBytes - start };
  }

  #read(offset: number, width: 1 | 2 | 4): number {
    this.#place(offset, width);
    return this.#access.read(offset, width);
  }

  #write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#place(offset, width);
    this.#access.write(offset, width, value);
  }

  #place(offset: number, width: number): void {
    this.#range(offset, width);
    if (offset % width !== 0) {
      throw new Ring3Error(
        "REGISTER_RANGE",
        `a ${width * 8}-bit access at offset ${offset} of BAR ${this.index} is misaligned`,
      );
    }
    if (this.kind === "io" && width === 8) {
      throw new Ring3Error("NOT_SUPPORTED", "I/O ports take no 64-bit access; use two of 32 bits");
    }
  }

  #range(offset: number, size: number): void {
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0;
    if (!inside || offset + size > this.size) {
      throw new Ring3Error(
        "REGISTER_RANGE",
        `${size} bytes at ${offset} leave the ${this.size} bytes of BAR ${this.index}`,
      );
    }
    this.#gate.check();
  }
}

/** A caller's own mapping: a slice of its pages that takes them along when disposed. */
class MappedSlice implements MappedRegisters {
  readonly size: number;
  readonly arenaOffset: number;
  readonly #window: OwnedWindow;
  readonly #slice: Registers;

  constructor(window: OwnedWindow, range: ByteRange, pages: ByteRange) {
    this.#window = window;
    this.#slice = window.slice(range.offset - pages.offset, range.size);
    this.size = range.size;
    this.arenaOffset = window.arenaOffset + range.offset - pages.offset;
  }

  read8(offset: number): number {
    return this.#slice.read8(offset);
  }
  read16(offset: number): number {
    return this.#slice.read16(offset);
  }
  read32(offset: number): number {
    return this.#slice.read32(offset);
  }
  read64(offset: number): bigint {
    return this.#slice.read64(offset);
  }
  write8(offset: number, value: number): void {
    this.#slice.write8(offset, value);
  }
  write16(offset: number, value: number): void {
    this.#slice.write16(offset, value);
  }
  write32(offset: number, value: number): void {
    this.#slice.write32(offset, value);
  }
  write64(offset: number, value: bigint): void {
    this.#slice.write64(offset, value);
  }

  [Symbol.dispose](): void {
    this.#window[Symbol.dispose]();
  }
}

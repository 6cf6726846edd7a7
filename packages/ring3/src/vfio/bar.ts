// A BAR: by system call (slow, always there), and mapped where the kernel lets it. A range that is only partly mappable,
// because the MSI-X table's page must not be mapped, is served piece by piece.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { FileIntegers, tryReadAt, tryWriteAt } from "../linux/file-access.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { DeviceWindow } from "../linux/windows.ts";
import type { Arena } from "../memory/arena.ts";
import type { Registers } from "../memory/registers.ts";
import type { WindowHandle } from "../memory/window.ts";
import type { Bar, BarIndex, ByteRange, MappedRegisters } from "../pci/function.ts";
import { PieceRegisters, type RegisterPiece } from "./piece-registers.ts";
import type { Region } from "./region.ts";
import type { WindowGate } from "./window-gate.ts";

const pageBytes = 4096;

interface BarParts {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly region: Region;
  readonly mappable: readonly ByteRange[];
  readonly fd: FileDescriptor;
  readonly arena: Arena;
  readonly gate: WindowGate;
}

export class VfioBar implements Bar {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly size: number;
  readonly mappable: readonly ByteRange[];
  readonly arenaOffset: undefined = undefined;
  readonly #parts: BarParts;
  readonly #file: FileIntegers;
  /** Windows of `registers()`, shared by range, since their users do not dispose them. */
  readonly #shared: { readonly pages: ByteRange; readonly window: DeviceWindow }[] = [];

  constructor(parts: BarParts) {
    this.#parts = parts;
    this.index = parts.index;
    this.kind = parts.kind;
    this.prefetchable = parts.prefetchable;
    this.size = parts.kind === "none" ? 0 : parts.region.size;
    this.mappable = parts.kind === "none" ? [] : parts.mappable;
    this.#file = new FileIntegers(parts.fd);
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
    const at = this.#place(offset, 8);
    return this.#attempt(() => this.#file.read64(at));
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
    const at = this.#place(offset, 8);
    this.#attempt(() => this.#file.write64(at, value));
  }

  readBytes(offset: number, size: number): Uint8Array {
    const at = this.#range(offset, size);
    const bytes = new Uint8Array(size);
    this.#whole(size, tryReadAt(this.#parts.fd, at, bytes));
    return bytes;
  }

  writeBytes(offset: number, bytes: Uint8Array): void {
    const at = this.#range(offset, bytes.length);
    this.#whole(bytes.length, tryWriteAt(this.#parts.fd, at, bytes));
  }

  map(range: ByteRange = { offset: 0, size: this.size }): MappedRegisters {
    this.#parts.gate.check();
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

  #window(pages: ByteRange): DeviceWindow {
    const { arena, fd, region, gate } = this.#parts;
    gate.check();
    const window = DeviceWindow.map(arena, fd, region.fileOffset + pages.offset, pages.size);
    gate.add(window);
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
    const at = this.#place(offset, width);
    return this.#attempt(() => this.#file.read(at, width));
  }

  #write(offset: number, width: 1 | 2 | 4, value: number): void {
    const at = this.#place(offset, width);
    this.#attempt(() => this.#file.write(at, width, value));
  }

  #place(offset: number, width: number): number {
    const at = this.#range(offset, width);
    if (offset % width !== 0) {
      throw new Ring3Error(
        "REGISTER_RANGE",
        `a ${width * 8}-bit access at offset ${offset} of BAR ${this.index} is misaligned`,
      );
    }
    if (this.kind === "io" && width === 8) {
      throw new Ring3Error("NOT_SUPPORTED", "I/O ports take no 64-bit access; use two of 32 bits");
    }
    return at;
  }

  #range(offset: number, size: number): number {
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0;
    if (!inside || offset + size > this.size) {
      throw new Ring3Error(
        "REGISTER_RANGE",
        `${size} bytes at ${offset} leave the ${this.size} bytes of BAR ${this.index}`,
      );
    }
    this.#parts.gate.check();
    return this.#parts.region.fileOffset + offset;
  }

  #attempt<T>(access: () => T): T {
    try {
      return access();
    } catch (error) {
      throw isRing3Error(error) && error.errno === "EIO" ? noAnswer(this.index) : error;
    }
  }

  #whole(size: number, result: number): void {
    if (result !== size) throw noAnswer(this.index);
  }
}

function noAnswer(index: number): Ring3Error {
  return new Ring3Error(
    "REGION_DISABLED",
    `BAR ${index} does not answer: memory decoding is off, the function sleeps, or it is gone`,
    { errno: "EIO" },
  );
}

/** A caller's own mapping: a slice of its pages that takes them along when disposed. */
class MappedSlice implements MappedRegisters {
  readonly size: number;
  readonly arenaOffset: number;
  readonly #window: DeviceWindow;
  readonly #slice: Registers;

  constructor(window: DeviceWindow, range: ByteRange, pages: ByteRange) {
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

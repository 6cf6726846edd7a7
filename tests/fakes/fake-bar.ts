// A BAR of a fake function: handlers answer, but for areas that are plain memory of the arena, which can be mapped.
import { Ring3Error } from "../../packages/ring3/src/binary/error.ts";
import type { Arena, ArenaRange } from "../../packages/ring3/src/memory/arena.ts";
import type { Registers } from "../../packages/ring3/src/memory/registers.ts";
import { OwnedWindow } from "../../packages/ring3/src/memory/window.ts";
import type { Bar, BarIndex, ByteRange, MappedRegisters } from "../../packages/ring3/src/pci/function.ts";

export interface FakeBarOptions {
  /** A power of two. */
  readonly size: number;
  readonly kind?: "io" | "memory32" | "memory64";
  readonly prefetchable?: boolean;
  /** Answers with all ones where it is missing. Values are unsigned; 64-bit accesses come as two. */
  readonly read?: (offset: number, width: 1 | 2 | 4) => number;
  readonly write?: (offset: number, width: 1 | 2 | 4, value: number) => void;
  /** Whole pages that are memory. */
  readonly memory?: ByteRange;
}

type Width = 1 | 2 | 4;

export class FakeBar implements Bar {
  readonly index: BarIndex;
  readonly size: number;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly mappable: readonly ByteRange[];
  readonly arenaOffset: undefined = undefined;
  /** The memory area's place in the arena. */
  readonly memory: ArenaRange | undefined;
  readonly #options: FakeBarOptions | undefined;
  readonly #check: () => void;
  readonly #arena: Arena;
  readonly #windows: Set<OwnedWindow> = new Set();
  #shared: OwnedWindow | undefined;

  constructor(index: BarIndex, options: FakeBarOptions | undefined, arena: Arena, check: () => void) {
    this.index = index;
    this.size = options?.size ?? 0;
    this.kind = options === undefined ? "none" : (options.kind ?? "memory32");
    this.prefetchable = options?.prefetchable ?? false;
    this.#options = options;
    this.#check = check;
    this.#arena = arena;
    const area = options?.memory;
    this.mappable = area === undefined ? [] : [area];
    this.memory = area === undefined ? undefined : arena.reserve(area.size);
  }

  /** Takes a whole access apart; `piece` is called for each part. */
  #access(offset: number, width: number): void {
    if (!(Number.isInteger(offset) && offset >= 0 && offset + width <= this.size && offset % width === 0)) {
      throw new Ring3Error(
        "REGISTER_RANGE",
        `a ${width * 8}-bit access at ${offset} of ${this.size} bytes, or misaligned`,
      );
    }
    this.#check();
  }

  #inMemory(offset: number): number | undefined {
    const area = this.#options?.memory;
    if (area === undefined || offset < area.offset || offset >= area.offset + area.size) return undefined;
    return offset - area.offset;
  }

  #read(offset: number, width: Width): number {
    this.#access(offset, width);
    const at = this.#inMemory(offset);
    if (at === undefined) return this.#options?.read?.(offset, width) ?? 2 ** (8 * width) - 1;
    const bytes = (this.memory as ArenaRange).bytes;
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] as number);
    return value;
  }

  #write(offset: number, width: Width, value: number): void {
    this.#access(offset, width);
    if (!(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * width))) {
      throw new Ring3Error("REGISTER_VALUE", `${value} is no unsigned ${8 * width}-bit number`);
    }
    const at = this.#inMemory(offset);
    if (at === undefined) {
      this.#options?.write?.(offset, width, value);
      return;
    }
    for (let i = 0; i < width; i++) (this.memory as ArenaRange).bytes[at + i] = Math.floor(value / 256 ** i) & 0xff;
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
    this.#access(offset, 8);
    return BigInt(this.#read(offset, 4)) | (BigInt(this.#read(offset + 4, 4)) << 32n);
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
    this.#access(offset, 8);
    this.#write(offset, 4, Number(value & 0xffff_ffffn));
    this.#write(offset + 4, 4, Number(value >> 32n));
  }

  readBytes(offset: number, size: number): Uint8Array {
    this.#range({ offset, size });
    return Uint8Array.from({ length: size }, (_, i) => {
      const at = offset + i;
      return (this.#read(at - (at % 4), 4) / 256 ** (at % 4)) & 0xff;
    });
  }

  writeBytes(offset: number, bytes: Uint8Array): void {
    this.#range({ offset, size: bytes.length });
    for (const [i, byte] of bytes.entries()) this.#write(offset + i, 1, byte);
  }

  #range({ offset, size }: ByteRange): void {
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0;
    if (!valid || offset + size > this.size) {
      throw new Ring3Error("REGISTER_RANGE", `${size} bytes at ${offset} leave the ${this.size} of BAR ${this.index}`);
    }
    this.#check();
  }

  map(range: ByteRange = { offset: 0, size: this.size }): MappedRegisters {
    this.#check();
    const at = this.#place(range);
    if (at === undefined || this.memory === undefined) {
      throw new Ring3Error(
        "NOT_MAPPABLE",
        `${range.size} bytes at ${range.offset} of BAR ${this.index} cannot be mapped`,
      );
    }
    return this.#window(at, range.size);
  }

  registers(range: ByteRange = { offset: 0, size: this.size }): Registers {
    this.#range(range);
    const at = this.#place(range);
    if (at === undefined || this.memory === undefined) return new Part(this, range);
    this.#shared ??= this.#window(0, this.memory.size);
    return this.#shared.slice(at, range.size);
  }

  #place({ offset, size }: ByteRange): number | undefined {
    const area = this.#options?.memory;
    if (area === undefined || offset < area.offset || size <= 0 || offset + size > area.offset + area.size)
      return undefined;
    return offset - area.offset;
  }

  #window(at: number, size: number): OwnedWindow {
    const window = OwnedWindow.over(this.#arena, (this.memory as ArenaRange).offset + at, size);
    this.#windows.add(window);
    return window;
  }

  /** Whether accesses are answered. */
  enable(on: boolean): void {
    for (const window of this.#windows) {
      if (on) window.resume();
      else window.suspend();
    }
  }

  close(): void {
    for (const window of this.#windows) window.revoke();
    this.memory?.[Symbol.dispose]();
  }
}

/** A part of a BAR, by handlers. */
class Part implements Registers {
  readonly size: number;
  readonly arenaOffset: undefined = undefined;
  readonly #bar: FakeBar;
  readonly #start: number;

  constructor(bar: FakeBar, { offset, size }: ByteRange) {
    this.#bar = bar;
    this.#start = offset;
    this.size = size;
  }

  #at(offset: number, width: number): number {
    if (!(Number.isInteger(offset) && offset >= 0 && offset % width === 0 && offset + width <= this.size)) {
      throw new Ring3Error(
        "REGISTER_RANGE",
        `a ${width * 8}-bit access at ${offset} of ${this.size} bytes, or misaligned`,
      );
    }
    return this.#start + offset;
  }

  read8(offset: number): number {
    return this.#bar.read8(this.#at(offset, 1));
  }
  read16(offset: number): number {
    return this.#bar.read16(this.#at(offset, 2));
  }
  read32(offset: number): number {
    return this.#bar.read32(this.#at(offset, 4));
  }
  read64(offset: number): bigint {
    return this.#bar.read64(this.#at(offset, 8));
  }
  write8(offset: number, value: number): void {
    this.#bar.write8(this.#at(offset, 1), value);
  }
  write16(offset: number, value: number): void {
    this.#bar.write16(this.#at(offset, 2), value);
  }
  write32(offset: number, value: number): void {
    this.#bar.write32(this.#at(offset, 4), value);
  }
  write64(offset: number, value: bigint): void {
    this.#bar.write64(this.#at(offset, 8), value);
  }
}

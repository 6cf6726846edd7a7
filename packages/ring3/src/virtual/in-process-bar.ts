// A BAR of a function in process: accesses are calls into the device, and runs of plain memory are windows of the arena that
// both share. What hardware answers with ones (decoding off, D3hot) is an error here, as it is over the kernel.
import { Ring3Error } from "../binary/error.ts";
import type { Registers } from "../memory/registers.ts";
import { OwnedWindow, type WindowHandle } from "../memory/window.ts";
import type { Bar, BarIndex, ByteRange, MappedRegisters } from "../pci/function.ts";
import { PieceRegisters, type RegisterPiece } from "../pci/piece-registers.ts";
import type { BarArea } from "./bars.ts";
import type { VirtualFunction } from "./function.ts";

export class InProcessBar implements Bar {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly arenaOffset: undefined = undefined;
  readonly #device: VirtualFunction;
  readonly #check: () => void;
  readonly #written: () => void;
  readonly #windows: Set<OwnedWindow> = new Set();
  /** One window per area, for `registers()`, whose users do not dispose. */
  readonly #shared: Map<BarArea, OwnedWindow> = new Map();

  /** `check` throws once the function is closed or removed; `written` hears of each write that was a call. */
  constructor(index: BarIndex, device: VirtualFunction, check: () => void, written: () => void) {
    const bar = device.bars[index];
    this.index = index;
    this.kind = bar?.kind ?? "none";
    this.prefetchable = bar?.prefetchable ?? false;
    this.#device = device;
    this.#check = check;
    this.#written = written;
  }

  get size(): number {
    return this.#device.bars[this.index]?.size ?? 0;
  }

  get mappable(): readonly ByteRange[] {
    return this.#areas.map(({ offset, size }) => ({ offset, size }));
  }

  get #areas(): readonly BarArea[] {
    return this.#device.bars[this.index]?.areas ?? [];
  }

  read8(offset: number): number {
    return this.#device.barRead8(this.index, this.#place(offset, 1));
  }
  read16(offset: number): number {
    return this.#device.barRead16(this.index, this.#place(offset, 2));
  }
  read32(offset: number): number {
    return this.#device.barRead32(this.index, this.#place(offset, 4));
  }
  read64(offset: number): bigint {
    return this.#device.barRead64(this.index, this.#place(offset, 8));
  }
  write8(offset: number, value: number): void {
    this.#device.barWrite8(this.index, this.#place(offset, 1), value);
    this.#written();
  }
  write16(offset: number, value: number): void {
    this.#device.barWrite16(this.index, this.#place(offset, 2), value);
    this.#written();
  }
  write32(offset: number, value: number): void {
    this.#device.barWrite32(this.index, this.#place(offset, 4), value);
    this.#written();
  }
  write64(offset: number, value: bigint): void {
    this.#device.barWrite64(this.index, this.#place(offset, 8), value);
    this.#written();
  }

  readBytes(offset: number, size: number): Uint8Array {
    this.#range({ offset, size });
    const bytes = new Uint8Array(size);
    this.#device.readBar(this.index, offset, bytes);
    return bytes;
  }

  writeBytes(offset: number, bytes: Uint8Array): void {
    this.#range({ offset, size: bytes.length });
    this.#device.writeBar(this.index, offset, bytes);
    this.#written();
  }

  map(range: ByteRange = { offset: 0, size: this.size }): MappedRegisters {
    this.#checkDecoding();
    const area = this.#areaOf(range);
    if (area === undefined || range.offset % 8 !== 0) {
      const there = this.#areas.map(({ offset, size }) => `${size} bytes at ${offset}`).join(", ");
      throw new Ring3Error(
        "NOT_MAPPABLE",
        `${range.size} bytes at ${range.offset} of BAR ${this.index} cannot be mapped (${there === "" ? "nothing can" : there}); ` +
          "`registers()` gives the same registers the slow way",
      );
    }
    return this.#window(area.range.offset + range.offset - area.offset, range.size);
  }

  registers(range: ByteRange = { offset: 0, size: this.size }): Registers {
    this.#range(range);
    const pieces = this.#areas
      .filter((area) => area.offset < range.offset + range.size && range.offset < area.offset + area.size)
      .map((area): RegisterPiece => this.#piece(area));
    const [whole] = pieces;
    // The usual case needs no indirection: one window that holds all of it.
    if (whole !== undefined && range.size > 0 && range.offset % 8 === 0 && whole.covers(range)) {
      return whole.window.slice(range.offset - whole.offset, range.size);
    }
    return new PieceRegisters(this, range, pieces);
  }

  #piece(area: BarArea): RegisterPiece {
    const { offset, size } = area;
    let window = this.#shared.get(area);
    if (window === undefined) {
      window = this.#window(area.range.offset, size);
      this.#shared.set(area, window);
    }
    return {
      window,
      offset,
      size,
      covers: (wanted) => wanted.offset >= offset && wanted.offset + wanted.size <= offset + size,
    };
  }

  /** Windows that `registers()` made, for workers. */
  windows(): { bar: BarIndex; offset: number; window: WindowHandle }[] {
    return Array.from(this.#shared, ([{ offset }, window]) => ({ bar: this.index, offset, window: window.handle() }));
  }

  /** Whether accesses are answered now. */
  enable(on: boolean): void {
    for (const window of this.#windows) {
      if (window.state === "revoked") this.#windows.delete(window);
      else if (on) window.resume();
      else window.suspend();
    }
  }

  /** The BAR's memory may lie elsewhere from now on. */
  resized(): void {
    this.close();
    this.#shared.clear();
  }

  /** Revokes every window. */
  close(): void {
    for (const window of this.#windows) window.revoke();
    this.#windows.clear();
  }

  #window(offset: number, size: number): OwnedWindow {
    const window = OwnedWindow.over(this.#device.arena, offset, size);
    for (const known of this.#windows) if (known.state === "revoked") this.#windows.delete(known);
    this.#windows.add(window);
    return window;
  }

  #areaOf({ offset, size }: ByteRange): BarArea | undefined {
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size > 0)) return undefined;
    return this.#areas.find((area) => offset >= area.offset && offset + size <= area.offset + area.size);
  }

  #place(offset: number, width: number): number {
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset % width === 0 && offset + width <= this.size)) {
      this.#check();
      throw new Ring3Error(
        "REGISTER_RANGE",
        `a ${width * 8}-bit access at offset ${offset} of BAR ${this.index} is misaligned or leaves its ${this.size} bytes`,
      );
    }
    this.#checkDecoding();
    return offset;
  }

  #range({ offset, size }: ByteRange): void {
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0;
    if (!inside || offset + size > this.size) {
      this.#check();
      throw new Ring3Error(
        "REGISTER_RANGE",
        `${size} bytes at ${offset} leave the ${this.size} bytes of BAR ${this.index}`,
      );
    }
    this.#checkDecoding();
  }

  #checkDecoding(): void {
    this.#check();
    if (this.kind === "none" || this.#device.decodes(this.index)) return;
    throw new Ring3Error(
      "REGION_DISABLED",
      `BAR ${this.index} does not answer now: its decoding is off in COMMAND, or the function sleeps; switch it back first`,
    );
  }
}

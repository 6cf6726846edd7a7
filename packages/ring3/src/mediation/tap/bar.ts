// Registers and BARs with a tap before them. Nothing can be mapped: a mapping is memory, and nobody sees what is done to
// memory. The accesses themselves may well go to a mapping behind the tap.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { Bar, BarIndex, ByteRange, MappedRegisters } from "../../pci/function.ts";
import type { Area, FunctionTap } from "./tap.ts";

/** What has to be done around each access, so that memory is in step with it. */
export interface AccessFrame {
  readonly tap: FunctionTap;
  /** Throws once the function is gone. */
  check(): void;
  /** Before the device is told anything. */
  before(): void;
  /** After it answered. */
  after(): void;
}

class TappedRegisters implements Registers {
  readonly arenaOffset: undefined = undefined;
  protected readonly area: Area;
  protected readonly frame: AccessFrame;
  readonly #target: Registers;

  constructor(target: Registers, area: Area, frame: AccessFrame) {
    this.#target = target;
    this.area = area;
    this.frame = frame;
  }

  get size(): number {
    return this.#target.size;
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
    this.frame.before();
    const value = this.frame.tap.read64(this.area, this.#target, offset);
    this.frame.after();
    return value;
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
    this.frame.before();
    this.frame.tap.write64(this.area, this.#target, offset, value);
    this.frame.after();
  }

  #read(offset: number, width: 1 | 2 | 4): number {
    const { frame } = this;
    frame.before();
    const value = frame.tap.read(this.area, this.#target, offset, width);
    frame.after();
    return value;
  }

  #write(offset: number, width: 1 | 2 | 4, value: number): void {
    const { frame } = this;
    frame.before();
    frame.tap.write(this.area, this.#target, offset, width, value);
    frame.after();
  }
}

export class TappedBar extends TappedRegisters implements Bar {
  readonly index: BarIndex;
  readonly #bar: Bar;
  readonly #passthrough: boolean;

  /** With `passthrough` what is mapped is not seen, and can be mapped. */
  constructor(bar: Bar, frame: AccessFrame, passthrough: boolean) {
    super(bar, { space: "bar", bar: bar.index, base: 0 }, frame);
    this.index = bar.index;
    this.#bar = bar;
    this.#passthrough = passthrough;
  }

  get kind(): Bar["kind"] {
    return this.#bar.kind;
  }

  get prefetchable(): boolean {
    return this.#bar.prefetchable;
  }

  get mappable(): readonly ByteRange[] {
    return this.#passthrough ? this.#bar.mappable : [];
  }

  map(range?: ByteRange): MappedRegisters {
    if (this.#passthrough) return this.#bar.map(range);
    this.frame.check();
    throw new Ring3Error(
      "NOT_MAPPABLE",
      `every access to BAR ${this.index} is watched, so it cannot be mapped; \`registers()\` gives the same registers, ` +
        "and a BAR that is named as passthrough is not watched",
    );
  }

  registers(range?: ByteRange): Registers {
    const target = this.#bar.registers(range);
    if (this.#passthrough) return target;
    return new TappedRegisters(target, { space: "bar", bar: this.index, base: range?.offset ?? 0 }, this.frame);
  }

  readBytes(offset: number, size: number): Uint8Array {
    this.frame.before();
    const bytes = this.frame.tap.readBytes(this.area, this.#bar, offset, size);
    this.frame.after();
    return bytes;
  }

  writeBytes(offset: number, bytes: Uint8Array): void {
    this.frame.before();
    this.frame.tap.writeBytes(this.area, this.#bar, offset, bytes);
    this.frame.after();
  }
}

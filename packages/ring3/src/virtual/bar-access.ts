// The bus side of all BARs: what decodes is decided once, when COMMAND or the power state changes, and nothing that is asked
// for and nothing that a model throws gets past here.
import type { BarIndex } from "../pci/function.ts";
import type { VirtualBar } from "./bars.ts";

export class BarAccess {
  readonly #bars: readonly VirtualBar[];
  readonly #fail: (error: unknown) => void;
  #memory = false;
  #io = false;

  /** `fail` hears of what the model throws. */
  constructor(bars: readonly VirtualBar[], fail: (error: unknown) => void) {
    this.#bars = bars;
    this.#fail = fail;
  }

  /** Sets which address spaces are answered; whether that is a change. */
  decode(memory: boolean, io: boolean): boolean {
    if (memory === this.#memory && io === this.#io) return false;
    this.#memory = memory;
    this.#io = io;
    return true;
  }

  decodes(bar: BarIndex): boolean {
    const kind = this.#bars[bar]?.kind ?? "none";
    return kind === "io" ? this.#io : kind !== "none" && this.#memory;
  }

  /** Any offset and length; `false`, and ones, where nothing answers. */
  readInto(bar: BarIndex, offset: number, target: Uint8Array): boolean {
    const found = this.#answering(bar, offset, target.length);
    if (found === undefined) {
      target.fill(0xff);
      return false;
    }
    try {
      found.readInto(offset, target);
    } catch (error) {
      target.fill(0xff);
      this.#fail(error);
    }
    return true;
  }

  writeFrom(bar: BarIndex, offset: number, source: Uint8Array): boolean {
    const found = this.#answering(bar, offset, source.length);
    if (found === undefined) return false;
    try {
      found.writeFrom(offset, source);
    } catch (error) {
      this.#fail(error);
    }
    return true;
  }

  read(bar: BarIndex, offset: number, width: 1 | 2 | 4): number {
    const found = offset % width === 0 ? this.#answering(bar, offset, width) : undefined;
    if (found !== undefined) {
      try {
        return found.read(offset, width);
      } catch (error) {
        this.#fail(error);
      }
    }
    return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
  }

  read64(bar: BarIndex, offset: number): bigint {
    const found = offset % 8 === 0 ? this.#answering(bar, offset, 8) : undefined;
    if (found !== undefined) {
      try {
        return found.read64(offset);
      } catch (error) {
        this.#fail(error);
      }
    }
    return 0xffff_ffff_ffff_ffffn;
  }

  write(bar: BarIndex, offset: number, width: 1 | 2 | 4, value: number): void {
    const found = offset % width === 0 ? this.#answering(bar, offset, width) : undefined;
    if (found === undefined) return;
    try {
      found.write(offset, width, value);
    } catch (error) {
      this.#fail(error);
    }
  }

  write64(bar: BarIndex, offset: number, value: bigint): void {
    const found = offset % 8 === 0 ? this.#answering(bar, offset, 8) : undefined;
    if (found === undefined) return;
    try {
      found.write64(offset, value);
    } catch (error) {
      this.#fail(error);
    }
  }

  #answering(bar: BarIndex, offset: number, length: number): VirtualBar | undefined {
    const found = this.#bars[bar];
    if (found === undefined || !this.decodes(bar)) return undefined;
    return Number.isInteger(offset) && offset >= 0 && offset <= found.size - length ? found : undefined;
  }
}

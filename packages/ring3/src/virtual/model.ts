// What a device model overrides: accesses, and what happens to it. All of it has a default, so that a model says only what
// it is. These methods are called by the function, one at a time; an exception is reported and gets no further.
import type { BarIndex } from "../pci/function.ts";
import type { BarModel } from "./bars.ts";
import type { ResetKind } from "./config.ts";
import type { BarHandlers, FunctionDeclaration } from "./declaration.ts";
import type { VirtualPowerState } from "./function-events.ts";
import type { MemoryMap } from "./guest-memory.ts";
import type { StateRecord } from "./state.ts";

const ALL_ONES = 0xffff_ffff;
const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn;

/** The model's side of a {@link VirtualFunction}. */
export class FunctionModel {
  readonly declaration: FunctionDeclaration;

  constructor(declaration: FunctionDeclaration) {
    this.declaration = declaration;
  }

  /** Accesses of each width; by default the declaration's handlers answer. Exceptions are reported, and reads give ones. */
  protected read8(bar: BarIndex, offset: number): number {
    return this.#handlers(bar)?.read8?.(offset) ?? 0xff;
  }
  protected read16(bar: BarIndex, offset: number): number {
    return this.#handlers(bar)?.read16?.(offset) ?? 0xffff;
  }
  protected read32(bar: BarIndex, offset: number): number {
    return this.#handlers(bar)?.read32?.(offset) ?? ALL_ONES;
  }
  protected read64(bar: BarIndex, offset: number): bigint {
    return this.#handlers(bar)?.read64?.(offset) ?? ALL_ONES_64;
  }
  protected write8(bar: BarIndex, offset: number, value: number): void {
    this.#handlers(bar)?.write8?.(offset, value);
  }
  protected write16(bar: BarIndex, offset: number, value: number): void {
    this.#handlers(bar)?.write16?.(offset, value);
  }
  protected write32(bar: BarIndex, offset: number, value: number): void {
    this.#handlers(bar)?.write32?.(offset, value);
  }
  protected write64(bar: BarIndex, offset: number, value: bigint): void {
    this.#handlers(bar)?.write64?.(offset, value);
  }

  /**
   * Back to power-on state. By then config space has its reset values, bus mastering is off, no interrupt is pending, the
   * line is down, and memory BARs hold zeros.
   */
  protected onReset(_kind: ResetKind): void {}
  /** PMCSR changed the state. Leaving D3hot without NO_SOFT_RESET resets before. */
  protected onPower(_state: VirtualPowerState): void {}
  /** DMA and messages became possible, or no longer are: COMMAND, the power state, a client's absence and `suspend` count. */
  protected onBusMaster(_on: boolean): void {}
  /** Whether a map may be: throws a `Ring3Error`, which the client gets, where not. */
  protected admitMap(_map: MemoryMap): void {}
  protected onMap(_map: MemoryMap): void {}
  /** A map is gone: let go of it and of every view of it now, before its memory is. */
  protected onUnmap(_map: MemoryMap): void {}
  /** A client came. */
  protected onConnect(): void {}
  /** A client went: its maps are gone already, the reset (unless state is kept) comes after. */
  protected onDisconnect(): void {}
  /** Take nothing new and end what is under way, DMA included; resolves when all of it is in what {@link saveDevice} gives. */
  protected onSuspend(): void | Promise<void> {}
  /** Go on after {@link onSuspend}. */
  protected onResume(): void {}
  /** A resizable BAR has another size. */
  protected onResize(_bar: BarIndex, _size: number): void {}
  /** What the model has to remember beyond config space, interrupts and BAR memory. */
  protected saveDevice(): StateRecord {
    return {};
  }
  /** Takes what `saveDevice` gave: validated by the model, which throws `STATE_INVALID` before it changes anything. */
  protected restoreDevice(_state: StateRecord): void {}
  /**
   * The state that was just restored is older than what the device did: the process that saved it went on and was killed.
   * A device that tells its driver of finished work in the driver's memory must not go on from there, since it would do
   * again what is done: it stops and says that it needs a reset.
   */
  protected onStale(): void {}
  /**
   * For devices whose doorbells lie in BAR memory, where no write calls anybody: looks at them, and returns how much work
   * it found. Hosts call it in bursts while {@link polled} is true.
   */
  protected poll?(): number;

  #handlers(bar: BarIndex): BarHandlers | undefined {
    return this.declaration.bars?.[bar];
  }

  /** The model's accesses, and for which widths it has any: those that a subclass overrides and those declared. */
  protected accesses(): BarModel {
    const base = FunctionModel.prototype;
    const widths = (bar: BarIndex, kind: "read" | "write"): number => {
      let sum = 0;
      for (const width of [1, 2, 4, 8] as const) {
        const name = `${kind}${(8 * width) as 8 | 16 | 32 | 64}` as const;
        if (this[name] !== base[name] || this.#handlers(bar)?.[name] !== undefined) sum += width;
      }
      return sum;
    };
    return {
      reads: (bar) => widths(bar, "read"),
      writes: (bar) => widths(bar, "write"),
      read8: (bar, offset) => this.read8(bar, offset),
      read16: (bar, offset) => this.read16(bar, offset),
      read32: (bar, offset) => this.read32(bar, offset),
      read64: (bar, offset) => this.read64(bar, offset),
      write8: (bar, offset, value) => this.write8(bar, offset, value),
      write16: (bar, offset, value) => this.write16(bar, offset, value),
      write32: (bar, offset, value) => this.write32(bar, offset, value),
      write64: (bar, offset, value) => this.write64(bar, offset, value),
    };
  }
}

// A small device for tests of everything that serves devices: registers by handlers, memory that can be mapped, interrupts of
// all kinds, a copy engine. It keeps no secrets: tests look at what it was told.
import { Ring3Error } from "../../packages/ring3/src/binary/error.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import type { BarIndex } from "../../packages/ring3/src/pci/function.ts";
import {
  type FunctionDeclaration,
  type MemoryMap,
  msi,
  msix,
  pcie,
  pm,
  type ResetKind,
  StateFields,
  type StateRecord,
  VirtualFunction,
} from "../../packages/ring3/src/virtual/index.ts";

/** Registers of BAR 0, 32 bits each. The page at 0x1000 is plain memory. */
export const Sample = {
  CONSTANT: 0x00,
  SCRATCH: 0x04,
  SOURCE: 0x10,
  TARGET: 0x18,
  SIZE: 0x20,
  /** Writing copies SIZE bytes at once; reads 0 after success, 1 after a fault. */
  COPY: 0x24,
  /** Writing raises a vector, or in INTx mode the line. */
  RAISE: 0x28,
  /** Writing lowers the line. */
  LOWER: 0x2c,
  /** Writing makes the model throw. */
  THROW: 0x30,
  MEMORY: 0x1000,
} as const;

export const SAMPLE_CONSTANT = 0x1234_5678;

export interface SampleOptions extends Partial<FunctionDeclaration> {
  readonly arena?: Arena;
}

export class SampleDevice extends VirtualFunction {
  /** What the bus and the users did, in words. */
  readonly told: string[] = [];
  scratch = 0;
  readonly #copy: { source: number; target: number; size: number; failed: number } = {
    source: 0,
    target: 0,
    size: 0,
    failed: 0,
  };

  constructor(options: SampleOptions = {}) {
    super({
      name: "sample",
      vendorId: 0x1234,
      deviceId: 0x5a5a,
      classCode: 0xff0000,
      interruptPin: "A",
      bars: {
        0: { size: 0x4000, kind: "memory64", memory: [{ offset: Sample.MEMORY, size: 0x1000 }] },
        2: { size: 32, kind: "io", read8: () => 0 },
      },
      rom: Uint8Array.of(0x55, 0xaa, 1, 2, 3),
      capabilities: [
        pm(),
        msi({ vectors: 4, perVectorMasking: true }),
        pcie(),
        msix({ vectors: 8, table: { bar: 0, offset: 0x2000 }, pendingBits: { bar: 0, offset: 0x3000 } }),
      ],
      ...options,
    });
  }

  protected override read32(bar: BarIndex, offset: number): number {
    if (bar !== 0) return 0;
    switch (offset) {
      case Sample.CONSTANT:
        return SAMPLE_CONSTANT;
      case Sample.SCRATCH:
        return this.scratch;
      case Sample.COPY:
        return this.#copy.failed;
      default:
        return 0;
    }
  }

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    if (bar !== 0) return;
    switch (offset) {
      case Sample.SCRATCH:
        this.scratch = value;
        break;
      case Sample.SOURCE:
      case Sample.SOURCE + 4:
        this.#copy.source = half(this.#copy.source, offset === Sample.SOURCE, value);
        break;
      case Sample.TARGET:
      case Sample.TARGET + 4:
        this.#copy.target = half(this.#copy.target, offset === Sample.TARGET, value);
        break;
      case Sample.SIZE:
        this.#copy.size = value;
        break;
      case Sample.COPY:
        this.#run();
        break;
      case Sample.RAISE:
        if (this.interrupts.mode === "intx") this.interrupts.level(true);
        else this.interrupts.raise(value);
        break;
      case Sample.LOWER:
        this.interrupts.level(false);
        break;
      case Sample.THROW:
        throw new Error("the model failed on purpose");
    }
  }

  #run(): void {
    const { source, target, size } = this.#copy;
    try {
      if (size > 2 ** 20) throw new Ring3Error("DMA_RANGE", "too much for a sample");
      const bytes = new Uint8Array(size);
      this.memory.read(source, bytes);
      this.memory.write(target, bytes);
      this.#copy.failed = 0;
    } catch (error) {
      if (!(error instanceof Ring3Error)) throw error;
      this.#copy.failed = 1;
    }
  }

  protected override onReset(kind: ResetKind): void {
    this.told.push(`reset ${kind}`);
    this.scratch = 0;
    Object.assign(this.#copy, { source: 0, target: 0, size: 0, failed: 0 });
  }

  protected override onPower(state: string): void {
    this.told.push(`power ${state}`);
  }

  protected override onBusMaster(on: boolean): void {
    this.told.push(`bus master ${on ? "on" : "off"}`);
  }

  protected override onMap(map: MemoryMap): void {
    this.told.push(`map ${map.iova.toString(16)}`);
  }

  protected override onUnmap(map: MemoryMap): void {
    this.told.push(`unmap ${map.iova.toString(16)}`);
  }

  protected override onConnect(): void {
    this.told.push("connect");
  }

  protected override onDisconnect(): void {
    this.told.push("disconnect");
  }

  protected override onResize(bar: BarIndex, size: number): void {
    this.told.push(`resize ${bar} ${size}`);
  }

  protected override saveDevice(): StateRecord {
    return { scratch: this.scratch, ...this.#copy };
  }

  protected override restoreDevice(state: StateRecord): void {
    const fields = new StateFields(state, "sample");
    const scratch = fields.number("scratch", { maximum: 0xffff_ffff });
    const copy = {
      source: fields.number("source"),
      target: fields.number("target"),
      size: fields.number("size"),
      failed: fields.number("failed", { maximum: 1 }),
    };
    this.scratch = scratch;
    Object.assign(this.#copy, copy);
  }
}

function half(address: number, low: boolean, value: number): number {
  return low ? address - (address % 2 ** 32) + value : (address % 2 ** 32) + value * 2 ** 32;
}

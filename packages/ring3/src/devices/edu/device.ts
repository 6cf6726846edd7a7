// QEMU's educational device, after docs/specs/edu.rst: liveness, a factorial that takes a while, interrupts by register
// and on completion, and a DMA engine over a 4 KiB buffer. Hard about it: what is asked for is done in a later turn, so
// everything under way has to be forgotten at a reset and taken up again after a restore.
import { Ring3Error } from "../../binary/error.ts";
import type { BarIndex } from "../../pci/function.ts";
import {
  EDU_ADDRESS_BITS,
  EDU_MAGIC,
  Edu,
  EduBuffer,
  EduDma,
  EduIds,
  EduInterrupt,
  EduStatus,
} from "../../specs/edu/registers.ts";
import {
  type CapabilityBuilder,
  handled,
  msi,
  type ResetKind,
  StateFields,
  type StateRecord,
  VirtualFunction,
} from "../../virtual/index.ts";
import { type DeviceClock, machineClock } from "../clock.ts";

export interface EduDeviceOptions {
  readonly name?: string;
  /** Address bits that the DMA engine drives, as QEMU's `dma_mask`; 28 by default, 52 at most. */
  readonly addressBits?: number;
  /** How long a transfer takes, in milliseconds; 0 (the next turn of the event loop) by default. QEMU's takes 100. */
  readonly transferMs?: number;
  /** Capabilities besides MSI; QEMU's has none. With `pcie()`, `af()` or `pm()` it can be reset by its own registers. */
  readonly capabilities?: readonly CapabilityBuilder[];
  readonly clock?: DeviceClock;
}

const ALL_ONES = 0xffff_ffff;
/** Version 1.0 in bits 31:16. */
const IDENTIFICATION = 0x0100_0000 | EDU_MAGIC;

/**
 * QEMU's `edu`.
 *
 * @example run
 * import { EduDevice } from "ring3/devices/edu";
 * import { EduDriver } from "ring3/edu";
 * import { inProcess } from "ring3/virtual";
 * await using fn = inProcess(new EduDevice());
 * await using edu = await EduDriver.start(fn);
 * await edu.factorial(10); // 3628800
 */
export class EduDevice extends VirtualFunction {
  readonly #clock: DeviceClock;
  readonly #transferMs: number;
  readonly #addressLimit: number;
  readonly #buffer: Uint8Array = new Uint8Array(EduBuffer.SIZE);
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #causes = 0;
  #source = 0n;
  #destination = 0n;
  #count = 0n;
  #command = 0n;
  /** Changes when what is under way must not end any more. */
  #epoch = 0;

  constructor(options: EduDeviceOptions = {}) {
    const addressBits = options.addressBits ?? EDU_ADDRESS_BITS;
    if (!(Number.isInteger(addressBits) && addressBits >= 1 && addressBits <= 52)) {
      throw new RangeError(`addressBits is a whole number from 1 to 52, not ${addressBits}`);
    }
    super({
      name: options.name ?? "edu",
      modelVersion: 1,
      vendorId: EduIds.VENDOR,
      deviceId: EduIds.DEVICE,
      subsystemVendorId: EduIds.SUBSYSTEM_VENDOR,
      subsystemId: EduIds.SUBSYSTEM,
      revision: EduIds.REVISION,
      classCode: EduIds.CLASS_CODE,
      interruptPin: "A",
      capabilities: [msi({ vectors: 1, address64: true }), ...(options.capabilities ?? [])],
      // Registers below 0x80 take 32-bit accesses only, which the handlers look after.
      bars: { 0: { ...handled(Edu.SIZE), widths: [4, 8] } },
    });
    this.#clock = options.clock ?? machineClock;
    this.#transferMs = options.transferMs ?? 0;
    this.#addressLimit = 2 ** addressBits;
  }

  protected override read32(_bar: BarIndex, offset: number): number {
    switch (offset) {
      case Edu.IDENTIFICATION:
        return IDENTIFICATION;
      case Edu.LIVENESS:
        return this.#liveness;
      case Edu.FACTORIAL:
        return this.#factorial;
      case Edu.STATUS:
        return this.#status;
      case Edu.INTERRUPT_STATUS:
        return this.#causes;
      default:
        // The upper half of a DMA register is an offset that the device does not know.
        return offset < Edu.DMA_SOURCE ? ALL_ONES : Number(BigInt.asUintN(32, this.read64(_bar, offset)));
    }
  }

  protected override read64(_bar: BarIndex, offset: number): bigint {
    switch (offset) {
      case Edu.DMA_SOURCE:
        return this.#source;
      case Edu.DMA_DESTINATION:
        return this.#destination;
      case Edu.DMA_COUNT:
        return this.#count;
      case Edu.DMA_COMMAND:
        return this.#command;
      default:
        return 0xffff_ffff_ffff_ffffn;
    }
  }

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    switch (offset) {
      case Edu.LIVENESS:
        this.#liveness = ~value >>> 0;
        break;
      case Edu.FACTORIAL:
        if (EduStatus.COMPUTING.test(this.#status)) break;
        this.#factorial = value;
        this.#status |= EduStatus.COMPUTING.mask;
        this.#compute();
        break;
      case Edu.STATUS:
        this.#status = (this.#status & EduStatus.COMPUTING.mask) | (value & EduStatus.INTERRUPT_WHEN_DONE.mask);
        break;
      case Edu.INTERRUPT_RAISE:
        this.#raise(value);
        break;
      case Edu.INTERRUPT_ACKNOWLEDGE:
        this.#causes = (this.#causes & ~value) >>> 0;
        if (this.#causes === 0) this.interrupts.level(false);
        break;
      default:
        // A 32-bit write sets the whole 64-bit register.
        if (offset >= Edu.DMA_SOURCE) this.write64(bar, offset, BigInt(value));
    }
  }

  protected override write64(_bar: BarIndex, offset: number, value: bigint): void {
    // While a transfer runs its registers do not change.
    if ((this.#command & BigInt(EduDma.START.mask)) !== 0n) return;
    switch (offset) {
      case Edu.DMA_SOURCE:
        this.#source = value;
        break;
      case Edu.DMA_DESTINATION:
        this.#destination = value;
        break;
      case Edu.DMA_COUNT:
        this.#count = value;
        break;
      case Edu.DMA_COMMAND:
        if ((value & BigInt(EduDma.START.mask)) === 0n) break;
        this.#command = value;
        this.#startTransfer();
        break;
    }
  }

  #raise(causes: number): void {
    this.#causes = (this.#causes | causes) >>> 0;
    if (this.#causes === 0) return;
    if (this.interrupts.mode === "msi") this.interrupts.raise(0);
    else this.interrupts.level(true);
  }

  #compute(): void {
    const epoch = this.#epoch;
    this.#clock.soon(() => {
      if (epoch !== this.#epoch) return;
      this.#factorial = factorial(this.#factorial);
      this.#status &= ~EduStatus.COMPUTING.mask;
      if (EduStatus.INTERRUPT_WHEN_DONE.test(this.#status)) this.#raise(EduInterrupt.FACTORIAL);
    });
  }

  #startTransfer(): void {
    const epoch = this.#epoch;
    const end = (): void => {
      if (epoch === this.#epoch) this.#endTransfer();
    };
    if (this.#transferMs > 0) this.#clock.after(this.#transferMs, end);
    else this.#clock.soon(end);
  }

  /** Moves the bytes. A transfer that does not fit, or that faults, ends like any other but moves nothing. */
  #endTransfer(): void {
    const command = Number(BigInt.asUintN(32, this.#command));
    const out = EduDma.TO_MEMORY.test(command);
    const at = Number(out ? this.#source : this.#destination) - EduBuffer.ADDRESS;
    const size = Number(this.#count);
    const iova = Number((out ? this.#destination : this.#source) % BigInt(this.#addressLimit));
    try {
      if (!(at >= 0 && at + size <= EduBuffer.SIZE)) {
        throw new Ring3Error("DMA_RANGE", `${size} bytes at ${at} do not fit in edu's buffer of ${EduBuffer.SIZE}`);
      }
      const part = this.#buffer.subarray(at, at + size);
      if (size > 0 && out) this.memory.write(iova, part);
      else if (size > 0) this.memory.read(iova, part);
    } catch (error) {
      if (!(error instanceof Ring3Error)) throw error;
      if (error.code !== "DMA_FAULT") this.fail(error);
    }
    this.#command &= ~BigInt(EduDma.START.mask);
    if (EduDma.INTERRUPT_WHEN_DONE.test(command)) this.#raise(EduInterrupt.DMA);
  }

  protected override onReset(_kind: ResetKind): void {
    this.#epoch++;
    this.#liveness = 0;
    this.#factorial = 0;
    this.#status = 0;
    this.#causes = 0;
    this.#source = 0n;
    this.#destination = 0n;
    this.#count = 0n;
    this.#command = 0n;
    this.#buffer.fill(0);
    this.interrupts.level(false);
  }

  protected override saveDevice(): StateRecord {
    return {
      liveness: this.#liveness,
      factorial: this.#factorial,
      status: this.#status,
      causes: this.#causes,
      source: this.#source,
      destination: this.#destination,
      count: this.#count,
      command: this.#command,
      buffer: this.#buffer.slice(),
    };
  }

  protected override restoreDevice(state: StateRecord): void {
    const fields = new StateFields(state, "edu");
    const word = (key: string): number => fields.number(key, { maximum: ALL_ONES });
    const words = [word("liveness"), word("factorial"), word("status"), word("causes")] as const;
    const wides = [
      fields.bigint("source"),
      fields.bigint("destination"),
      fields.bigint("count"),
      fields.bigint("command"),
    ] as const;
    const buffer = fields.bytes("buffer", EduBuffer.SIZE);
    this.#epoch++;
    [this.#liveness, this.#factorial, this.#status, this.#causes] = words;
    [this.#source, this.#destination, this.#count, this.#command] = wides;
    this.#buffer.set(buffer);
    if (EduStatus.COMPUTING.test(this.#status)) this.#compute();
    if ((this.#command & BigInt(EduDma.START.mask)) !== 0n) this.#startTransfer();
  }
}

/** Modulo 2^32: from 34 on the product holds the factor 2 at least 32 times. */
function factorial(n: number): number {
  if (n >= 34) return 0;
  let product = 1;
  for (let i = 2; i <= n; i++) product = Math.imul(product, i);
  return product >>> 0;
}

// A whole driver to read first: registers, an interrupt, DMA, and coming back after a reset. The device is QEMU's `edu`
// (docs/specs/edu.rst). Hard about it: a line interrupt stays up until its causes are acknowledged, so the order is
// always read the causes, acknowledge them, unmask.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { DmaBuffer, Interrupt, LineInterrupt, PciFunction } from "../../pci/function.ts";
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
import { type Clock, sleep, systemClock } from "../clock.ts";

/** How the driver learns that something is done. */
export type EduCompletion = "poll" | "intx" | "msi";

export interface EduOptions {
  /** `msi` where the function offers it, else `intx`, else `poll`. */
  readonly completion?: EduCompletion;
  /** How long one operation may take, in milliseconds; 5000 by default. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

/**
 * The driver of QEMU's educational device.
 *
 * @example
 * import { EduDriver } from "ring3/edu";
 * await using edu = await EduDriver.start(fn);
 * await edu.factorial(10); // 3628800
 */
export class EduDriver implements AsyncDisposable {
  readonly #fn: PciFunction;
  readonly #registers: Registers;
  readonly #buffer: DmaBuffer;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly completion: EduCompletion;
  #interrupt: Interrupt | LineInterrupt | undefined;
  #busy: Promise<unknown> = Promise.resolve();

  private constructor(fn: PciFunction, options: EduOptions) {
    this.#fn = fn;
    this.#clock = options.clock ?? systemClock;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#registers = fn.bar(0).registers();
    const { msi, intx } = fn.interrupts.available;
    this.completion = options.completion ?? (msi > 0 ? "msi" : intx > 0 ? "intx" : "poll");
    this.#buffer = fn.dma.allocate(EduBuffer.SIZE, { below: 2 ** EDU_ADDRESS_BITS });
  }

  /** Takes the function over. Throws `WRONG_DEVICE` where it is no edu. */
  static async start(fn: PciFunction, options: EduOptions = {}): Promise<EduDriver> {
    const { vendorId, deviceId, address } = fn.identity;
    if (vendorId !== EduIds.VENDOR || deviceId !== EduIds.DEVICE) {
      const ids = `${vendorId.toString(16).padStart(4, "0")}:${deviceId.toString(16).padStart(4, "0")}`;
      throw new Ring3Error(
        "WRONG_DEVICE",
        `${address} is ${ids}, not QEMU's edu (1234:11e8); start QEMU with -device edu`,
      );
    }
    const driver = new EduDriver(fn, options);
    try {
      driver.#initialize();
      return driver;
    } catch (error) {
      driver.#buffer[Symbol.dispose]();
      throw error;
    }
  }

  #initialize(): void {
    const identification = this.#registers.read32(Edu.IDENTIFICATION);
    if ((identification & 0xff) !== EDU_MAGIC || identification === 0xffff_ffff) {
      const read = identification.toString(16).padStart(8, "0");
      throw new Ring3Error(
        "WRONG_DEVICE",
        `${this.#fn.identity.address} identifies as 0x${read}; edu reads 0xRRrr00ed`,
      );
    }
    this.#fn.busMaster = true;
    this.#registers.write32(Edu.STATUS, 0);
    this.#registers.write32(Edu.INTERRUPT_ACKNOWLEDGE, this.#registers.read32(Edu.INTERRUPT_STATUS));
    if (this.completion === "msi") this.#interrupt = this.#fn.interrupts.msi(1)[0];
    else if (this.completion === "intx") this.#interrupt = this.#fn.interrupts.intx();
  }

  /** Major and minor version of the device. */
  version(): { readonly major: number; readonly minor: number } {
    const identification = this.#registers.read32(Edu.IDENTIFICATION);
    return { major: identification >>> 24, minor: (identification >>> 16) & 0xff };
  }

  /** Writes `value` and returns what the device makes of it: every bit inverted. */
  liveness(value: number): number {
    this.#registers.write32(Edu.LIVENESS, value);
    return this.#registers.read32(Edu.LIVENESS);
  }

  /** `n` factorial modulo 2^32, computed by the device. */
  factorial(n: number): Promise<number> {
    return this.#exclusive(async () => {
      const interrupts = this.#interrupt !== undefined;
      this.#registers.write32(Edu.STATUS, interrupts ? EduStatus.INTERRUPT_WHEN_DONE.mask : 0);
      this.#registers.write32(Edu.FACTORIAL, n);
      await this.#done(EduInterrupt.FACTORIAL, () => !EduStatus.COMPUTING.test(this.#registers.read32(Edu.STATUS)));
      return this.#registers.read32(Edu.FACTORIAL);
    });
  }

  /** Copies `bytes` (4096 at most) by DMA into the device's buffer, from `offset` on. */
  store(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#exclusive(() => {
      this.#buffer.bytes.set(bytes);
      return this.#transfer(this.#buffer.iova, EduBuffer.ADDRESS + offset, bytes.length, 0);
    }, [offset, bytes.length]);
  }

  /** Copies `size` bytes by DMA out of the device's buffer, from `offset` on. */
  load(offset: number, size: number): Promise<Uint8Array> {
    return this.#exclusive(async () => {
      await this.#transfer(EduBuffer.ADDRESS + offset, this.#buffer.iova, size, EduDma.TO_MEMORY.mask);
      return this.#buffer.bytes.slice(0, size);
    }, [offset, size]);
  }

  /** Resets the function and makes it work again: nothing of the device's state survives. */
  reset(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#fn.reset();
      this.#initialize();
    });
  }

  async #transfer(source: number, destination: number, size: number, direction: number): Promise<void> {
    // A 32-bit store sets the whole 64-bit register of this device; the addresses fit in 28 bits.
    this.#registers.write32(Edu.DMA_SOURCE, source);
    this.#registers.write32(Edu.DMA_DESTINATION, destination);
    this.#registers.write32(Edu.DMA_COUNT, size);
    const interrupt = this.#interrupt === undefined ? 0 : EduDma.INTERRUPT_WHEN_DONE.mask;
    this.#registers.write32(Edu.DMA_COMMAND, EduDma.START.mask | direction | interrupt);
    await this.#done(EduInterrupt.DMA, () => !EduDma.START.test(this.#registers.read32(Edu.DMA_COMMAND)));
  }

  /** Waits for `cause` by interrupt, or for `finished` by looking. */
  async #done(cause: number, finished: () => boolean): Promise<void> {
    const deadline = this.#clock.now() + this.#timeoutMs;
    for (;;) {
      const left = deadline - this.#clock.now();
      if (left <= 0) throw new Ring3Error("TIMEOUT", `edu did not finish within ${this.#timeoutMs} ms; reset it`);
      if (this.#interrupt === undefined) {
        if (finished()) return;
        await sleep(this.#clock, 1, this.#fn.gone);
        continue;
      }
      await this.#interrupt.next({ timeoutMs: left, signal: this.#fn.gone });
      const causes = this.#registers.read32(Edu.INTERRUPT_STATUS);
      this.#registers.write32(Edu.INTERRUPT_ACKNOWLEDGE, causes);
      if ("unmask" in this.#interrupt) this.#interrupt.unmask();
      if ((causes & cause) !== 0) return;
    }
  }

  /** One operation at a time: the device has one engine and one set of causes. */
  async #exclusive<T>(operation: () => Promise<T>, range: readonly [number, number] = [0, 0]): Promise<T> {
    const [offset, size] = range;
    if (!(offset >= 0 && size >= 0 && offset + size <= EduBuffer.SIZE)) {
      throw new Ring3Error("DMA_RANGE", `edu's buffer holds ${EduBuffer.SIZE} bytes; ${size} at ${offset} do not fit`);
    }
    const result = this.#busy.then(operation);
    this.#busy = result.catch(() => undefined);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#busy;
    this.#fn.interrupts.disable();
    if (!this.#fn.gone.aborted) this.#fn.busMaster = false;
    this.#buffer[Symbol.dispose]();
  }
}

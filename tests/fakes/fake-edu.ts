// QEMU's edu in process, as far as its driver touches it: registers, factorial, DMA, both kinds of interrupt.
import { Edu, EduBuffer, EduIds } from "../../packages/ring3/src/specs/edu/registers.ts";
import { FakeFunction } from "./fake-function.ts";

const MEBIBYTE = 2 ** 20;

export class FakeEdu {
  readonly fn: FakeFunction;
  /** Identification; a test may lie. */
  identification = 0x0100_00ed;
  /** Does nothing that was asked for. */
  stuck = false;
  readonly #buffer: Uint8Array = new Uint8Array(EduBuffer.SIZE);
  readonly #registers: Map<number, number> = new Map();
  #causes = 0;

  constructor(options: { readonly msi?: number; readonly intx?: boolean } = {}) {
    this.fn = new FakeFunction({
      vendorId: EduIds.VENDOR,
      deviceId: EduIds.DEVICE,
      classCode: 0x00ff00,
      msi: options.msi ?? 1,
      intx: options.intx ?? true,
      onReset: () => {
        this.#registers.clear();
        this.#cause(0);
      },
      bars: {
        0: {
          size: MEBIBYTE,
          read: (offset) => this.#read(offset),
          write: (offset, _, value) => this.#write(offset, value),
        },
      },
    });
  }

  #register(offset: number): number {
    return this.#registers.get(offset) ?? 0;
  }

  #read(offset: number): number {
    if (offset === Edu.IDENTIFICATION) return this.identification;
    if (offset === Edu.INTERRUPT_STATUS) return this.#causes;
    return this.#register(offset);
  }

  #write(offset: number, value: number): void {
    if (offset === Edu.LIVENESS) this.#registers.set(offset, ~value >>> 0);
    else if (offset === Edu.INTERRUPT_ACKNOWLEDGE) this.#cause(this.#causes & ~value);
    else if (offset === Edu.STATUS) this.#registers.set(offset, (this.#register(offset) & 1) | (value & 0x80));
    else if (offset === Edu.FACTORIAL) this.#factorial(value);
    else {
      this.#registers.set(offset, value);
      if (offset === Edu.DMA_COMMAND && (value & 1) !== 0) setImmediate(() => this.#transfer());
    }
  }

  #factorial(n: number): void {
    this.#registers.set(Edu.STATUS, this.#register(Edu.STATUS) | 1);
    if (this.stuck) return;
    setImmediate(() => {
      let result = 1;
      for (let i = 2; i <= n; i++) result = Math.imul(result, i);
      this.#registers.set(Edu.FACTORIAL, result >>> 0);
      const status = this.#register(Edu.STATUS) & ~1;
      this.#registers.set(Edu.STATUS, status);
      if ((status & 0x80) !== 0) this.#cause(this.#causes | 1);
    });
  }

  #transfer(): void {
    const [source, destination, size] = [Edu.DMA_SOURCE, Edu.DMA_DESTINATION, Edu.DMA_COUNT].map((at) =>
      this.#register(at),
    ) as [number, number, number];
    const command = this.#register(Edu.DMA_COMMAND);
    if ((command & 2) === 0)
      this.#buffer.set(this.fn.dma.read(source % 2 ** 28, size) ?? [], destination - EduBuffer.ADDRESS);
    else
      this.fn.dma.write(
        destination % 2 ** 28,
        this.#buffer.subarray(source - EduBuffer.ADDRESS, source - EduBuffer.ADDRESS + size),
      );
    this.#registers.set(Edu.DMA_COMMAND, command & ~1);
    if ((command & 4) !== 0) this.#cause(this.#causes | 0x100);
  }

  #cause(causes: number): void {
    this.#causes = causes;
    if (this.fn.interrupts.active === "msi" && causes !== 0) this.fn.interrupts.raise(0);
    else this.fn.interrupts.level(causes !== 0);
  }
}

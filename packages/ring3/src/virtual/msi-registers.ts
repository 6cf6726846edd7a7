// The MSI capability as the function itself uses it: how many messages software allowed, and the mask and pending bits where
// the capability has them. PCIe 6.0, section 7.7.1.
import { Msi, type MsiLayout, msiLayout } from "../pci/capabilities/msi.ts";
import type { Register } from "../pci/register.ts";
import type { VirtualConfig } from "./config.ts";

const { MSI_ENABLE, MULTIPLE_MESSAGE_CAPABLE, MULTIPLE_MESSAGE_ENABLE } = Msi.CONTROL.fields;

export class MsiRegisters {
  /** Messages that the function has. */
  readonly available: number;
  readonly #config: VirtualConfig;
  readonly #layout: MsiLayout;
  #enabled = false;
  #vectors = 1;

  constructor(config: VirtualConfig) {
    const control = config.space.readRaw(Msi.CONTROL);
    this.#config = config;
    this.#layout = msiLayout(control);
    this.available = 2 ** MULTIPLE_MESSAGE_CAPABLE.get(control);
  }

  /** Whether software switched MSI on, as {@link refresh} found it. */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Messages that software allowed, as {@link refresh} found it. */
  get vectors(): number {
    return this.#vectors;
  }

  /** The register of the masks, with per-vector masking. */
  get maskBits(): Register | undefined {
    return this.#layout.maskBits;
  }

  /** Messages that wait masked, a bit each; 0 without per-vector masking. */
  get pendingBits(): number {
    return this.#read(this.#layout.pendingBits);
  }

  /** Follows the control register. */
  refresh(): void {
    const control = this.#config.space.readRaw(Msi.CONTROL);
    this.#enabled = MSI_ENABLE.test(control);
    this.#vectors = Math.min(2 ** MULTIPLE_MESSAGE_ENABLE.get(control), this.available);
  }

  /** Switches MSI on, with as many messages at least as reach `vector`. */
  enable(vector: number): void {
    const allowed = MULTIPLE_MESSAGE_ENABLE.get(this.#config.space.readRaw(Msi.CONTROL));
    const order = Math.max(Math.ceil(Math.log2(vector + 1)), allowed);
    this.#config.set(Msi.CONTROL, { MSI_ENABLE: 1, MULTIPLE_MESSAGE_ENABLE: order });
  }

  disable(): void {
    this.#config.set(Msi.CONTROL, { MSI_ENABLE: 0, MULTIPLE_MESSAGE_ENABLE: 0 });
  }

  masked(vector: number): boolean {
    return (this.#read(this.#layout.maskBits) & (1 << vector)) !== 0;
  }

  mask(vector: number, on: boolean): void {
    this.#set(this.#layout.maskBits, vector, on);
  }

  setPending(vector: number, on: boolean): void {
    this.#set(this.#layout.pendingBits, vector, on);
  }

  clearPending(): void {
    const register = this.#layout.pendingBits;
    if (register !== undefined) this.#config.set(register, { VALUE: 0 });
  }

  #read(register: Register | undefined): number {
    return register === undefined ? 0 : this.#config.space.readRaw(register);
  }

  #set(register: Register | undefined, vector: number, on: boolean): void {
    if (register === undefined) return;
    const bits = this.#read(register);
    this.#config.set(register, { VALUE: (on ? bits | (1 << vector) : bits & ~(1 << vector)) >>> 0 });
  }
}

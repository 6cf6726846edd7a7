// What a builder gets to speak about its registers: names in, masks of config space out.
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import type { BarIndex } from "../pci/function.ts";
import {
  type FieldDeclarations,
  type Register,
  type RegisterValues,
  registerMasks,
  registerPath,
} from "../pci/register.ts";
import type { CapabilityPlace, CapabilityState, ConfigListener, RegisterWrite } from "./capability-builder.ts";
import { type ConfigBits, get, put } from "./config-bits.ts";
import type { ConfigBus } from "./config-bus.ts";
import type { BarDeclarations } from "./declaration.ts";
import type { HeaderLog } from "./error-recording.ts";
import type { PlacedCapability } from "./placement.ts";
import { fieldMask, withFields } from "./register-fields.ts";

/** What config space does for a place. */
export interface PlaceHost {
  readonly bits: ConfigBits;
  readonly bars: BarDeclarations;
  readonly listener: ConfigListener;
  readonly bus: ConfigBus;
  afterReset(act: () => void): void;
  resizeBar(bar: BarIndex, size: number): void;
  keepState(state: CapabilityState): void;
  recordsErrors(log: HeaderLog): void;
}

/** The place of one capability. Its methods throw `RangeError` for registers and fields that are not there. */
export class Place implements CapabilityPlace {
  readonly #placed: PlacedCapability;
  readonly #host: PlaceHost;

  constructor(placed: PlacedCapability, host: PlaceHost) {
    this.#placed = placed;
    this.#host = host;
  }

  get entry(): CapabilityEntry {
    return this.#placed.entry;
  }
  get bars(): BarDeclarations {
    return this.#host.bars;
  }
  get listener(): ConfigListener {
    return this.#host.listener;
  }

  #at(register: Register): number {
    const { builder, entry } = this.#placed;
    if (register.group === builder.group && register.offset + register.width <= builder.size) {
      return entry.offset + register.offset;
    }
    throw new RangeError(`${registerPath(register)} is not in the ${builder.size} bytes of ${builder.group.name}`);
  }

  preset<D extends FieldDeclarations>(register: Register<D>, values: Readonly<Partial<RegisterValues<D>>>): void {
    const mask = fieldMask(register, Object.keys(values));
    this.#host.bits.preset(this.#at(register), register.width, mask, withFields(register, 0, values));
  }

  fill(offset: number, content: Uint8Array, writable?: Uint8Array): void {
    const { builder, entry } = this.#placed;
    if (offset < 0 || offset + Math.max(content.length, writable?.length ?? 0) > builder.size) {
      throw new RangeError(`${content.length} bytes at ${offset} leave the ${builder.size} of ${builder.group.name}`);
    }
    const { bits } = this.#host;
    const at = entry.offset + offset;
    bits.live.set(content, at);
    bits.initial.set(content, at);
    for (const [index, mask] of (writable ?? []).entries()) {
      bits.writable[at + index] = mask;
      bits.variable[at + index] = mask;
    }
  }

  only<D extends FieldDeclarations>(register: Register<D>, fields: readonly (keyof D & string)[]): void {
    const { writable, oneToClear } = registerMasks(register);
    const mask = fieldMask(register, fields) | ~(writable | oneToClear);
    this.#host.bits.restrict(this.#at(register), register.width, mask >>> 0);
  }

  writable(register: Register, mask: number): void {
    this.#host.bits.restrict(this.#at(register), register.width, mask >>> 0);
  }

  constant(register: Register, fields: readonly string[] = Object.keys(register.fields)): void {
    const { writable, oneToClear } = registerMasks(register);
    const mask = fieldMask(register, fields) & ~(writable | oneToClear);
    const { variable } = this.#host.bits;
    const at = this.#at(register);
    put(variable, at, register.width, get(variable, at, register.width) & ~mask);
  }

  keptByFunctionReset<D extends FieldDeclarations>(register: Register<D>, fields: readonly (keyof D & string)[]): void {
    const { keptByFunctionReset } = this.#host.bits;
    const at = this.#at(register);
    const kept = get(keptByFunctionReset, at, register.width);
    put(keptByFunctionReset, at, register.width, kept | fieldMask(register, fields));
  }

  guard(register: Register, decide: (written: RegisterWrite) => number): void {
    this.#host.bus.addWriteAction({ at: this.#at(register), width: register.width, guard: decide });
  }

  onWrite(register: Register, act: (written: RegisterWrite) => void): void {
    this.#host.bus.addWriteAction({ at: this.#at(register), width: register.width, act });
  }

  onRead(register: Register, act: () => void): void {
    this.#host.bus.addReadAction({ at: this.#at(register), width: register.width, act });
  }

  afterReset(act: () => void): void {
    this.#host.afterReset(act);
  }

  read(register: Register): number {
    return get(this.#host.bits.live, this.#at(register), register.width);
  }

  set<D extends FieldDeclarations>(register: Register<D>, values: Readonly<Partial<RegisterValues<D>>>): void {
    this.setRaw(register, withFields(register, this.read(register), values));
  }

  setRaw(register: Register, value: number): void {
    put(this.#host.bits.live, this.#at(register), register.width, value >>> 0);
  }

  recordsErrors(log: HeaderLog): void {
    this.#host.recordsErrors(log);
  }

  resizeBar(bar: BarIndex, size: number): void {
    this.#host.resizeBar(bar, size);
  }

  keepState(state: CapabilityState): void {
    this.#host.keepState(state);
  }
}

// Config space of a virtual function: bytes, what each bit does, and hooks where a write acts. What the bus writes goes
// through masks, guards and hooks (config-bus.ts); what the model sets goes straight to the bytes. PCIe 6.0, chapter 7.
import { Ring3Error } from "../binary/error.ts";
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import { type ConfigAccess, ConfigSpace } from "../pci/config-space.ts";
import type { BarIndex } from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import { type FieldDeclarations, type Register, type RegisterValues, registerPath } from "../pci/register.ts";
import { barIndexes, barShape, resolveBars, romRange } from "./bar-registers.ts";
import type { CapabilityBuilder, CapabilityState, ConfigListener, RegisterWrite } from "./capability-builder.ts";
import { Place, type PlaceHost } from "./capability-place.ts";
import { ConfigBits, get, put } from "./config-bits.ts";
import { ConfigBus } from "./config-bus.ts";
import { describeRegisters, type RegisterDescription } from "./config-description.ts";
import { restoreConfig, saveConfig } from "./config-state.ts";
import type { BarDeclarations, FunctionDeclaration } from "./declaration.ts";
import { type AerInjection, type ErrorMessage, type HeaderLog, recordError } from "./error-recording.ts";
import { BAR_0, declareHeader, functionName, ROM, shapeBars } from "./header-registers.ts";
import { isExpress, type PlacedCapability, type Placement, placeCapabilities } from "./placement.ts";
import { fieldMask, withFields } from "./register-fields.ts";

/** How a function is reset. `d3hot` is the way from D3hot back to D0 where NO_SOFT_RESET is clear. */
export type ResetKind = "conventional" | "flr" | "d3hot";

const { MEMORY, IO } = Header.COMMAND.fields;

/** What makes a config space the front of another one: a subclass then decides what is read and written. */
export interface ConfigFront {
  readonly size: 256 | 4096;
  /** Called once everything is declared: the bytes and masks of the front's own copy. */
  prepare(bits: ConfigBits): void;
}

/** Config space as the function itself holds it. */
export class VirtualConfig {
  readonly size: 256 | 4096;
  /** All BARs, those that capabilities brought along included, as declared. */
  readonly bars: BarDeclarations;
  /** Name of the function, for messages. */
  readonly name: string;
  readonly #bits: ConfigBits;
  readonly #placement: Placement;
  readonly #listener: ConfigListener;
  readonly #bus: ConfigBus;
  readonly #afterReset: (() => void)[] = [];
  readonly #states: CapabilityState[] = [];
  readonly #barSizes: number[];
  #log: HeaderLog | undefined;
  #space: ConfigSpace | undefined;

  /**
   * Throws `DECLARATION_INVALID`, `BAR_CONFLICT` or `CAPABILITY_CONFLICT` where the declaration contradicts itself.
   * `listener` hears what registers ask of the function.
   */
  constructor(declaration: FunctionDeclaration, listener: ConfigListener = {}, front?: ConfigFront) {
    const builders: readonly CapabilityBuilder[] = declaration.capabilities ?? [];
    const express = builders.some(isExpress);
    this.name = functionName(declaration);
    this.#listener = listener;
    this.bars = resolveBars(declaration, builders, express);
    this.#barSizes = [...barIndexes.map((index) => this.bars[index]?.size ?? 0), romRange(declaration.rom)];
    for (const builder of builders) builder.check?.({ bars: this.bars, express });
    const placement = placeCapabilities(builders);
    this.#placement = placement;
    this.size = front?.size ?? placement.size;
    const bits = new ConfigBits(placement.extent);
    this.#bits = bits;
    this.#bus = new ConfigBus(this.size, bits, (error) => listener.fault?.(error));
    declareHeader(bits, declaration, this.bars, { first: placement.first, express });
    const host: PlaceHost = {
      bits,
      bars: this.bars,
      listener,
      bus: this.#bus,
      afterReset: (act) => this.#afterReset.push(act),
      resizeBar: (bar, size) => this.#resizeBar(bar, size),
      keepState: (state) => this.#states.push(state),
      recordsErrors: (log) => {
        this.#log = log;
      },
    };
    for (const placed of placement.placed) this.#build(placed, host);
    front?.prepare(bits);
  }

  #build(placed: PlacedCapability, host: PlaceHost): void {
    const { builder, entry, next } = placed;
    const bits = this.#bits;
    for (const register of builder.registers ?? Object.values(builder.group.registers)) {
      if (register.offset + register.width <= builder.size) bits.declare(register, entry.offset + register.offset);
    }
    const head = entry.kind === "standard" ? entry.id | (next << 8) : entry.id | (entry.version << 16) | (next << 20);
    const width = entry.kind === "standard" ? 2 : 4;
    bits.preset(entry.offset, width, 0xffff_ffff, head >>> 0);
    builder.build(new Place(placed, host));
  }

  /** The model's own view, for reads by name. Its writes are bus writes. */
  get space(): ConfigSpace {
    if (this.#space === undefined) {
      const access: ConfigAccess = {
        size: this.size,
        read: (offset, width) => this.read(offset, width),
        write: (offset, width, value) => this.write(offset, width, value),
      };
      this.#space = new ConfigSpace(access);
    }
    return this.#space;
  }

  // ---- the bus side

  /** Any offset and width; bytes outside config space read as ones. Never throws, as the three below. */
  read(offset: number, width: 1 | 2 | 4): number {
    return this.#bus.read(offset, width);
  }

  /** Any offset and width, split into aligned pieces, lowest first; bytes outside config space are dropped. */
  write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#bus.write(offset, width, value);
  }

  /** Fills `target` with the bytes from `offset` on. */
  readInto(offset: number, target: Uint8Array): void {
    this.#bus.readInto(offset, target);
  }

  /** Writes all of `source` from `offset` on, by the widest aligned accesses, ascending. */
  writeFrom(offset: number, source: Uint8Array): void {
    this.#bus.writeFrom(offset, source);
  }

  // ---- the model's side

  /** All capabilities with their places, in list order. */
  get capabilities(): readonly CapabilityEntry[] {
    return this.#placement.placed.map(({ entry }) => entry);
  }

  /** Every register with what its bits do, by offset: what the golden map and the documentation are made of. */
  registers(): readonly RegisterDescription[] {
    return describeRegisters(this.#bits, this.#placement.placed);
  }

  /** Whether a register is there. */
  has(register: Register, within?: CapabilityEntry): boolean {
    return this.#find(register, within) !== undefined;
  }

  #find(register: Register, within: CapabilityEntry | undefined): number | undefined {
    const { group } = register;
    if (group.kind === "header") return register.offset;
    for (const { builder, entry } of this.#placement.placed) {
      if (entry.kind !== group.kind || entry.id !== group.id) continue;
      if (within !== undefined && within.offset !== entry.offset) continue;
      const present = builder.registers === undefined || builder.registers.includes(register);
      return present && register.offset + register.width <= builder.size ? entry.offset + register.offset : undefined;
    }
    return undefined;
  }

  /** Offset of a register in config space. Throws `CAPABILITY_ABSENT`. */
  offsetOf(register: Register, within?: CapabilityEntry): number {
    const at = this.#find(register, within);
    if (at !== undefined) return at;
    throw new Ring3Error(
      "CAPABILITY_ABSENT",
      `${this.name} does not have ${registerPath(register)}: declare the capability`,
    );
  }

  /** A register as one number, whatever the model's hooks. Throws `CAPABILITY_ABSENT`, as the methods below do. */
  readRaw(register: Register, within?: CapabilityEntry): number {
    return get(this.#bits.live, this.offsetOf(register, within), register.width);
  }

  /** Whether software can clear a field by writing ones. */
  clearable(register: Register, field: string, within?: CapabilityEntry): boolean {
    const at = this.offsetOf(register, within);
    return (get(this.#bits.oneToClear, at, register.width) & fieldMask(register, [field])) !== 0;
  }

  /** Sets fields whatever their kind, RO and HwInit too. No hook runs. A reset brings back what is not sticky or HwInit. */
  set<D extends FieldDeclarations>(
    register: Register<D>,
    values: Readonly<Partial<RegisterValues<D>>>,
    within?: CapabilityEntry,
  ): void {
    const at = this.offsetOf(register, within);
    const { live } = this.#bits;
    put(live, at, register.width, withFields(register, get(live, at, register.width), values));
  }

  /** As {@link set}, and this is also the value at power-on and after each reset. */
  preset<D extends FieldDeclarations>(
    register: Register<D>,
    values: Readonly<Partial<RegisterValues<D>>>,
    within?: CapabilityEntry,
  ): void {
    const at = this.offsetOf(register, within);
    const mask = fieldMask(register, Object.keys(values));
    this.#bits.preset(at, register.width, mask, withFields(register, 0, values));
  }

  /** Sets bits that software clears by writing one (STATUS, AER). */
  latch<D extends FieldDeclarations>(
    register: Register<D>,
    fields: readonly (keyof D & string)[],
    within?: CapabilityEntry,
  ): void {
    const at = this.offsetOf(register, within);
    const { live } = this.#bits;
    put(live, at, register.width, get(live, at, register.width) | fieldMask(register, fields));
  }

  /** Calls `act` after each bus write that touched the register, until disposed. */
  onWrite(register: Register, act: (written: RegisterWrite) => void, within?: CapabilityEntry): Disposable {
    return this.#bus.addWriteAction({ at: this.offsetOf(register, within), width: register.width, act });
  }

  /**
   * Records an error as PCI Express and AER have it and gives the messages that software let the function send. Throws
   * `NOT_SUPPORTED` for an error that the function's AER does not have.
   */
  recordError(error: AerInjection): readonly ErrorMessage[] {
    return recordError(this, this.#log, error);
  }

  /** Size of a BAR in bytes as it is now; 0 without one. */
  barSize(bar: BarIndex | "rom"): number {
    return this.#barSizes[bar === "rom" ? 6 : bar] ?? 0;
  }

  /** Address of a BAR as programmed. Beyond 2^53 (never in practice but while sizing) it is rounded. */
  barAddress(bar: BarIndex | "rom"): number {
    const at = bar === "rom" ? ROM : BAR_0 + 4 * bar;
    const low = this.read(at, 4);
    if (bar === "rom") return (low & ~0x7ff) >>> 0;
    const declared = this.bars[bar];
    if (declared === undefined) return 0;
    if (declared.kind === "io") return (low & ~3) >>> 0;
    const high = declared.kind === "memory64" ? this.read(at + 4, 4) : 0;
    return ((low & ~0xf) >>> 0) + high * 2 ** 32;
  }

  /** Whether COMMAND (and the ROM's own bit) lets the BAR decode. Power states are the function's. */
  barEnabled(bar: BarIndex | "rom"): boolean {
    const command = this.read(Header.COMMAND.offset, 2);
    if (bar === "rom") return this.barSize("rom") > 0 && MEMORY.test(command) && (this.read(ROM, 1) & 1) === 1;
    const declared = this.bars[bar];
    return declared !== undefined && (declared.kind === "io" ? IO : MEMORY).test(command);
  }

  #resizeBar(bar: BarIndex, size: number): void {
    const declared = this.bars[bar];
    if (declared === undefined || this.#barSizes[bar] === size) return;
    this.#barSizes[bar] = size;
    shapeBars(this.#bits, BAR_0 + 4 * bar, { ...barShape(declared), size });
    this.#bus.safely(() => this.#listener.resize?.(bar, size));
  }

  /**
   * Brings registers back to their reset values. `conventional` keeps sticky and HwInit fields (PCIe 6.0, table 7-2);
   * `flr` and `d3hot` also keep what belongs to the link (section 6.6.2). No write hook runs.
   */
  reset(kind: ResetKind): void {
    this.#bits.reset(kind);
    this.#refresh();
  }

  /** Brings everything back, sticky registers too, as if power had been off. */
  powerOn(): void {
    this.#bits.reset("power-on");
    for (const state of this.#states) state.powerOn();
    this.#refresh();
  }

  #refresh(): void {
    for (const act of this.#afterReset) this.#bus.safely(act);
  }

  /** Everything that can change, for {@link restore}. */
  save(): Uint8Array {
    return saveConfig(this.#bits, this.#states, this.#shapes());
  }

  /**
   * Takes what `save` of an equal declaration gave; no write hook runs. Throws `STATE_MISMATCH` (another layout) or
   * `STATE_INVALID` before anything changes.
   */
  restore(bytes: Uint8Array): void {
    restoreConfig(this.#bits, this.#states, this.#shapes(), bytes);
    this.#refresh();
    this.#bits.clampBars();
  }

  /** The declared BARs in a form that can be compared. */
  #shapes(): string {
    return Object.entries(this.bars)
      .map(([index, bar]) => `${index} ${Object.values(barShape(bar)).join(" ")}`)
      .join(", ");
  }
}

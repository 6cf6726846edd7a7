// The contract between config space and whoever adds a capability to it: ours (capabilities/) and a user's own, for any
// group that `capability(...)` or `extendedCapability(...)` of ring3/pci declares.
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import type { BarIndex } from "../pci/function.ts";
import type { FieldDeclarations, Register, RegisterGroup, RegisterValues } from "../pci/register.ts";
import type { BarDeclaration, BarDeclarations } from "./declaration.ts";
import type { HeaderLog } from "./error-recording.ts";

/** A write to a register as its hook sees it. Numbers are the register's own, from its lowest bit on. */
export interface RegisterWrite {
  /** Value before the write. */
  readonly before: number;
  /** Value after it, masks applied. */
  readonly value: number;
  /** What was written, 0 in bytes that the access did not cover: bits that act and read as 0 show here. */
  readonly raw: number;
  /** Bits that the access covered. */
  readonly covered: number;
}

/** What config space asks of its function when a register acts. */
export interface ConfigListener {
  /** A function-level reset was asked for, by PCI Express or by AF. */
  flr?(method: "flr" | "af_flr"): void;
  /** PMCSR changed the power state. `softReset`: D3hot was left and NO_SOFT_RESET is clear. */
  power?(change: { readonly state: number; readonly before: number; readonly softReset: boolean }): void;
  /** A resizable BAR has another size; its address bits below were dropped. */
  resize?(bar: BarIndex, size: number): void;
  /** A hook threw. The bus never sees it. */
  fault?(error: unknown): void;
}

/** State of a capability that lies beside its registers, such as the content of vital product data. */
export interface CapabilityState {
  save(): Uint8Array;
  /** Takes what `save` gave. Throws `Ring3Error` `STATE_INVALID` before it changes anything. */
  check(bytes: Uint8Array): void;
  restore(bytes: Uint8Array): void;
  /** Back to what it was at power-on. */
  powerOn(): void;
}

/** Where a capability came to lie, and what its builder can say about its registers. */
export interface CapabilityPlace {
  readonly entry: CapabilityEntry;
  /** All BARs, those of builders included. */
  readonly bars: BarDeclarations;
  readonly listener: ConfigListener;
  /** Values at power-on and after reset, whatever the fields' kind. */
  preset<D extends FieldDeclarations>(register: Register<D>, values: Readonly<Partial<RegisterValues<D>>>): void;
  /** Raw content of bytes that no register names, and which of their bits can be written. */
  fill(offset: number, content: Uint8Array, writable?: Uint8Array): void;
  /** Of the fields that software can write or clear only these are there; the others keep their present value. */
  only<D extends FieldDeclarations>(register: Register<D>, fields: readonly (keyof D & string)[]): void;
  /** Of the bits that software can write only these are there. */
  writable(register: Register, mask: number): void;
  /** These read-only fields (all by default) never change: a saved state in which they differ is refused. */
  constant(register: Register, fields?: readonly string[]): void;
  /** Fields that a function-level reset leaves as they are (sticky and HwInit fields are anyway). */
  keptByFunctionReset<D extends FieldDeclarations>(register: Register<D>, fields: readonly (keyof D & string)[]): void;
  /** Decides what a bus write stores: `decide` gets the value that the masks let through and gives the one to keep. */
  guard(register: Register, decide: (written: RegisterWrite) => number): void;
  /** Acts after a bus write to the register. */
  onWrite(register: Register, act: (written: RegisterWrite) => void): void;
  /** Runs before a bus read that touches the register: for registers whose reading is an access to something else. */
  onRead(register: Register, act: () => void): void;
  /** Runs after every reset and restore, to bring in line what depends on registers. */
  afterReset(act: () => void): void;
  /** Raw value of a register. */
  read(register: Register): number;
  /** Sets fields whatever their kind; no hook runs. */
  set<D extends FieldDeclarations>(register: Register<D>, values: Readonly<Partial<RegisterValues<D>>>): void;
  /** Sets all bits of a register; no hook runs. */
  setRaw(register: Register, value: number): void;
  /** Names the log into which errors of the function go: AER's. */
  recordsErrors(log: HeaderLog): void;
  /** Changes the size of a BAR (a power of two); its address bits below are dropped. */
  resizeBar(bar: BarIndex, size: number): void;
  /** Adds state that is saved and restored with the registers. */
  keepState(state: CapabilityState): void;
}

/** A capability as it stands in a {@link FunctionDeclaration}. One builder may serve many functions. */
export interface CapabilityBuilder {
  readonly group: RegisterGroup;
  /** Bytes that it takes, id and pointer included. */
  readonly size: number;
  /** A wished place: a multiple of 4, from 0x40 on (standard) or 0x100 on (extended). */
  readonly at?: number;
  /** Of extended capabilities; 1 by default. */
  readonly version?: number;
  /** Whether several of this id may be in one function. */
  readonly repeatable?: boolean;
  /** The group's registers that are there; by default all that fit into `size`. */
  readonly registers?: readonly Register[];
  /** Where a BAR is not declared that the capability needs: what to declare. */
  readonly bars?: Readonly<Partial<Record<BarIndex, BarDeclaration>>>;
  /** Refuses a declaration that it cannot be part of: throws `Ring3Error`. */
  check?(declared: { readonly bars: BarDeclarations; readonly express: boolean }): void;
  /** Initial values, extra masks and hooks; called once per function. */
  build(place: CapabilityPlace): void;
}

// A rule set applied to one function: for every byte of config space which bits are the user's own and which it may write,
// and for every capability the builder that puts it into the user's list. Made once, when the function is taken over.
import { Ring3Error } from "../binary/error.ts";
import { Msi, msiLayout } from "../pci/capabilities/msi.ts";
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import { capabilityName } from "../pci/capability-ids.ts";
import type { ConfigSpace } from "../pci/config-space.ts";
import { Header, Header0 } from "../pci/header.ts";
import {
  capability,
  extendedCapability,
  type Register,
  type RegisterGroup,
  registerMasks,
  registerPath,
} from "../pci/register.ts";
import type { CapabilityBuilder } from "../virtual/capability-builder.ts";
import { type ConfigBits, put } from "../virtual/config-bits.ts";
import { capabilitySize } from "./capability-spans.ts";
import {
  type CapabilityRule,
  capabilityRule,
  maskOf,
  type RegisterHook,
  type RegisterRule,
  type RuleSet,
} from "./rules.ts";

/** A register that acts, where it lies in this function. */
export interface PlannedHook {
  readonly hook: RegisterHook;
  readonly register: Register;
  readonly at: number;
}

/** A capability that the user sees, or the header. */
export interface PlannedSpan {
  readonly name: string;
  readonly group: RegisterGroup | undefined;
  readonly offset: number;
  readonly size: number;
  /** Writes go to the hardware as they come. */
  readonly raw: boolean;
}

export interface PlanOptions {
  readonly rules: RuleSet;
  /** Capabilities that are left out besides. */
  readonly hide: readonly RegisterGroup[];
  readonly vectors: { readonly intx: number; readonly msi: number; readonly msix: number };
}

const GAP = 0xffff;
/** Owner of bytes that a capability of the mediator's own takes. */
const ADDED = 0xfffe;

export class ConfigPlan {
  readonly size: 256 | 4096;
  readonly rules: RuleSet;
  readonly spans: readonly PlannedSpan[];
  readonly hooks: readonly PlannedHook[];
  /** The capabilities of the user's list, in the order of the function's own. */
  readonly builders: readonly CapabilityBuilder[];
  /** Bits by byte: the user's own. */
  readonly virtual: Uint8Array;
  /** Bits by byte: what the user may write. */
  readonly writable: Uint8Array;
  /** Bits by byte: those that clear by writing one, and are not to be cleared by a neighbour's write. */
  readonly latched: Uint8Array;
  /** The hardware's bytes as they were at the start. */
  readonly found: Uint8Array;
  readonly #cleared: Uint8Array;
  readonly #owner: Uint16Array;
  readonly #gapRaw: boolean;

  constructor(config: ConfigSpace, { rules, hide, vectors }: PlanOptions) {
    const size = config.size >= 4096 ? 4096 : 256;
    if (config.read(Header.HEADER_TYPE).LAYOUT !== 0) {
      throw new Ring3Error("NOT_SUPPORTED", "only endpoints can be mediated; this function is a bridge");
    }
    this.size = size;
    this.rules = rules;
    this.found = config.readBytes(0, size);
    this.virtual = new Uint8Array(size);
    this.writable = new Uint8Array(size);
    this.latched = new Uint8Array(size);
    this.#cleared = new Uint8Array(size);
    this.#owner = new Uint16Array(size).fill(GAP);
    this.#gapRaw = rules.gaps === "raw";
    this.virtual.fill(rules.gaps === "hidden" ? 0xff : 0, 0x40);
    this.writable.fill(rules.gaps === "raw" ? 0xff : 0, 0x40);
    const spans: PlannedSpan[] = [{ name: "HEADER", group: Header, offset: 0, size: 0x40, raw: false }];
    const hooks: PlannedHook[] = [];
    this.#owner.fill(0, 0, 0x40);
    for (const one of rules.header) this.#apply(one, 0, hooks);
    for (const register of [...Object.values(Header.registers), ...Object.values(Header0.registers)]) {
      this.#latch(register, register.offset);
    }
    const express = config.capabilities().some(({ id }) => id === 0x10);
    const entries = [...config.capabilities(), ...(express ? config.extendedCapabilities() : [])];
    const shown = entries.flatMap((entry) => {
      const found = capabilityRule(rules, entry.kind, entry.id);
      const hidden =
        hide.some(({ kind, id }) => kind === entry.kind && id === entry.id) ||
        (entry.kind === "standard" &&
          ((entry.id === 0x05 && vectors.msi === 0) || (entry.id === 0x11 && vectors.msix === 0)));
      return found === undefined || hidden ? [] : [{ entry, found }];
    });
    const builders: CapabilityBuilder[] = [];
    const starts = shown.map(({ entry }) => entry.offset).sort((a, b) => a - b);
    const anchor = entries.find(({ kind }) => kind === "extended");
    const extended = shown.filter(({ entry }) => entry.kind === "extended");
    if (anchor !== undefined && !extended.some(({ entry }) => entry.offset === 0x100)) {
      // The list starts here, whatever it starts with.
      spans.push({ name: "hidden", group: undefined, offset: 0x100, size: 4, raw: false });
      this.#own(0x100, 4, spans.length - 1);
      this.virtual.fill(0xff, 0x100, 0x104);
      if (extended.length > 0) builders.push(placeholder());
    }
    for (const { entry, found } of shown) {
      const limit = starts.find((start) => start > entry.offset) ?? size;
      const bytes = Math.min(capabilitySize(config, entry), limit - entry.offset);
      const { name } = found.group;
      spans.push({ name, group: found.group, offset: entry.offset, size: bytes, raw: found.access === "raw" });
      this.#own(entry.offset, bytes, spans.length - 1);
      if (found.access === "raw") this.writable.fill(0xff, entry.offset, entry.offset + bytes);
      const head = entry.kind === "standard" ? 2 : 4;
      if (found.access !== "raw")
        this.virtual.fill(0xff, entry.offset + (entry.kind === "standard" ? 1 : 0), entry.offset + head);
      else this.virtual.fill(0xff, entry.offset, entry.offset + head);
      const there = registersOf(config, found, entry, bytes);
      for (const one of found.registers) if (there.includes(one.register)) this.#apply(one, entry.offset, hooks);
      for (const register of there) this.#latch(register, entry.offset);
      builders.push(mirror(entry, found, bytes, there));
    }
    if (!rules.keepsLatchedBits) this.latched.fill(0);
    this.spans = spans;
    this.hooks = hooks;
    this.builders = builders;
  }

  /** Gives the user's copy its bytes and masks. Called by config space once everything is declared. */
  prepare(bits: ConfigBits, added: readonly { readonly offset: number; readonly size: number }[]): void {
    for (const { offset, size } of added) {
      this.#owner.fill(ADDED, offset, offset + size);
      this.virtual.fill(0xff, offset, offset + size);
      for (let at = offset; at < offset + size; at++)
        this.writable[at] = (bits.writable[at] ?? 0) | (bits.oneToClear[at] ?? 0);
    }
    for (let at = 0; at < bits.extent; at++) {
      if (this.#owner[at] === ADDED) continue;
      const virtual = this.virtual[at] ?? 0;
      const built = builtBits(at) | (this.#isHead(at) ? 0xff : 0);
      const shaped = isShaped(at);
      const own = shaped ? (bits.writable[at] ?? 0) : this.rawAt(at) ? 0 : virtual & (this.writable[at] ?? 0);
      const found = (this.found[at] ?? 0) & ~(this.#cleared[at] ?? 0);
      const live = shaped
        ? (found & own) | (bits.initial[at] ?? 0)
        : (found & ~built) | ((bits.initial[at] ?? 0) & built);
      bits.writable[at] = own;
      bits.oneToClear[at] = 0;
      bits.kept[at] = 0;
      bits.keptByFunctionReset[at] = 0;
      bits.variable[at] = own;
      bits.initial[at] = live;
      bits.live[at] = live;
    }
  }

  /** How many bytes of an access of `width` bytes at `at` are one piece: aligned, and inside one capability. */
  pieceAt(at: number, width: number): 1 | 2 | 4 {
    const owner = this.#owner[at];
    let room = 1;
    while ((at + room) % 4 !== 0 && this.#owner[at + room] === owner) room++;
    const most = Math.min(width, room);
    return most >= 4 && at % 4 === 0 ? 4 : most >= 2 && at % 2 === 0 ? 2 : 1;
  }

  /** Whether writes at a byte go to the hardware as they come. */
  rawAt(at: number): boolean {
    const owner = this.#owner[at] ?? GAP;
    return owner === GAP ? this.#gapRaw : (this.spans[owner]?.raw ?? false);
  }

  /** The name of the register that holds a byte, for messages: `EXP.DEVICE_CONTROL`, `EXP+0x3`, `gap`. */
  nameAt(at: number): string {
    const span = this.spans[this.#owner[at] ?? GAP];
    if (span === undefined) return this.#owner[at] === ADDED ? "added" : "gap";
    const within = at - span.offset;
    const candidates =
      span.offset === 0 && span.group === Header
        ? [...Object.values(Header.registers), ...Object.values(Header0.registers)]
        : Object.values(span.group?.registers ?? {});
    const register = candidates.find(({ offset, width }) => within >= offset && within < offset + width);
    return register === undefined ? `${span.name}+0x${within.toString(16)}` : registerPath(register);
  }

  #apply(
    { register, virtual, writable, cleared = "none", hook }: RegisterRule,
    base: number,
    hooks: PlannedHook[],
  ): void {
    const at = base + register.offset;
    put(this.virtual, at, register.width, maskOf(register, virtual));
    put(this.writable, at, register.width, maskOf(register, writable));
    put(this.#cleared, at, register.width, maskOf(register, cleared));
    if (hook !== undefined) hooks.push({ hook, register, at });
  }

  #latch(register: Register, at: number): void {
    put(this.latched, at, register.width, registerMasks(register).oneToClear);
  }

  #own(offset: number, size: number, owner: number): void {
    this.#owner.fill(owner, offset, offset + size);
    this.virtual.fill(0, offset, offset + size);
    this.writable.fill(0, offset, offset + size);
  }

  #isHead(at: number): boolean {
    const span = this.spans[this.#owner[at] ?? GAP];
    return span !== undefined && span.offset >= 0x40 && at - span.offset < (span.offset < 0x100 ? 2 : 4);
  }
}

/** Bits of the header that follow from the user's list and from who the function is. */
function builtBits(at: number): number {
  if (at < 4) return 0xff;
  if (at === Header.STATUS.offset) return Header.STATUS.fields.CAPABILITIES_LIST.mask;
  return at === Header0.CAPABILITIES_POINTER.offset || at === Header.INTERRUPT_PIN.offset ? 0xff : 0;
}

/** Bytes of registers whose bits follow from a size. */
export function isShaped(at: number): boolean {
  return (at >= 0x10 && at < 0x28) || (at >= 0x30 && at < 0x34);
}

/** The declared registers that this capability has. */
function registersOf(
  config: ConfigSpace,
  { group, registers }: CapabilityRule,
  { offset }: CapabilityEntry,
  size: number,
): readonly Register[] {
  const all = new Set([...Object.values(group.registers), ...registers.map(({ register }) => register)]);
  const fitting = Array.from(all).filter((register) => register.offset + register.width <= size);
  if (group !== Msi) return fitting;
  const layout = msiLayout(config.read16(offset + Msi.CONTROL.offset));
  const there: readonly (Register | undefined)[] = [
    Msi.CONTROL,
    Msi.MESSAGE_ADDRESS,
    layout.messageUpperAddress,
    layout.messageData,
    layout.maskBits,
    layout.pendingBits,
  ];
  return fitting.filter((register) => there.includes(register));
}

/** Puts a capability of the hardware into the user's list, at its place. */
function mirror(
  entry: CapabilityEntry,
  { group }: CapabilityRule,
  size: number,
  registers: readonly Register[],
): CapabilityBuilder {
  return {
    group,
    size,
    at: entry.offset,
    ...(entry.kind === "extended" ? { version: entry.version } : {}),
    repeatable: true,
    registers: registers.filter((register) => register.group === group),
    build: () => undefined,
  };
}

/** What the list of extended capabilities starts with where its first is hidden. */
function placeholder(): CapabilityBuilder {
  return {
    group: hiddenGroup,
    size: 4,
    at: 0x100,
    version: 0,
    repeatable: true,
    registers: [],
    build: () => undefined,
  };
}

const hiddenGroup: RegisterGroup = extendedCapability("hidden", 0, {});

/** The group by which a capability is hidden, whatever it is. */
export function groupOf(kind: "standard" | "extended", id: number): RegisterGroup {
  const name = capabilityName({ kind, id }) ?? `0x${id.toString(16)}`;
  return kind === "standard" ? capability(name, id, {}) : extendedCapability(name, id, {});
}

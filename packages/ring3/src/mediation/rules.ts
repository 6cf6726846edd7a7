// A rule set says, register bit by register bit, what a user sees of a real function: bits of its own copy, bits that it
// may write, and registers whose writes act. What no rule names reads the hardware and drops writes. The rules speak of the
// declared registers of pci/, so that one table gives masks, audit names and documentation.
import { capability, type Declared, extendedCapability, type Register, type RegisterGroup } from "../pci/register.ts";

/** Bits of a register: all of them, named fields, or a mask. */
export type RuleBits = "all" | "none" | readonly string[] | number;

/** What a write to a register does besides being stored. */
export type RegisterHook =
  /** Lost BARs come back, decoding and bus mastering follow, INTx is masked and unmasked. */
  | "command"
  /** The function moves to the power state that was written. */
  | "power"
  /** The bit starts a function-level reset and reads as 0. */
  | "flr"
  /** As `flr`; the read request size is passed on, but not below the payload size. */
  | "device-control"
  /** MSI can be on only as far as signals are connected. */
  | "msi"
  /** A transfer of vital product data runs, and F flips. */
  | "vpd";

/** What becomes of one register. */
export interface RegisterRule {
  readonly register: Register;
  /** Bits that are the user's own copy; reads and writes of them never reach the hardware. */
  readonly virtual: RuleBits;
  /** Bits that the user may write: to its copy where they are virtual, else to the hardware. */
  readonly writable: RuleBits;
  /** Bits of the copy that begin as 0, whatever the hardware says. */
  readonly cleared?: RuleBits;
  readonly hook?: RegisterHook;
  /** One line for the documentation. */
  readonly note?: string;
}

/** What becomes of one kind of capability. */
export interface CapabilityRule {
  readonly group: RegisterGroup;
  /** `raw`: writes go to the hardware as they come, whole accesses. */
  readonly access: "registers" | "raw" | "hidden";
  readonly registers: readonly RegisterRule[];
  readonly note?: string;
}

/** How a function is shown. */
export interface RuleSet {
  readonly name: string;
  /** What it is for, in a sentence. */
  readonly about: string;
  readonly header: readonly RegisterRule[];
  readonly capabilities: readonly CapabilityRule[];
  /** What is between capabilities: 0 (`hidden`), the hardware's bytes (`read`), or those with writes let through (`raw`). */
  readonly gaps: "hidden" | "read" | "raw";
  /**
   * Whether bits that clear by writing one, and that the user may not write, are kept when a neighbour in the same access is
   * written. The kernel writes back what it read, which clears them.
   */
  readonly keepsLatchedBits: boolean;
  /**
   * Whether a reset by the user leaves bus mastering off and brings the user's copy (but BARs) back to its first values, as
   * hardware does; the kernel keeps both.
   */
  readonly resetForgets: boolean;
}

const powerBudgeting = {
  DATA_SELECT: { at: [0x04, 8], VALUE: ["RW", 0, 8] },
  DATA: { at: [0x08, 32], VALUE: ["RO", 0, 32] },
  CAPABILITY: { at: [0x0c, 8], SYSTEM_ALLOCATED: ["HwInit", 0] },
} as const;
const pciXErrorCorrection = { ECC_CONTROL_STATUS: { at: [0x08, 32], VALUE: ["RW", 0, 32] } } as const;

/** PCIe 6.0, section 7.8.1. Only the data select register takes writes. */
export const PowerBudgeting: Declared<typeof powerBudgeting> = extendedCapability("PWR", 0x04, powerBudgeting);

/** PCI-X 2.0, section 7.2.3: behind the status, in functions of mode 2. */
export const PciXErrorCorrection: Declared<typeof pciXErrorCorrection> = capability("PCI-X", 0x07, pciXErrorCorrection);

/** Capabilities without declared registers, which a rule set still names: visible, and read from the hardware. */
export function plainCapability(kind: "standard" | "extended", name: string, id: number): RegisterGroup {
  return kind === "standard" ? capability(name, id, {}) : extendedCapability(name, id, {});
}

/** A rule for one register. */
export function rule(
  register: Register,
  virtual: RuleBits,
  writable: RuleBits,
  more: Pick<RegisterRule, "cleared" | "hook" | "note"> = {},
): RegisterRule {
  return { register, virtual, writable, ...more };
}

/** A capability that is visible, with these rules; registers that none names are read from the hardware. */
export function shown(group: RegisterGroup, registers: readonly RegisterRule[] = [], note?: string): CapabilityRule {
  return { group, access: "registers", registers, ...(note === undefined ? {} : { note }) };
}

/** A capability that is visible and whose writes go to the hardware. */
export function raw(group: RegisterGroup, note?: string): CapabilityRule {
  return { group, access: "raw", registers: [], ...(note === undefined ? {} : { note }) };
}

/** A rule's bits as a mask of its register. Throws `RangeError` for a field that is not there. */
export function maskOf(register: Register, bits: RuleBits): number {
  const all = 2 ** (8 * register.width) - 1;
  if (bits === "all") return all;
  if (bits === "none") return 0;
  if (typeof bits === "number") return (bits & all) >>> 0;
  let mask = 0;
  for (const name of bits) {
    const field = Object.hasOwn(register.fields, name) ? register.fields[name] : undefined;
    if (field === undefined) throw new RangeError(`${register.group.name}.${register.name} has no field ${name}`);
    mask |= field.mask;
  }
  return mask >>> 0;
}

/** The rule for a capability; `undefined` where the set hides it by not naming it. */
export function capabilityRule(rules: RuleSet, kind: "standard" | "extended", id: number): CapabilityRule | undefined {
  const found = rules.capabilities.find(({ group }) => group.kind === kind && group.id === id);
  return found?.access === "hidden" ? undefined : found;
}

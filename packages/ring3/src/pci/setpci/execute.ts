// Carries out setpci's operations on a function, and tells each access in the words of `setpci -v`.
import { Ring3Error } from "../../binary/error.ts";
import type { PciAddress } from "../address.ts";
import type { CapabilityEntry } from "../capability-walk.ts";
import type { ConfigSpace } from "../config-space.ts";
import { Header } from "../header.ts";
import type { SetpciOperation } from "./operation.ts";

/** What PCI Express gives a function (Base Specification 6.0, 7.2.2): no register lies beyond. */
const CONFIG_SPACE_BYTES = 4096;

/** One register that was written. */
export interface SetpciWrite {
  readonly offset: number;
  /** What it held before; `undefined` where all bits were set, so that nobody looked. */
  readonly before: number | undefined;
  readonly value: number;
  readonly mask: number;
  /** What was written, before it was cut to the register's width. */
  readonly after: number;
}

export interface SetpciOutcome {
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  readonly capability: CapabilityEntry | undefined;
  /** What was read, for a read. */
  readonly value: number | undefined;
  /** Whether the read went beyond what can be reached, so that `value` is all ones. */
  readonly beyond: boolean;
  readonly writes: readonly SetpciWrite[];
}

/** Why a register cannot be reached, and what helps. */
export function beyondReach(config: ConfigSpace, offset: number): string {
  return (
    `register ${offset.toString(16)} lies beyond the ${config.size} bytes of config space that can be reached; ` +
    "in sysfs an ordinary user reads 64 of them, root or the owner of a VFIO function all"
  );
}

/**
 * Reads or writes; with `dryRun` what would be read is read and nothing is written.
 * Throws `CAPABILITY_ABSENT`, `REGISTER_ABSENT` (not in a header of this type) and `CONFIG_RANGE`.
 */
export function runSetpciOperation(
  config: ConfigSpace,
  operation: SetpciOperation,
  { dryRun = false }: { readonly dryRun?: boolean } = {},
): SetpciOutcome {
  const { width, values } = operation;
  const capability = operation.base === "header" ? undefined : capabilityOf(config, operation, operation.base);
  const offset = (capability?.offset ?? 0) + operation.offset;
  checkHeaderType(config, operation);
  const beyond = offset + width * Math.max(1, values.length) > config.size;
  if (offset % width !== 0) {
    throw new Ring3Error(
      "CONFIG_RANGE",
      `"${operation.text}" is at ${offset.toString(16)}, not aligned to ${width} bytes`,
    );
  }
  if (offset + width > CONFIG_SPACE_BYTES) {
    throw new Ring3Error(
      "CONFIG_RANGE",
      `"${operation.text}" is at ${offset.toString(16)}, beyond the ${CONFIG_SPACE_BYTES} bytes that any config space has`,
    );
  }
  // A read where nothing answers gives all ones, as it does in hardware and in setpci; a write would be lost.
  if (values.length === 0) {
    const value = beyond ? 2 ** (width * 8) - 1 : read(config, offset, width);
    return { offset, width, capability, value, beyond, writes: [] };
  }
  if (beyond) throw new Ring3Error("CONFIG_RANGE", `"${operation.text}": ${beyondReach(config, offset)}`);
  const writes = values.map(({ value, mask }, index): SetpciWrite => {
    const at = offset + index * width;
    const limit = 2 ** (width * 8) - 1;
    const whole = (mask & limit) >>> 0 === limit;
    const before = whole ? undefined : read(config, at, width);
    const after = before === undefined ? value : ((before & ~mask) | value) >>> 0;
    if (!dryRun) write(config, at, width, (after & limit) >>> 0);
    return { offset: at, before, value, mask, after };
  });
  return { offset, width, capability, value: undefined, beyond, writes };
}

/** What `setpci -v` prints: one line with the function, the place, and what was there or changed. */
export function traceSetpci(address: PciAddress, { offset, width, capability, value, writes }: SetpciOutcome): string {
  const hex = (number: number, digits = width * 2): string => number.toString(16).padStart(digits, "0");
  let line = `${address.toString()} `;
  if (capability !== undefined) {
    line +=
      capability.kind === "standard"
        ? `(cap ${hex(capability.id, 2)} @${hex(capability.offset, 2)}) `
        : `(ecap ${hex(capability.id, 4)} @${hex(capability.offset, 3)}) `;
  }
  line += `@${hex(offset, 2)}`;
  if (value !== undefined) return `${line} = ${hex(value)}`;
  for (const { before, value: wanted, mask, after } of writes) {
    line += before === undefined ? ` ${hex(wanted)}` : ` ${hex(before)}->(${hex(wanted)}:${hex(mask)})->${hex(after)}`;
  }
  return line;
}

function capabilityOf(config: ConfigSpace, operation: SetpciOperation, kind: "standard" | "extended"): CapabilityEntry {
  const { capabilityId, instance, text } = operation;
  const found = config.findAll(capabilityId, kind);
  const entry = found[instance];
  if (entry !== undefined) return entry;
  const what = `${kind} capability with the id ${capabilityId.toString(16).padStart(2, "0")}`;
  const there = found.length === 0 ? `the function has no ${what}` : `the function has only ${found.length} of ${what}`;
  throw new Ring3Error("CAPABILITY_ABSENT", `"${text}": ${there}${visibility(config)}`);
}

/** An ordinary user sees no capability at all in sysfs: that is no statement about the function. */
function visibility(config: ConfigSpace): string {
  return config.size <= 64 ? ` among the ${config.size} bytes that you may read; as root you see all` : "";
}

function checkHeaderType(config: ConfigSpace, { headerTypes, name }: SetpciOperation): void {
  if (headerTypes.length === 0) return;
  const { LAYOUT } = config.read(Header.HEADER_TYPE);
  if (headerTypes.includes(LAYOUT)) return;
  const types = headerTypes.join(" or ");
  throw new Ring3Error(
    "REGISTER_ABSENT",
    `the function has no register ${name}: its header is of type ${LAYOUT}, and the register belongs to type ${types}`,
  );
}

function read(config: ConfigSpace, offset: number, width: 1 | 2 | 4): number {
  if (width === 4) return config.read32(offset);
  return width === 2 ? config.read16(offset) : config.read8(offset);
}

function write(config: ConfigSpace, offset: number, width: 1 | 2 | 4, value: number): void {
  if (width === 4) config.write32(offset, value);
  else if (width === 2) config.write16(offset, value);
  else config.write8(offset, value);
}

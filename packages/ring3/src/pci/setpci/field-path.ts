// Registers and fields by the names of their declarations: GROUP.REGISTER[.FIELD][@NUMBER][=VALUE], as in
// PM.PMCSR.POWER_STATE=D3hot or express.deviceControl.maxReadRequest=4096. Case, underscores and hyphens do not count, and
// a beginning is enough where only one name begins so. Without a group the register is one of the header.
import { Ring3Error } from "../../binary/error.ts";
import type { CapabilityEntry } from "../capability-walk.ts";
import type { ConfigSpace } from "../config-space.ts";
import { Header } from "../header.ts";
import { encodeWrite, type Register, type RegisterGroup, registerPath } from "../register.ts";
import { capabilityGroups, headerGroups } from "../register-groups.ts";
import { fieldMeaning, fieldMeanings, fieldNumber } from "./field-meaning.ts";
import { registerNames } from "./register-names.ts";

/** One word of a command line that names a register or a field. */
export interface FieldOperation {
  readonly kind: "field";
  readonly text: string;
  /** Registers of this name: one, or those of several header types. */
  readonly registers: readonly Register[];
  /** Their field, if one was named. */
  readonly field: string | undefined;
  /** Which of several capabilities of this kind, from 0. */
  readonly instance: number;
  /** As it was written: a number, or what a number of the field means. */
  readonly value: string | undefined;
}

/** What became of a {@link FieldOperation}. */
export interface FieldOutcome {
  readonly register: Register;
  readonly offset: number;
  readonly field: string | undefined;
  /** The register as it was read, and as it was written. */
  readonly raw: number;
  readonly written: number | undefined;
  /** The field, or the whole register; after a write, what was asked for. */
  readonly value: number;
  readonly meaning: string | undefined;
}

/** Names by which people know a group, besides its own and setpci's. */
const aliases: Readonly<Record<string, readonly string[]>> = {
  EXP: ["express", "pciExpress", "pcie"],
  PM: ["powerManagement"],
  MSI: ["messageSignaledInterrupts"],
  SSVID: ["subsystem"],
  VNDR: ["vendorSpecific"],
  VPD: ["vitalProductData"],
  AF: ["advancedFeatures"],
  AER: ["advancedErrorReporting"],
  ACS: ["accessControlServices"],
  ATS: ["addressTranslationServices"],
  ARI: ["alternativeRoutingId"],
  LTR: ["latencyToleranceReporting"],
  PASID: ["processAddressSpaceId"],
  REBAR: ["resizableBar"],
  DSN: ["deviceSerialNumber", "serialNumber"],
  "SR-IOV": ["singleRootIoVirtualization"],
};

function plain(name: string): string {
  return name.replace(/[_-]/g, "").toLowerCase();
}

/** Parses one word. Throws `FIELD_UNKNOWN`, naming what there is. */
export function parseFieldOperation(text: string): FieldOperation {
  const equals = text.indexOf("=");
  const left = equals < 0 ? text : text.slice(0, equals);
  const value = equals < 0 ? undefined : text.slice(equals + 1);
  const [path = "", number] = left.split("@");
  if (number !== undefined && !/^\d+$/.test(number)) {
    throw new Ring3Error("FIELD_UNKNOWN", `"${text}": "@${number}" counts capabilities from 0`);
  }
  const [first = "", ...rest] = path.split(".");
  const named = groupsCalled(first);
  const [registerName = "", fieldName, ...further] = named === undefined ? [first, ...rest] : rest;
  if (further.length > 0) throw new Ring3Error("FIELD_UNKNOWN", `"${text}" goes deeper than GROUP.REGISTER.FIELD`);
  const registers = registersCalled(text, first, named, registerName);
  const field = fieldName === undefined ? undefined : fieldCalled(text, registers, fieldName);
  const having = field === undefined ? registers : registers.filter(({ fields }) => Object.hasOwn(fields, field));
  return { kind: "field", text, registers: having, field, instance: Number(number ?? 0), value };
}

/**
 * Reads the register, and writes it where a value was given: other fields keep what they have, and bits that clear by
 * writing one stay. Throws `CAPABILITY_ABSENT`, `REGISTER_ABSENT`, `FIELD_READ_ONLY` and `FIELD_VALUE`.
 */
export function runFieldOperation(
  config: ConfigSpace,
  operation: FieldOperation,
  { dryRun = false }: { readonly dryRun?: boolean } = {},
): FieldOutcome {
  const { register, entry } = registerOf(config, operation);
  const offset = config.offsetOf(register, entry);
  const { field } = operation;
  const raw = config.readRaw(register, entry);
  const wanted = operation.value === undefined ? undefined : valueOf(register, operation, operation.value);
  const written = wanted === undefined ? undefined : wordOf(register, field, raw, wanted);
  if (written !== undefined && !dryRun) config.writeRaw(register, written, entry);
  const value = wanted ?? (field === undefined ? raw : (register.fields[field]?.get(raw) ?? 0));
  const meaning = field === undefined ? undefined : fieldMeaning(register, field, value);
  return { register, offset, field, raw, written, value, meaning };
}

/** Whether the header has a register of this name, of whatever type. */
export function isHeaderRegister(name: string): boolean {
  const names = headerGroups.flatMap(({ registers }) => Object.keys(registers));
  return called(names, name) !== undefined;
}

/** The group of this name; `header` means those of every type. */
function groupsCalled(name: string): readonly RegisterGroup[] | undefined {
  const wanted = plain(name);
  if (wanted === "") return undefined;
  if (wanted === plain(Header.name)) return headerGroups;
  const found = [...headerGroups, ...capabilityGroups].find((group) => {
    const entries = group.kind === "header" ? [] : registerNames;
    const short = entries.filter(({ kind, id }) => kind === group.kind && id === group.id).map((entry) => entry.name);
    const names = [group.name, ...short.flatMap((text) => [text, text.replace(/^E?CAP_/, "")])];
    return [...names, ...(aliases[group.name] ?? [])].some((text) => plain(text) === wanted);
  });
  return found === undefined ? undefined : [found];
}

function registersCalled(
  text: string,
  first: string,
  groups: readonly RegisterGroup[] | undefined,
  name: string,
): readonly Register[] {
  const all = (groups ?? headerGroups).flatMap(({ registers }) => Object.values(registers));
  const names = [...new Set(all.map((register) => register.name))];
  const chosen = called(names, name);
  if (chosen !== undefined) return all.filter((register) => register.name === chosen);
  const capabilities = capabilityGroups.map((group) => group.name).join(", ");
  const what =
    groups === undefined
      ? `"${first}" is neither a register of the header (COMMAND, BAR0, ...) nor a capability: ${capabilities}`
      : `${groups[0]?.name} has no register "${name}"; ${choice(names, name)}`;
  throw new Ring3Error("FIELD_UNKNOWN", `"${text}": ${what}`);
}

/** Names that begin so, where there are some, else all. */
function choice(names: readonly string[], name: string): string {
  const near = names.filter((candidate) => name !== "" && plain(candidate).startsWith(plain(name)));
  return near.length > 0 ? `it may mean ${near.join(" or ")}` : `it has ${names.join(", ")}`;
}

function fieldCalled(text: string, registers: readonly Register[], name: string): string {
  const fields = [...new Set(registers.flatMap((register) => Object.keys(register.fields)))];
  const found = called(fields, name);
  if (found !== undefined) return found;
  const [register] = registers;
  const path = register === undefined ? text : registerPath(register);
  throw new Ring3Error("FIELD_UNKNOWN", `"${text}": ${path} has no field "${name}"; ${choice(fields, name)}`);
}

/** The candidate that is called so, or the only one that begins so. */
function called(candidates: readonly string[], name: string): string | undefined {
  const wanted = plain(name);
  if (wanted === "") return undefined;
  const exact = candidates.find((candidate) => plain(candidate) === wanted);
  if (exact !== undefined) return exact;
  const beginning = new Set(candidates.filter((candidate) => plain(candidate).startsWith(wanted)));
  return beginning.size === 1 ? [...beginning][0] : undefined;
}

function registerOf(
  config: ConfigSpace,
  { registers, instance, text }: FieldOperation,
): { register: Register; entry: CapabilityEntry | undefined } {
  const [first] = registers;
  if (first === undefined) throw new Ring3Error("FIELD_UNKNOWN", `"${text}" names no register`);
  if (first.group.kind !== "header") {
    const entry = config.findAll(first.group)[instance];
    // Without the asked one, the error of config space says what is there.
    const count = config.findAll(first.group).length;
    if (entry === undefined && count > 0) {
      throw new Ring3Error("CAPABILITY_ABSENT", `"${text}": the function has only ${count} of ${first.group.name}`);
    }
    config.offsetOf(first, entry);
    if (!config.has(first, entry)) {
      throw new Ring3Error("REGISTER_ABSENT", `"${text}": config space ends before ${registerPath(first)}`);
    }
    return { register: first, entry };
  }
  const { LAYOUT } = config.read(Header.HEADER_TYPE);
  const fitting = registers.find(({ group }) => group === Header || group === headerGroups[LAYOUT + 1]);
  if (fitting !== undefined) return { register: fitting, entry: undefined };
  throw new Ring3Error(
    "REGISTER_ABSENT",
    `"${text}": the function's header is of type ${LAYOUT}, and has no ${first.name}: that is ${first.group.name}`,
  );
}

function valueOf(register: Register, { field, text }: FieldOperation, value: string): number {
  const bits = field === undefined ? register.width * 8 : (register.fields[field]?.width ?? 0);
  const number = field === undefined ? numberOf(value) : fieldNumber(register, field, value);
  if (number !== undefined && number < 2 ** bits) return number;
  const meanings = field === undefined ? [] : fieldMeanings(register, field);
  const also = meanings.length === 0 ? "" : `, or one of ${meanings.join(", ")}`;
  throw new Ring3Error(
    "FIELD_VALUE",
    `"${text}": the value is a number from 0 to ${2 ** bits - 1} (decimal or 0x)${also}`,
  );
}

function numberOf(text: string): number | undefined {
  return /^(?:0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : undefined;
}

function wordOf(register: Register, field: string | undefined, raw: number, value: number): number {
  if (field === undefined) return value;
  const kind = register.fields[field]?.kind ?? "RO";
  if (kind === "RO" || kind === "ROS" || kind === "HwInit" || kind === "RsvdP" || kind === "RsvdZ") {
    throw new Ring3Error(
      "FIELD_READ_ONLY",
      `${registerPath(register)}.${field} is ${kind} in the specification: the function decides it, a write would be lost`,
    );
  }
  return encodeWrite(register, raw, { [field]: value });
}

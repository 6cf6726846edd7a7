// What lspci shows, as data: every register that is declared for a capability, by its name in the specification, with its
// offset, its raw bits and its fields. The shape is published in lspci.schema.json and only ever grows within a version.
import type { AccessedFunction } from "../access.ts";
import { capabilityName } from "../capability-ids.ts";
import { walkCapabilities, walkExtendedCapabilities } from "../capability-walk.ts";
import { Header, Header0, Header1, Header2 } from "../header.ts";
import type { Register, RegisterGroup } from "../register.ts";
import { decodeRegister } from "../register.ts";
import type { FetchedConfig } from "./fetched-config.ts";
import { LspciFunction } from "./function.ts";
import { groupsOf } from "./groups.ts";
import type { IdNames } from "./names.ts";

/** Of the JSON that `ring3 lspci --json` prints. */
export const LSPCI_SCHEMA_VERSION = 1;

export interface DescribedRegister {
  readonly name: string;
  /** In bytes, from the start of config space. */
  readonly offset: number;
  /** In bits. */
  readonly width: number;
  readonly raw: number;
  readonly fields: Readonly<Record<string, number>>;
}

export interface DescribedCapability {
  readonly kind: "standard" | "extended";
  readonly id: number;
  /** `undefined` for an id that nobody knows. */
  readonly name: string | undefined;
  readonly offset: number;
  /** Of extended capabilities. */
  readonly version: number | undefined;
  readonly registers: readonly DescribedRegister[];
}

export interface DescribedRegion {
  readonly index: number | "rom";
  readonly address: bigint;
  /** `undefined` where the access method does not tell. */
  readonly size: bigint | undefined;
  readonly kind: "io" | "memory";
  readonly prefetchable: boolean;
}

export interface DescribedFunction {
  readonly address: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly programmingInterface: number;
  readonly revision: number;
  readonly subsystemVendorId: number | undefined;
  readonly subsystemId: number | undefined;
  readonly className: string;
  readonly vendorName: string;
  readonly deviceName: string;
  readonly driver: string | undefined;
  readonly modules: readonly string[];
  readonly irq: number;
  readonly numaNode: number | undefined;
  readonly iommuGroup: string | undefined;
  readonly physicalSlot: string | undefined;
  readonly regions: readonly DescribedRegion[];
  readonly header: readonly DescribedRegister[];
  readonly capabilities: readonly DescribedCapability[];
  /** What is odd about the lists of capabilities, a sentence each. */
  readonly problems: readonly string[];
}

export interface DescribeOptions {
  readonly names: IdNames;
  readonly modules?: readonly string[];
}

export function describeFunction(fn: AccessedFunction, { names, modules = [] }: DescribeOptions): DescribedFunction {
  const shown = new LspciFunction(fn);
  const { facts, config, subsystem } = shown;
  const layout = [Header0, Header1, Header2][shown.headerLayout];
  const headers: readonly RegisterGroup[] = layout === undefined ? [Header] : [Header, layout];
  return {
    address: fn.address.toString(),
    vendorId: shown.vendorId,
    deviceId: shown.deviceId,
    classCode: shown.classCode,
    programmingInterface: shown.programmingInterface,
    revision: shown.revision,
    subsystemVendorId: subsystem?.vendorId,
    subsystemId: subsystem?.id,
    className: names.class(shown.classCode),
    vendorName: names.vendor(shown.vendorId),
    deviceName: names.device(shown.vendorId, shown.deviceId),
    driver: facts.driver,
    modules,
    irq: shown.irq,
    numaNode: facts.numaNode,
    iommuGroup: facts.iommuGroup,
    physicalSlot: facts.physicalSlot,
    regions: regionsOf(shown),
    header: headers.flatMap((group) => describeGroup(config, group, 0)),
    ...capabilitiesOf(shown),
  };
}

function regionsOf(shown: LspciFunction): DescribedRegion[] {
  const known = shown.kernelRegions !== undefined;
  const bars = shown.bars().map((bar, index) => ({ ...bar, index: index as number | "rom" }));
  const all = [...bars, { ...shown.rom(), index: "rom" as const }].filter(
    ({ base, size }) => base !== 0n || size !== 0n,
  );
  return all.map(({ index, base, size }) => {
    const isRom = index === "rom";
    const kind = !isRom && (base & 1n) === 1n ? "io" : "memory";
    const mask = isRom ? 0x7ffn : kind === "io" ? 3n : 0xfn;
    const prefetchable = !isRom && kind === "memory" && (base & 8n) !== 0n;
    return { index, address: base & ~mask, size: known ? size : undefined, kind, prefetchable };
  });
}

function capabilitiesOf(shown: LspciFunction): Pick<DescribedFunction, "capabilities" | "problems"> {
  const { config } = shown;
  const reader = {
    size: config.size,
    read: (offset: number, width: 1 | 2 | 4): number => config.peekAt(offset, width),
  };
  const standard = walkCapabilities(reader);
  const extended = walkExtendedCapabilities(reader);
  const capabilities = [...standard.entries, ...extended.entries].map(
    (entry): DescribedCapability => ({
      kind: entry.kind,
      id: entry.id,
      name: capabilityName(entry),
      offset: entry.offset,
      version: entry.kind === "extended" ? config.peekAt(entry.offset + 2, 1) & 0xf : undefined,
      registers: groupsOf(entry, shown).flatMap(({ group, at }) => describeGroup(config, group, at)),
    }),
  );
  return { capabilities, problems: [...standard.problems, ...extended.problems] };
}

function describeGroup(config: FetchedConfig, group: RegisterGroup, at: number): DescribedRegister[] {
  return Object.values(group.registers).flatMap((register: Register) => {
    const offset = at + register.offset;
    if (offset + register.width > config.size) return [];
    const raw = config.peekAt(offset, register.width);
    const fields = decodeRegister(register, raw);
    return [{ name: `${group.name}.${register.name}`, offset, width: register.width * 8, raw, fields }];
  });
}

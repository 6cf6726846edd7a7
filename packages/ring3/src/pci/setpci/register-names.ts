// The names that setpci gives to registers and capabilities. Where a name stands for a register of ours, its place and its
// width are those of the one declaration; setpci sees some words of CardBus bridges where the specification has one dword.
import { Header, Header0, Header1, Header2 } from "../header.ts";
import type { Register } from "../register.ts";

/** A name: a register of the header, or the first byte of a capability. */
export interface RegisterName {
  readonly name: string;
  readonly kind: "header" | "standard" | "extended";
  /** Capability id; 0 for the header. */
  readonly id: number;
  readonly offset: number;
  /** Bytes; 0 where the operation has to say it. */
  readonly width: 0 | 1 | 2 | 4;
  /** Header types that have the register; empty for all. */
  readonly headerTypes: readonly number[];
}

type Named = readonly [name: string, register: Register, at?: { readonly offset?: number; readonly width?: 1 | 2 | 4 }];

const all: readonly Named[] = [
  ["VENDOR_ID", Header.VENDOR_ID],
  ["DEVICE_ID", Header.DEVICE_ID],
  ["COMMAND", Header.COMMAND],
  ["STATUS", Header.STATUS],
  ["REVISION", Header.REVISION_ID],
  ["CLASS_PROG", Header.PROGRAMMING_INTERFACE],
  ["CLASS_DEVICE", Header.SUBCLASS, { width: 2 }],
  ["CACHE_LINE_SIZE", Header.CACHE_LINE_SIZE],
  ["LATENCY_TIMER", Header.LATENCY_TIMER],
  ["HEADER_TYPE", Header.HEADER_TYPE],
  ["BIST", Header.BIST],
];
const types01: readonly Named[] = [
  ["BASE_ADDRESS_0", Header0.BAR0],
  ["BASE_ADDRESS_1", Header0.BAR1],
];
const type0: readonly Named[] = [
  ["BASE_ADDRESS_2", Header0.BAR2],
  ["BASE_ADDRESS_3", Header0.BAR3],
  ["BASE_ADDRESS_4", Header0.BAR4],
  ["BASE_ADDRESS_5", Header0.BAR5],
  ["CARDBUS_CIS", Header0.CARDBUS_CIS_POINTER],
  ["SUBSYSTEM_VENDOR_ID", Header0.SUBSYSTEM_VENDOR_ID],
  ["SUBSYSTEM_ID", Header0.SUBSYSTEM_ID],
  ["ROM_ADDRESS", Header0.EXPANSION_ROM],
];
const types01End: readonly Named[] = [
  ["CAPABILITIES", Header0.CAPABILITIES_POINTER],
  ["INTERRUPT_LINE", Header.INTERRUPT_LINE],
  ["INTERRUPT_PIN", Header.INTERRUPT_PIN],
];
const type0End: readonly Named[] = [
  ["MIN_GNT", Header0.MIN_GNT],
  ["MAX_LAT", Header0.MAX_LAT],
];
const type1: readonly Named[] = [
  ["PRIMARY_BUS", Header1.PRIMARY_BUS_NUMBER],
  ["SECONDARY_BUS", Header1.SECONDARY_BUS_NUMBER],
  ["SUBORDINATE_BUS", Header1.SUBORDINATE_BUS_NUMBER],
  ["SEC_LATENCY_TIMER", Header1.SECONDARY_LATENCY_TIMER],
  ["IO_BASE", Header1.IO_BASE],
  ["IO_LIMIT", Header1.IO_LIMIT],
  ["SEC_STATUS", Header1.SECONDARY_STATUS],
  ["MEMORY_BASE", Header1.MEMORY_BASE],
  ["MEMORY_LIMIT", Header1.MEMORY_LIMIT],
  ["PREF_MEMORY_BASE", Header1.PREFETCHABLE_MEMORY_BASE],
  ["PREF_MEMORY_LIMIT", Header1.PREFETCHABLE_MEMORY_LIMIT],
  ["PREF_BASE_UPPER32", Header1.PREFETCHABLE_BASE_UPPER],
  ["PREF_LIMIT_UPPER32", Header1.PREFETCHABLE_LIMIT_UPPER],
  ["IO_BASE_UPPER16", Header1.IO_BASE_UPPER],
  ["IO_LIMIT_UPPER16", Header1.IO_LIMIT_UPPER],
  ["BRIDGE_ROM_ADDRESS", Header1.EXPANSION_ROM],
  ["BRIDGE_CONTROL", Header1.BRIDGE_CONTROL],
];
const type2: readonly Named[] = [
  ["CB_CARDBUS_BASE", Header2.SOCKET_BASE_ADDRESS],
  ["CB_CAPABILITIES", Header2.CAPABILITIES_POINTER, { width: 2 }],
  ["CB_SEC_STATUS", Header2.SECONDARY_STATUS],
  ["CB_BUS_NUMBER", Header2.PCI_BUS_NUMBER],
  ["CB_CARDBUS_NUMBER", Header2.CARDBUS_BUS_NUMBER],
  ["CB_SUBORDINATE_BUS", Header2.SUBORDINATE_BUS_NUMBER],
  ["CB_CARDBUS_LATENCY", Header2.CARDBUS_LATENCY_TIMER],
  ["CB_MEMORY_BASE_0", Header2.MEMORY_BASE_0],
  ["CB_MEMORY_LIMIT_0", Header2.MEMORY_LIMIT_0],
  ["CB_MEMORY_BASE_1", Header2.MEMORY_BASE_1],
  ["CB_MEMORY_LIMIT_1", Header2.MEMORY_LIMIT_1],
  ["CB_IO_BASE_0", Header2.IO_BASE_0, { width: 2 }],
  ["CB_IO_BASE_0_HI", Header2.IO_BASE_0, { offset: 2, width: 2 }],
  ["CB_IO_LIMIT_0", Header2.IO_LIMIT_0, { width: 2 }],
  ["CB_IO_LIMIT_0_HI", Header2.IO_LIMIT_0, { offset: 2, width: 2 }],
  ["CB_IO_BASE_1", Header2.IO_BASE_1, { width: 2 }],
  ["CB_IO_BASE_1_HI", Header2.IO_BASE_1, { offset: 2, width: 2 }],
  ["CB_IO_LIMIT_1", Header2.IO_LIMIT_1, { width: 2 }],
  ["CB_IO_LIMIT_1_HI", Header2.IO_LIMIT_1, { offset: 2, width: 2 }],
  ["CB_SUBSYSTEM_VENDOR_ID", Header2.SUBSYSTEM_VENDOR_ID],
  ["CB_SUBSYSTEM_ID", Header2.SUBSYSTEM_ID],
  ["CB_LEGACY_MODE_BASE", Header2.LEGACY_MODE_BASE],
];

function named(entries: readonly Named[], headerTypes: readonly number[]): RegisterName[] {
  return entries.map(([name, register, at]) => ({
    name,
    kind: "header",
    id: 0,
    offset: register.offset + (at?.offset ?? 0),
    width: at?.width ?? register.width,
    headerTypes,
  }));
}

/** setpci's short names of capabilities, by id; the empty ones have none. */
const standard =
  "PM AGP VPD SLOTID MSI CHSWP PCIX HT VNDR DBG CCRC HOTPLUG SSVID AGP3 SECURE EXP MSIX SATA AF EA".split(" ");
const extended: readonly (readonly [first: number, names: string])[] = [
  [0x01, "AER VC DSN PB RCLINK RCILINK RCEC MFVC VC2 RBCB VNDR"],
  [0x0d, "ACS ARI ATS SRIOV MRIOV MCAST PRI"],
  [
    0x15,
    "REBAR DPA TPH LTR SECPCI PMUX PASID LNR DPC L1PM PTM M_PCIE FRS RTR DVSEC VF_REBAR DLNK 16GT LMR HIER_ID NPEM 32GT",
  ],
  [0x30, "IDE 64GT FL"],
];

function capabilityStart(kind: "standard" | "extended", name: string, id: number): RegisterName {
  return { name, kind, id, offset: 0, width: 0, headerTypes: [] };
}

/** Every name in the order of `setpci --dumpregs`. */
export const registerNames: readonly RegisterName[] = [
  ...named(all, []),
  ...named(types01, [0, 1]),
  ...named(type0, [0]),
  ...named(types01End, [0, 1]),
  ...named(type0End, [0]),
  ...named(type1, [1]),
  ...named(type2, [2]),
  ...standard.map((name, index) => capabilityStart("standard", `CAP_${name}`, index + 1)),
  ...extended.flatMap(([first, names]) =>
    names.split(" ").map((name, index) => capabilityStart("extended", `ECAP_${name}`, first + index)),
  ),
];

/** The register or capability that a name stands for, in upper or lower case. */
export function findRegisterName(name: string): RegisterName | undefined {
  const upper = name.toUpperCase();
  return registerNames.find((entry) => entry.name === upper);
}

/** The table that `setpci --dumpregs` prints. */
export function formatRegisterNames(): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
  const rows = registerNames.map(({ name, kind, id, offset, width }) => {
    const capability = kind === "header" ? "    " : kind === "standard" ? `  ${hex(id, 2)}` : hex(id, 4);
    return `${capability} ${hex(offset, 2)} ${"-BW?L"[width]} ${name}`;
  });
  return `cap pos w name\n${rows.join("\n")}\n`;
}

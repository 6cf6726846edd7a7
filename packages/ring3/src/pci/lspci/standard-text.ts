// Text of the standard capabilities that have no file of their own.
import { AcceleratedGraphicsPort as Agp } from "../capabilities/accelerated-graphics-port.ts";
import { AdvancedFeatures } from "../capabilities/advanced-features.ts";
import { DebugPort } from "../capabilities/debug-port.ts";
import { EnhancedAllocationEntry } from "../capabilities/enhanced-allocation.ts";
import { Msi, msiLayout } from "../capabilities/msi.ts";
import { MsiX } from "../capabilities/msi-x.ts";
import { PowerManagement } from "../capabilities/power-management.ts";
import { SerialAta } from "../capabilities/serial-ata.ts";
import { SlotIdentification } from "../capabilities/slot-identification.ts";
import { SubsystemId } from "../capabilities/subsystem-id.ts";
import { hex, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const AUX_CURRENT_MA = ["0", "55", "100", "160", "220", "270", "320", "375"];
const pmVersion = layout(PowerManagement.PMC, "Power Management version {VERSION}\n");
const pmFlags = layout(
  PowerManagement.PMC,
  "\t\tFlags: PMEClk{PME_CLOCK} DSI{DSI} D1{D1_SUPPORT} D2{D2_SUPPORT} AuxCurrent={AUX_CURRENT:current}mA " +
    "PME(D0{PME_SUPPORT.0},D1{PME_SUPPORT.1},D2{PME_SUPPORT.2},D3hot{PME_SUPPORT.3},D3cold{PME_SUPPORT.4})\n",
  { current: AUX_CURRENT_MA },
);
const pmStatus = layout(
  PowerManagement.PMCSR,
  "\t\tStatus: D{POWER_STATE} NoSoftRst{NO_SOFT_RESET} PME-Enable{PME_ENABLE} DSel={DATA_SELECT} DScale={DATA_SCALE} " +
    "PME{PME_STATUS}\n",
);
const pmBridge = layout(PowerManagement.PMCSR_BSE, "\t\tBridge: PM{BPCC_ENABLE} B3{!B2_B3}\n");

export function showPowerManagement(printer: Printer, at: number): void {
  const { PMCSR, PMCSR_BSE, DATA } = PowerManagement;
  printer.show(at, pmVersion);
  if (!printer.detailed) return;
  printer.show(at, pmFlags);
  if (!printer.fetch(at, PMCSR, DATA)) return;
  printer.show(at, pmStatus);
  if (printer.raw(at, PMCSR_BSE) !== 0) printer.show(at, pmBridge);
}

const agpVersion = layout(Agp.VERSION, "AGP version {MAJOR:x}.{MINOR:x}\n");
const agpStatus = layout(
  Agp.STATUS,
  "\t\tStatus: RQ={RQ:requests} Iso{ISOCH} ArqSz={ARQSZ} Cal={CAL_CYCLE} SBA{SBA} ITACoh{ITA_COH} GART64{GART64B} " +
    "HTrans{HTRANS_N} 64bit{OVER_4G} FW{FW} AGP3{MODE_3_0}",
  { requests: (value) => value + 1 },
);
const agpCommand = layout(
  Agp.COMMAND,
  "\t\tCommand: RQ={RQ:requests} ArqSz={ARQSZ} Cal={CAL_CYCLE} SBA{SBA_ENABLE} AGP{AGP_ENABLE} GART64{GART64B_ENABLE} " +
    "64bit{OVER_4G_ENABLE} FW{FW_ENABLE}",
  { requests: (value) => value + 1 },
);

export function showAcceleratedGraphicsPort(printer: Printer, at: number): void {
  printer.show(at, agpVersion);
  if (!printer.detailed || !printer.fetch(at, Agp.STATUS, Agp.COMMAND)) return;
  const major = Agp.VERSION.fields.MAJOR.get(printer.raw(at, Agp.VERSION));
  const status = printer.raw(at, Agp.STATUS);
  const agp3 = major >= 3 && Agp.STATUS.fields.MODE_3_0.test(status);
  printer.print(`${agpStatus.render(status)} Rate=${agpRate(status, agp3)}\n`);
  const command = printer.raw(at, Agp.COMMAND);
  printer.print(`${agpCommand.render(command)} Rate=${agpRate(command, agp3)}\n`);
}

function agpRate(raw: number, agp3: boolean): string {
  const rates = [0, 1, 2].filter((bit) => (raw & (1 << bit)) !== 0).map((bit) => `x${1 << (agp3 ? bit + 2 : bit)}`);
  return rates.length === 0 ? "<none>" : rates.join(",");
}

const slots = layout(
  SlotIdentification.EXPANSION_SLOT,
  "Slot ID: {EXPANSION_SLOTS_PROVIDED} slots, First{FIRST_IN_CHASSIS}",
);
const chassis = layout(SlotIdentification.CHASSIS_NUMBER, ", chassis {VALUE:02x}\n");

export function showSlotIdentification(printer: Printer, at: number): void {
  printer.show(at, slots, chassis);
}

const msiControl = layout(
  Msi.CONTROL,
  "MSI: Enable{MSI_ENABLE} Count={MULTIPLE_MESSAGE_ENABLE:vectors}/{MULTIPLE_MESSAGE_CAPABLE:vectors} " +
    "Maskable{PER_VECTOR_MASKING_CAPABLE} 64bit{ADDRESS_64_CAPABLE}\n",
  { vectors: (value) => 1 << value },
);

export function showMsi(printer: Printer, at: number, control: number): void {
  printer.print(msiControl.render(control));
  if (!printer.detailed) return;
  const { messageUpperAddress, messageData, maskBits, pendingBits } = msiLayout(control);
  if (!printer.fetch(at, Msi.MESSAGE_ADDRESS, messageData)) return;
  const upper = messageUpperAddress === undefined ? "" : hex(printer.raw(at, messageUpperAddress), 8);
  const [address, data] = [printer.raw(at, Msi.MESSAGE_ADDRESS), printer.raw(at, messageData)];
  printer.print(`\t\tAddress: ${upper}${hex(address, 8)}  Data: ${hex(data, 4)}\n`);
  if (maskBits === undefined || pendingBits === undefined || !printer.fetch(at, maskBits, pendingBits)) return;
  const [mask, pending] = [printer.raw(at, maskBits), printer.raw(at, pendingBits)];
  printer.print(`\t\tMasking: ${hex(mask, 8)}  Pending: ${hex(pending, 8)}\n`);
}

const msiXControl = layout(
  MsiX.CONTROL,
  "MSI-X: Enable{MSIX_ENABLE} Count={TABLE_SIZE:vectors} Masked{FUNCTION_MASK}\n",
  {
    vectors: (value) => value + 1,
  },
);
const offset = (value: number): string => hex(value * 8, 8);
const msiXTable = layout(MsiX.TABLE, "\t\tVector table: BAR={TABLE_BIR} offset={TABLE_OFFSET:offset}\n", { offset });
const msiXPending = layout(MsiX.PBA, "\t\tPBA: BAR={PBA_BIR} offset={PBA_OFFSET:offset}\n", { offset });

export function showMsiX(printer: Printer, at: number): void {
  printer.show(at, msiXControl);
  if (printer.detailed && printer.fetch(at, MsiX.TABLE, MsiX.PBA)) printer.show(at, msiXTable, msiXPending);
}

export function showSubsystemId(printer: Printer, at: number): void {
  const { SUBSYSTEM_VENDOR_ID, SUBSYSTEM_ID } = SubsystemId;
  if (!printer.fetch(at, SUBSYSTEM_VENDOR_ID, SUBSYSTEM_ID)) return;
  const { vendorId, deviceId } = printer.shown;
  const [subVendorId, subId] = [printer.raw(at, SUBSYSTEM_VENDOR_ID), printer.raw(at, SUBSYSTEM_ID)];
  printer.print(`Subsystem: ${printer.names.subsystem(vendorId, deviceId, subVendorId, subId)}\n`);
}

const debugPort = layout(DebugPort.DEBUG_PORT, "Debug port: BAR={BAR} offset={OFFSET:04x}\n");

export function showDebugPort(printer: Printer, at: number): void {
  printer.show(at, debugPort);
}

const sataVersion = layout(SerialAta.SATACR0, "SATA HBA v{MAJREV}.{MINREV}");

export function showSerialAta(printer: Printer, at: number): void {
  const { SATACR1 } = SerialAta;
  printer.show(at, sataVersion);
  if (printer.detailed && printer.fetch(at, SATACR1)) {
    const raw = printer.raw(at, SATACR1);
    const place = SATACR1.fields.BARLOC.get(raw);
    if (place === 15) printer.print(" InCfgSpace");
    else if (place < 4 || place > 9) printer.print(` BAR??${place}`);
    else printer.print(` BAR${place - 4} Offset=${hex(SATACR1.fields.BAROFST.get(raw), 8)}`);
  }
  printer.print("\n");
}

const afCapabilities = layout(
  AdvancedFeatures.CAPABILITIES,
  "\t\tAFCap: TP{TRANSACTIONS_PENDING} FLR{FUNCTION_LEVEL_RESET}\n",
);
const afControl = layout(AdvancedFeatures.CONTROL, "\t\tAFCtrl: FLR{INITIATE_FLR}\n");
const afStatus = layout(AdvancedFeatures.STATUS, "\t\tAFStatus: TP{TRANSACTIONS_PENDING}\n");

export function showAdvancedFeatures(printer: Printer, at: number): void {
  const { CAPABILITIES, STATUS } = AdvancedFeatures;
  printer.print("PCI Advanced Features\n");
  if (printer.detailed && printer.fetch(at, CAPABILITIES, STATUS)) {
    printer.show(at, afCapabilities, afControl, afStatus);
  }
}

const PROPERTIES: Readonly<Record<number, string>> = {
  0x00: "memory space, non-prefetchable",
  0x01: "memory space, prefetchable",
  0x02: "I/O space",
  0x03: "VF memory space, prefetchable",
  0x04: "VF memory space, non-prefetchable",
  0x05: "allocation behind bridge, non-prefetchable memory",
  0x06: "allocation behind bridge, prefetchable memory",
  0x07: "allocation behind bridge, I/O space",
  0xfd: "memory space resource unavailable for use",
  0xfe: "I/O space resource unavailable for use",
  0xff: "entry unavailable for use",
};
const property = (value: number): string => PROPERTIES[value] ?? `[${hex(value, 2)}]`;
const secondaryProperty = (value: number): string => {
  return `${property(value)}${value === 0xff ? ", PrimaryProperties should be used" : ""}`;
};
const equivalent = (value: number): string => {
  if (value <= 5) return `BAR ${value}`;
  if (value >= 9 && value <= 14) return `VF-BAR ${value - 9}`;
  return { 6: "resource behind function", 7: "not indicated", 8: "expansion ROM" }[value] ?? "reserved";
};
const eaEntry = layout(
  EnhancedAllocationEntry.HEADER,
  "Enable{ENABLE} Writable{WRITABLE} EntrySize={ENTRY_SIZE}\n" +
    "\t\t\t BAR Equivalent Indicator: {BAR_EQUIVALENT_INDICATOR:equivalent}\n" +
    "\t\t\t PrimaryProperties: {PRIMARY_PROPERTIES:property}\n" +
    "\t\t\t SecondaryProperties: {SECONDARY_PROPERTIES:secondaryProperty}\n",
  { equivalent, property, secondaryProperty },
);

export function showEnhancedAllocation(printer: Printer, at: number, header: number): void {
  const { config, shown } = printer;
  const count = header & 0x3f;
  let place = at + 4;
  printer.print(`Enhanced Allocation (EA): NumEntries=${count}`);
  if (shown.headerLayout === 1) {
    place += 4;
    if (!config.fetch(at + 4, 2)) {
      printer.print("\n");
      return;
    }
    printer.print(`, secondary=${config.byte(at + 4)}, subordinate=${config.byte(at + 5)}`);
  }
  printer.print("\n");
  if (!printer.detailed) return;
  for (let index = 0; index < count; index++) {
    if (!config.fetch(place, 4)) return;
    const entry = config.long(place);
    const dwords = entry & 7;
    if (!config.fetch(place + 4, dwords * 4)) return;
    printer.print(`\t\tEntry ${index}: ${eaEntry.render(entry)}`);
    const [base, maximum] = [config.long(place + 4), config.long(place + 8)];
    let upper = place + 12;
    printer.print("\t\t\t Base: ");
    if ((base & 2) !== 0) {
      printer.print(hex(config.long(upper)));
      upper += 4;
    }
    printer.print(`${hex((base & ~3) >>> 0, 8)}\n\t\t\t MaxOffset: `);
    if ((maximum & 2) !== 0) printer.print(hex(config.long(upper)));
    printer.print(`${hex((maximum | 3) >>> 0, 8)}\n`);
    place += 4 + 4 * dwords;
  }
}

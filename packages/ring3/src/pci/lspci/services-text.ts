// Text of the extended capabilities that add services: access control, translation, hints, mailboxes and others.
import { AccessControlServices as Acs } from "../capabilities/access-control-services.ts";
import { AddressTranslationServices as Ats } from "../capabilities/address-translation-services.ts";
import { AlternativeRoutingId as Ari } from "../capabilities/alternative-routing-id.ts";
import { DataObjectExchange as Doe } from "../capabilities/data-object-exchange.ts";
import { DeviceSerialNumber } from "../capabilities/device-serial-number.ts";
import { LatencyToleranceReporting as Ltr } from "../capabilities/latency-tolerance-reporting.ts";
import { MmioRegisterBlock, MmioRegisterBlockLocator } from "../capabilities/mmio-register-block-locator.ts";
import { Multicast } from "../capabilities/multicast.ts";
import { PageRequest } from "../capabilities/page-request.ts";
import { PrecisionTimeMeasurement as Ptm } from "../capabilities/precision-time-measurement.ts";
import { ProcessAddressSpaceId as Pasid } from "../capabilities/process-address-space-id.ts";
import { TransactionProcessingHints as Tph } from "../capabilities/transaction-processing-hints.ts";
import { ExtendedVendorSpecific } from "../capabilities/vendor-specific.ts";
import type { Register } from "../register.ts";
import { PortType } from "./express-formats.ts";
import { hex, type Layout, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

/** The name, and with -vv these registers as far as they can be read. */
function simple(name: string, first: Register, last: Register, ...lines: readonly Layout[]) {
  return (printer: Printer, at: number): void => {
    printer.print(`${name}\n`);
    if (printer.detailed && printer.fetch(at, first, last)) printer.show(at, ...lines);
  };
}

export function showSerialNumber(printer: Printer, at: number): void {
  const { SERIAL_NUMBER_LOWER, SERIAL_NUMBER_UPPER } = DeviceSerialNumber;
  if (!printer.fetch(at, SERIAL_NUMBER_LOWER, SERIAL_NUMBER_UPPER)) return;
  const digits = hex(printer.raw(at, SERIAL_NUMBER_UPPER), 8) + hex(printer.raw(at, SERIAL_NUMBER_LOWER), 8);
  printer.print(`Device Serial Number ${digits.replace(/..(?!$)/g, "$&-")}\n`);
}

const vendorHeader = layout(
  ExtendedVendorSpecific.HEADER,
  "ID={VSEC_ID:04x} Rev={VSEC_REV} Len={VSEC_LENGTH:03x} <?>\n",
);

export function showExtendedVendorSpecific(printer: Printer, at: number): void {
  printer.print("Vendor Specific Information: ");
  if (printer.fetch(at, ExtendedVendorSpecific.HEADER)) printer.show(at, vendorHeader);
  else printer.print("<unreadable>\n");
}

export const showAccessControl: (printer: Printer, at: number) => void = simple(
  "Access Control Services",
  Acs.CAPABILITY,
  Acs.CONTROL,
  layout(
    Acs.CAPABILITY,
    "\t\tACSCap:\tSrcValid{SOURCE_VALIDATION} TransBlk{TRANSLATION_BLOCKING} ReqRedir{P2P_REQUEST_REDIRECT} " +
      "CmpltRedir{P2P_COMPLETION_REDIRECT} UpstreamFwd{UPSTREAM_FORWARDING} EgressCtrl{P2P_EGRESS_CONTROL} " +
      "DirectTrans{DIRECT_TRANSLATED_P2P}\n",
  ),
  layout(
    Acs.CONTROL,
    "\t\tACSCtl:\tSrcValid{SOURCE_VALIDATION_ENABLE} TransBlk{TRANSLATION_BLOCKING_ENABLE} " +
      "ReqRedir{P2P_REQUEST_REDIRECT_ENABLE} CmpltRedir{P2P_COMPLETION_REDIRECT_ENABLE} " +
      "UpstreamFwd{UPSTREAM_FORWARDING_ENABLE} EgressCtrl{P2P_EGRESS_CONTROL_ENABLE} " +
      "DirectTrans{DIRECT_TRANSLATED_P2P_ENABLE}\n",
  ),
);

export const showAlternativeRoutingId: (printer: Printer, at: number) => void = simple(
  "Alternative Routing-ID Interpretation (ARI)",
  Ari.CAPABILITY,
  Ari.CONTROL,
  layout(
    Ari.CAPABILITY,
    "\t\tARICap:\tMFVC{MFVC_FUNCTION_GROUPS_CAPABILITY} ACS{ACS_FUNCTION_GROUPS_CAPABILITY}, " +
      "Next Function: {NEXT_FUNCTION_NUMBER}\n",
  ),
  layout(
    Ari.CONTROL,
    "\t\tARICtl:\tMFVC{MFVC_FUNCTION_GROUPS_ENABLE} ACS{ACS_FUNCTION_GROUPS_ENABLE}, Function Group: {FUNCTION_GROUP}\n",
  ),
);

export const showAddressTranslation: (printer: Printer, at: number) => void = simple(
  "Address Translation Service (ATS)",
  Ats.CAPABILITY,
  Ats.CONTROL,
  layout(Ats.CAPABILITY, "\t\tATSCap:\tInvalidate Queue Depth: {INVALIDATE_QUEUE_DEPTH:02x}\n"),
  layout(Ats.CONTROL, "\t\tATSCtl:\tEnable{ENABLE}, Smallest Translation Unit: {SMALLEST_TRANSLATION_UNIT:02x}\n"),
);

export const showPageRequest: (printer: Printer, at: number) => void = simple(
  "Page Request Interface (PRI)",
  PageRequest.CONTROL,
  PageRequest.OUTSTANDING_PAGE_REQUEST_ALLOCATION,
  layout(PageRequest.CONTROL, "\t\tPRICtl: Enable{ENABLE} Reset{RESET}\n"),
  layout(
    PageRequest.STATUS,
    "\t\tPRISta: RF{RESPONSE_FAILURE} UPRGI{UNEXPECTED_PAGE_REQUEST_GROUP_INDEX} Stopped{STOPPED} " +
      "PASID{PRG_RESPONSE_PASID_REQUIRED}\n",
  ),
  layout(PageRequest.OUTSTANDING_PAGE_REQUEST_CAPACITY, "\t\tPage Request Capacity: {VALUE:08x}, "),
  layout(PageRequest.OUTSTANDING_PAGE_REQUEST_ALLOCATION, "Page Request Allocation: {VALUE:08x}\n"),
);

export const showProcessAddressSpaceId: (printer: Printer, at: number) => void = simple(
  "Process Address Space ID (PASID)",
  Pasid.CAPABILITY,
  Pasid.CONTROL,
  layout(
    Pasid.CAPABILITY,
    "\t\tPASIDCap: Exec{EXECUTE_PERMISSION_SUPPORTED} Priv{PRIVILEGED_MODE_SUPPORTED}, " +
      "Max PASID Width: {MAX_PASID_WIDTH:02x}\n",
  ),
  layout(
    Pasid.CONTROL,
    "\t\tPASIDCtl: Enable{PASID_ENABLE} Exec{EXECUTE_PERMISSION_ENABLE} Priv{PRIVILEGED_MODE_ENABLE}\n",
  ),
);

const steering = layout(Tph.CAPABILITY, "\t\t{ST_TABLE_LOCATION:place}\n", {
  place: [
    "No steering table available",
    "Steering table in TPH capability structure",
    "Steering table in MSI-X table",
    "Reserved steering table location",
  ],
});

export function showProcessingHints(printer: Printer, at: number): void {
  printer.print("Transaction Processing Hints\n");
  if (!printer.detailed || !printer.fetch(at, Tph.CAPABILITY)) return;
  const raw = printer.raw(at, Tph.CAPABILITY);
  const { fields } = Tph.CAPABILITY;
  if (fields.INTERRUPT_VECTOR_MODE_SUPPORTED.test(raw)) printer.print("\t\tInterrupt vector mode supported\n");
  if (fields.DEVICE_SPECIFIC_MODE_SUPPORTED.test(raw)) printer.print("\t\tDevice specific mode supported\n");
  if (fields.EXTENDED_TPH_REQUESTER_SUPPORTED.test(raw)) printer.print("\t\tExtended requester support\n");
  printer.print(steering.render(raw));
}

export function showLatencyTolerance(printer: Printer, at: number): void {
  printer.print("Latency Tolerance Reporting\n");
  if (!printer.detailed || !printer.fetch(at, Ltr.MAX_SNOOP_LATENCY, Ltr.MAX_NO_SNOOP_LATENCY)) return;
  printer.print(`\t\tMax snoop latency: ${latencyNs(printer.raw(at, Ltr.MAX_SNOOP_LATENCY))}ns\n`);
  printer.print(`\t\tMax no snoop latency: ${latencyNs(printer.raw(at, Ltr.MAX_NO_SNOOP_LATENCY))}ns\n`);
}

/** Scales that are not permitted come out as a 32-bit shift makes them. */
function latencyNs(raw: number): number {
  return (raw & 0x3ff) * ltrScale((raw >>> 10) & 7);
}

export function ltrScale(scale: number): number {
  return (1 << (scale * 5)) >>> 0;
}

const granularity =
  (zero: string): ((value: number) => string) =>
  (value) =>
    value === 0 ? zero : value === 0xff ? "Greater than 254ns" : `${value}ns`;

const timeRegisters = [
  layout(
    Ptm.CAPABILITY,
    "\t\tPTMCap: Requester{REQUESTER_CAPABLE} Responder{RESPONDER_CAPABLE} Root{ROOT_CAPABLE}\n" +
      "\t\tPTMClockGranularity: {LOCAL_CLOCK_GRANULARITY:granularity}\n",
    { granularity: granularity("Unimplemented") },
  ),
  layout(
    Ptm.CONTROL,
    "\t\tPTMControl: Enabled{PTM_ENABLE} RootSelected{ROOT_SELECT}\n" +
      "\t\tPTMEffectiveGranularity: {EFFECTIVE_GRANULARITY:granularity}\n",
    { granularity: granularity("Unknown") },
  ),
];

export function showPrecisionTime(printer: Printer, at: number): void {
  printer.print("Precision Time Measurement\n");
  if (!printer.detailed) return;
  if (printer.fetch(at, Ptm.CAPABILITY, Ptm.CONTROL)) printer.show(at, ...timeRegisters);
  else printer.print("\t\t<unreadable>\n");
}

const mailbox = [
  layout(Doe.CONTROL, "\t\tDOECtl: IntEn{DOE_INTERRUPT_ENABLE}\n"),
  layout(
    Doe.STATUS,
    "\t\tDOESta: Busy{DOE_BUSY} IntSta{DOE_INTERRUPT_STATUS} Error{DOE_ERROR} ObjectReady{DATA_OBJECT_READY}\n",
  ),
];
const mailboxInterrupt = layout(Doe.CAPABILITIES, "\t\tDOECap: IntSup{DOE_INTERRUPT_SUPPORT}\n");
const mailboxMessage = layout(Doe.CAPABILITIES, "\t\t\tIntMsgNum {DOE_INTERRUPT_MESSAGE_NUMBER}\n");

export function showDataObjectExchange(printer: Printer, at: number): void {
  printer.print("Data Object Exchange\n");
  if (!printer.detailed) return;
  if (!printer.fetch(at, Doe.CAPABILITIES, Doe.READ_DATA_MAILBOX)) {
    printer.print("\t\t<unreadable>\n");
    return;
  }
  const raw = printer.raw(at, Doe.CAPABILITIES);
  printer.print(mailboxInterrupt.render(raw));
  if (Doe.CAPABILITIES.fields.DOE_INTERRUPT_SUPPORT.test(raw)) printer.print(mailboxMessage.render(raw));
  printer.show(at, ...mailbox);
}

const groups = layout(Multicast.CAPABILITY, "\t\tMcastCap: MaxGroups {MC_MAX_GROUP:count}", {
  count: (value) => value + 1,
});
const regeneration = layout(Multicast.CAPABILITY, ", ECRCRegen{MC_ECRC_REGENERATION_SUPPORTED}\n");
const multicastControl = layout(
  Multicast.CONTROL,
  "\t\tMcastCtl: NumGroups {MC_NUM_GROUP:count}, Enable{MC_ENABLE}\n",
  {
    count: (value) => value + 1,
  },
);

export function showMulticast(printer: Printer, at: number, portType: number): void {
  printer.print("Multicast\n");
  // lspci asks for four bytes more than the capability has.
  if (!printer.detailed || !printer.config.fetch(at + Multicast.CAPABILITY.offset, 48)) return;
  const isEndpoint = portType === PortType.ENDPOINT || portType === PortType.INTEGRATED_ENDPOINT;
  printer.show(at, groups);
  if (isEndpoint) {
    const window = Multicast.CAPABILITY.fields.MC_WINDOW_SIZE_REQUESTED.get(printer.raw(at, Multicast.CAPABILITY));
    printer.print(`, WindowSz ${window} (${1 << window} bytes)`);
  }
  const isSwitch = portType === PortType.UPSTREAM || portType === PortType.DOWNSTREAM;
  // Where nothing follows the line has no end.
  if (isSwitch || portType === PortType.ROOT_PORT) printer.show(at, regeneration);
  printer.show(at, multicastControl);
  const { config } = printer;
  const quad = (register: Register): bigint => config.quad(at + register.offset);
  const base = quad(Multicast.BASE_ADDRESS_LOWER);
  printer.print(`\t\tMcastBAR: IndexPos ${base & 0x3fn}, BaseAddr ${hex((base >> 12n) << 12n, 16)}\n`);
  printer.print(`\t\tMcastReceiveVec:      ${hex(quad(Multicast.RECEIVE_LOWER), 16)}\n`);
  printer.print(`\t\tMcastBlockAllVec:     ${hex(quad(Multicast.BLOCK_ALL_LOWER), 16)}\n`);
  printer.print(`\t\tMcastBlockUntransVec: ${hex(quad(Multicast.BLOCK_UNTRANSLATED_LOWER), 16)}\n`);
  if (isEndpoint) return;
  const overlay = quad(Multicast.OVERLAY_LOWER);
  const size = Number(overlay & 0x3fn);
  printer.print(`\t\tMcastOverlayBAR: OverlaySize ${size} ${size >= 6 ? `(${1 << size} bytes)` : "(disabled)"}`);
  printer.print(`, BaseAddr ${hex((overlay >> 6n) << 6n, 16)}\n`);
}

const BAR_UNITS = ["MB", "GB", "TB", "PB", "EB"];

/** From the binary logarithm of megabytes. */
function barSize(exponent: number): string {
  const unit = BAR_UNITS[Math.floor(exponent / 10)];
  return exponent >= 44 || unit === undefined ? " <unknown>" : ` ${1 << (exponent % 10)}${unit}`;
}

export function showResizableBars(printer: Printer, at: number, kind: "Physical" | "Virtual"): void {
  const { config } = printer;
  printer.print(`${kind} Resizable BAR\n`);
  if (!printer.detailed) return;
  for (let index = 0, count = 1; index < count; index++) {
    const place = at + 4 + 8 * index;
    if (!config.fetch(place, 8)) {
      printer.print("\t\t<unreadable>\n");
      return;
    }
    const [capability, control] = [config.long(place), config.long(place + 4)];
    if (index === 0) count = (control >>> 5) & 7;
    if (count < 1 || count > 6) {
      printer.print(`\t\t<error in resizable BAR: num_bars=${count} is out of specification>\n`);
      return;
    }
    const sizes: string[] = [];
    for (let bit = 0; bit < 28; bit++) if ((capability >>> (bit + 4)) & 1) sizes.push(barSize(bit));
    for (let bit = 0; bit < 16; bit++) if ((control >>> (bit + 16)) & 1) sizes.push(barSize(bit + 28));
    const supported = sizes.length === 0 ? "" : `, supported:${sizes.join("")}`;
    printer.print(`\t\tBAR ${control & 7}: current size:${barSize((control >>> 8) & 0x3f)}${supported}\n`);
  }
}

const LOCATOR_SIZE = 8;
const BLOCK_NAMES: Readonly<Record<number, string>> = { 0x00: "Empty", 0x01: "MCAP", 0xff: "MDVS" };

export function showRegisterBlockLocator(printer: Printer, at: number): void {
  const { config } = printer;
  printer.print("MMIO Register Block Locator\n");
  if (!printer.detailed) return;
  const { CAPABILITIES } = MmioRegisterBlockLocator;
  const first = at + 8;
  const length = config.fetch(at + 4, 12)
    ? CAPABILITIES.fields.STRUCTURE_LENGTH.get(printer.raw(at, CAPABILITIES))
    : -1;
  if (length === -1 || !config.fetch(first, length)) {
    printer.print("\t\t<unreadable>\n");
    return;
  }
  // A length of less than eight bytes wraps around, so that it goes on until nothing can be read.
  const count = length < LOCATOR_SIZE ? Number.POSITIVE_INFINITY : Math.floor(length / LOCATOR_SIZE) - 1;
  for (let index = 0; index < count; index++) {
    const place = first + LOCATOR_SIZE * index;
    if (!config.fetch(place, LOCATOR_SIZE)) {
      printer.print("\t\t<unreadable>\n");
      return;
    }
    const { BIR, BLOCK_ID, OFFSET } = MmioRegisterBlock.OFFSET_LOWER.fields;
    const raw = printer.raw(place, MmioRegisterBlock.OFFSET_LOWER);
    const id = BLOCK_ID.get(raw);
    const offset = hex(printer.raw(place, MmioRegisterBlock.OFFSET_UPPER), 8) + hex((raw & OFFSET.mask) >>> 0, 8);
    const name = BLOCK_NAMES[id] ?? `Reserved (${id})`;
    printer.print(`\t\tLocator${index}: BIR: BAR${BIR.get(raw)}, ID: ${name}, offset: ${offset}\n`);
  }
}

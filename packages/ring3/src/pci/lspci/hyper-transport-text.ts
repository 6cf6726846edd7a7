// Text of the HyperTransport capabilities. What a link has beyond revision 1.02 is shown from revision 1.02 (0x22) on.
import {
  HyperTransportMsiMapping as MsiMapping,
  HyperTransportPrimary as Primary,
  HyperTransportSecondary as Secondary,
} from "../capabilities/hyper-transport.ts";
import type { Register } from "../register.ts";
import { hex, type Layout, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const FULL_REVISION = 0x22;
const SHORT_REVISION = 0x11;

const formats = {
  width: ["8bit", "16bit", "[2]", "32bit", "2bit", "4bit", "[6]", "N/C"],
  frequency: "200MHz 300MHz 400MHz 500MHz 600MHz 800MHz 1.0GHz 1.2GHz 1.4GHz 1.6GHz [a] [b] [c] [d] [e] Vend".split(
    " ",
  ),
  two: (value: number) => `${value}`.padStart(2, "0"),
};
const LINK_CONTROL =
  "CFlE{CRC_FLOOD_ENABLE} CST{CRC_START_TEST} CFE{CRC_FORCE_ERROR} <LkFail{LINK_FAILURE} " +
  "Init{INITIALIZATION_COMPLETE} EOC{END_OF_CHAIN} TXO{TRANSMITTER_OFF} <CRCErr={CRC_ERROR:x}";
const MORE_LINK_CONTROL =
  " IsocEn{ISOCHRONOUS_FLOW_CONTROL_ENABLE} LSEn{LDTSTOP_TRISTATE_ENABLE} ExtCTL{EXTENDED_CTL_TIME} " +
  "64b{ADDRESSING_64_BIT_ENABLE}";
const WIDTHS =
  "MLWI={MAX_LINK_WIDTH_IN:width} MLWO={MAX_LINK_WIDTH_OUT:width} LWI={LINK_WIDTH_IN:width} LWO={LINK_WIDTH_OUT:width}\n";
const WIDTHS_AND_FLOW =
  "MLWI={MAX_LINK_WIDTH_IN:width} DwFcIn{DOUBLEWORD_FLOW_CONTROL_IN} " +
  "MLWO={MAX_LINK_WIDTH_OUT:width} DwFcOut{DOUBLEWORD_FLOW_CONTROL_OUT} " +
  "LWI={LINK_WIDTH_IN:width} DwFcInEn{DOUBLEWORD_FLOW_CONTROL_IN_ENABLE} " +
  "LWO={LINK_WIDTH_OUT:width} DwFcOutEn{DOUBLEWORD_FLOW_CONTROL_OUT_ENABLE}\n";
const REVISION = "\t\tRevision ID: {MAJOR}.{MINOR:two}\n";
const ERROR_HANDLING =
  "\t\tError Handling: PFlE{PROTOCOL_ERROR_FLOOD_ENABLE} OFlE{OVERFLOW_ERROR_FLOOD_ENABLE} " +
  "PFE{PROTOCOL_ERROR_FATAL_ENABLE} OFE{OVERFLOW_ERROR_FATAL_ENABLE} EOCFE{END_OF_CHAIN_ERROR_FATAL_ENABLE} " +
  "RFE{RESPONSE_ERROR_FATAL_ENABLE} CRCFE{CRC_ERROR_FATAL_ENABLE} SERRFE{SYSTEM_ERROR_FATAL_ENABLE} CF{CHAIN_FAIL} " +
  "RE{RESPONSE_ERROR} PNFE{PROTOCOL_ERROR_NONFATAL_ENABLE} ONFE{OVERFLOW_ERROR_NONFATAL_ENABLE} " +
  "EOCNFE{END_OF_CHAIN_ERROR_NONFATAL_ENABLE} RNFE{RESPONSE_ERROR_NONFATAL_ENABLE} " +
  "CRCNFE{CRC_ERROR_NONFATAL_ENABLE} SERRNFE{SYSTEM_ERROR_NONFATAL_ENABLE}\n";
const FEATURES =
  "\t\tFeature Capability: IsocFC{ISOCHRONOUS_FLOW_CONTROL_MODE} LDTSTOP{LDTSTOP_SUPPORTED} CRCTM{CRC_TEST_MODE} " +
  "ECTLT{EXTENDED_CTL_TIME_REQUIRED} 64bA{ADDRESSING_64_BIT} UIDRD{UNIT_ID_REORDER_DISABLE}";

/** `name` has the number of the link, where there are two. */
function links(name: string, control: Register, configuration: Register): Record<"short" | "full", readonly Layout[]> {
  return {
    short: [
      layout(control, `\t\tLink Control${name}: ${LINK_CONTROL}\n`),
      layout(configuration, `\t\tLink Config${name}: ${WIDTHS}`, formats),
    ],
    full: [
      layout(control, `\t\tLink Control${name}: ${LINK_CONTROL}${MORE_LINK_CONTROL}\n`),
      layout(configuration, `\t\tLink Config${name}: ${WIDTHS_AND_FLOW}`, formats),
    ],
  };
}

function frequency(name: string, frequencyError: Register): Layout {
  return layout(
    frequencyError,
    `\t\tLink Frequency${name}: {FREQUENCY:frequency}\n` +
      `\t\tLink Error${name}: <Prot{PROTOCOL_ERROR} <Ovfl{OVERFLOW_ERROR} <EOC{END_OF_CHAIN_ERROR} CTLTm{CTL_TIMEOUT}\n`,
    formats,
  );
}

const FREQUENCY_NAMES = formats.frequency.slice(0, 10);

/** lspci looks at the lower eight bits alone. */
function frequencies(name: string, register: Register): Layout {
  const shown = FREQUENCY_NAMES.map((text, bit) => `${text}${bit < 8 ? `{FREQUENCIES.${bit}}` : "-"}`).join(" ");
  return layout(register, `\t\tLink Frequency Capability${name}: ${shown} Vend-\n`);
}

const link0 = links(" 0", Primary.LINK_CONTROL_0, Primary.LINK_CONFIGURATION_0);
const link1 = links(" 1", Primary.LINK_CONTROL_1, Primary.LINK_CONFIGURATION_1);
const link = links("", Secondary.LINK_CONTROL, Secondary.LINK_CONFIGURATION);
const primaryCommand = layout(
  Primary.COMMAND,
  "\t\tCommand: BaseUnitID={BASE_UNIT_ID} UnitCnt={UNIT_COUNT} MastHost{MASTER_HOST} DefDir{DEFAULT_DIRECTION}",
);
const primaryMore = layout(Primary.COMMAND, " DUL{DROP_ON_UNINITIALIZED_LINK}");
const primaryRevision = layout(Primary.REVISION_ID, REVISION, formats);
const primaryRest = [
  frequency(" 0", Primary.LINK_FREQUENCY_ERROR_0),
  frequencies(" 0", Primary.LINK_FREQUENCY_CAPABILITY_0),
  layout(Primary.FEATURE_CAPABILITY, `${FEATURES}\n`),
  frequency(" 1", Primary.LINK_FREQUENCY_ERROR_1),
  frequencies(" 1", Primary.LINK_FREQUENCY_CAPABILITY_1),
  layout(Primary.ERROR_HANDLING, ERROR_HANDLING),
  layout(Primary.MEMORY_BASE_UPPER, "\t\tPrefetchable memory behind bridge Upper: {VALUE:02x}-"),
  layout(Primary.MEMORY_LIMIT_UPPER, "{VALUE:02x}\n"),
  layout(Primary.BUS_NUMBER, "\t\tBus Number: {VALUE:02x}\n"),
];

function showPrimary(printer: Printer, at: number): void {
  printer.print("HyperTransport: Slave or Primary Interface\n");
  if (!printer.detailed || !printer.config.fetch(at + 4, 24)) return;
  const revision = printer.raw(at, Primary.REVISION_ID);
  const full = revision >= FULL_REVISION;
  if (!full && revision > SHORT_REVISION) printer.print("\t\t!!! Possibly incomplete decoding\n");
  printer.show(at, primaryCommand);
  if (full) printer.show(at, primaryMore);
  printer.print("\n");
  printer.show(at, ...(full ? [...link0.full, ...link1.full] : [...link0.short, ...link1.short]), primaryRevision);
  if (full) printer.show(at, ...primaryRest);
}

const secondaryCommand = layout(Secondary.COMMAND, "\t\tCommand: WarmRst{WARM_RESET} DblEnd{DOUBLE_ENDED}");
const secondaryMore = layout(
  Secondary.COMMAND,
  " DevNum={DEVICE_NUMBER} ChainSide{CHAIN_SIDE} HostHide{HOST_HIDE} Slave{ACT_AS_SLAVE} " +
    "<EOCErr{HOST_INBOUND_END_OF_CHAIN_ERROR} DUL{DROP_ON_UNINITIALIZED_LINK}",
);
const secondaryRevision = layout(Secondary.REVISION_ID, REVISION, formats);
const secondaryRest = [
  frequency("", Secondary.LINK_FREQUENCY_ERROR),
  frequencies("", Secondary.LINK_FREQUENCY_CAPABILITY),
  layout(
    Secondary.FEATURE_CAPABILITY,
    `${FEATURES} ExtRS{EXTENDED_REGISTER_SET} UCnfE{UPSTREAM_CONFIGURATION_ENABLE}\n`,
  ),
];
const secondaryExtended = [
  layout(Secondary.ERROR_HANDLING, ERROR_HANDLING),
  layout(Secondary.MEMORY_BASE_UPPER, "\t\tPrefetchable memory behind bridge Upper: {VALUE:02x}-"),
  layout(Secondary.MEMORY_LIMIT_UPPER, "{VALUE:02x}\n"),
];

function showSecondary(printer: Printer, at: number): void {
  printer.print("HyperTransport: Host or Secondary Interface\n");
  if (!printer.detailed || !printer.config.fetch(at + 4, 20)) return;
  const revision = printer.raw(at, Secondary.REVISION_ID);
  const full = revision >= FULL_REVISION;
  if (!full && revision > SHORT_REVISION) printer.print("\t\t!!! Possibly incomplete decoding\n");
  printer.show(at, secondaryCommand);
  if (full) printer.show(at, secondaryMore);
  printer.print("\n");
  printer.show(at, ...(full ? link.full : link.short), secondaryRevision);
  if (!full) return;
  printer.show(at, ...secondaryRest);
  const { FEATURE_CAPABILITY } = Secondary;
  const hasExtended = FEATURE_CAPABILITY.fields.EXTENDED_REGISTER_SET.test(printer.raw(at, FEATURE_CAPABILITY));
  if (hasExtended) printer.show(at, ...secondaryExtended);
}

const NAMES: Readonly<Record<number, string>> = {
  0x08: "Switch",
  0x10: "Interrupt Discovery and Configuration",
  0x12: "UnitID Clumping",
  0x13: "Extended Configuration Space Access",
  0x14: "Address Mapping",
  0x16: "DirectRoute",
  0x17: "VCSet",
  0x18: "Retry Mode",
  0x19: "X86 (reserved)",
};
const REVISION_TYPE = 0x11;
const MSI_MAPPING_TYPE = 0x15;
const msiMapping = layout(MsiMapping.COMMAND, "HyperTransport: MSI Mapping Enable{ENABLE} Fixed{FIXED}\n");

export function showHyperTransport(printer: Printer, at: number, command: number): void {
  if (command >>> 13 === 0) return showPrimary(printer, at);
  if (command >>> 13 === 1) return showSecondary(printer, at);
  const type = command >>> 11;
  if (type === MSI_MAPPING_TYPE) return showMsiMapping(printer, at, command);
  if (type === REVISION_TYPE) {
    printer.print(`HyperTransport: Revision ID: ${(command >>> 5) & 7}.${formats.two(command & 0x1f)}\n`);
  } else {
    printer.print(`HyperTransport: ${NAMES[type] ?? `#${hex(type, 2)}`}\n`);
  }
}

function showMsiMapping(printer: Printer, at: number, command: number): void {
  const { COMMAND, ADDRESS_LOWER, ADDRESS_UPPER } = MsiMapping;
  printer.print(msiMapping.render(command));
  if (!printer.detailed || COMMAND.fields.FIXED.test(command) || !printer.fetch(at, ADDRESS_LOWER, ADDRESS_UPPER))
    return;
  const lower = (printer.raw(at, ADDRESS_LOWER) & ADDRESS_LOWER.fields.ADDRESS.mask) >>> 0;
  printer.print(`\t\tMapping Address Base: ${hex(printer.raw(at, ADDRESS_UPPER), 8)}${hex(lower, 8)}\n`);
}

// Text of the PCI Express capability. Which registers are shown hangs on the type of the port; for some of their fields it
// does as well.
import { PciExpress as Exp } from "../capabilities/pci-express.ts";
import { showDevice2, showLink2 } from "./express-2-text.ts";
import { formats, isDownstream, PortType, SPEEDS } from "./express-formats.ts";
import { layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const slot = layout(Exp.CAPABILITIES, " (Slot{SLOT_IMPLEMENTED})");
const message = layout(Exp.CAPABILITIES, ", IntMsgNum {INTERRUPT_MESSAGE_NUMBER}");
const NAMES: Readonly<Record<number, string>> = {
  [PortType.ENDPOINT]: "Endpoint",
  [PortType.LEGACY_ENDPOINT]: "Legacy Endpoint",
  [PortType.ROOT_PORT]: "Root Port",
  [PortType.UPSTREAM]: "Upstream Port",
  [PortType.DOWNSTREAM]: "Downstream Port",
  [PortType.TO_PCI_BRIDGE]: "PCI-Express to PCI/PCI-X Bridge",
  [PortType.FROM_PCI_BRIDGE]: "PCI/PCI-X to PCI-Express Bridge",
  [PortType.INTEGRATED_ENDPOINT]: "Root Complex Integrated Endpoint",
  [PortType.EVENT_COLLECTOR]: "Root Complex Event Collector",
};

/** Returns the type of the port, which other capabilities hang on. */
export function showExpress(printer: Printer, at: number, header: number): number {
  const { DEVICE_PORT_TYPE, SLOT_IMPLEMENTED, CAPABILITY_VERSION, FLIT_MODE_SUPPORTED } = Exp.CAPABILITIES.fields;
  const type = DEVICE_PORT_TYPE.get(header);
  const version = CAPABILITY_VERSION.get(header);
  const isPort = type === PortType.ROOT_PORT || type === PortType.DOWNSTREAM || type === PortType.FROM_PCI_BRIDGE;
  const hasSlot = isPort && SLOT_IMPLEMENTED.test(header);
  const hasLink = type !== PortType.INTEGRATED_ENDPOINT && type !== PortType.EVENT_COLLECTOR;
  const isRoot = type === PortType.ROOT_PORT || type === PortType.EVENT_COLLECTOR;
  printer.print(`Express ${printer.detailed ? `(v${version}) ` : ""}${NAMES[type] ?? `Unknown type ${type}`}`);
  if (isPort) printer.print(slot.render(header));
  printer.print(`${message.render(header)}${FLIT_MODE_SUPPORTED.test(header) ? FLIT_MODE : ""}\n`);
  if (!printer.detailed || !printer.config.fetch(at + 4, isRoot ? 32 : hasSlot ? 24 : 16)) return type;
  showDevice(printer, at, type);
  if (hasLink) showLink(printer, at, type);
  else if (type === PortType.INTEGRATED_ENDPOINT) showRestrictedLink(printer);
  if (hasSlot) showSlot(printer, at);
  if (isRoot) printer.show(at, rootCapabilities, rootControl, rootStatus);
  if (version < 2 || !printer.config.fetch(at + 0x24, hasSlot ? 24 : 16)) return type;
  showDevice2(printer, at, type);
  if (hasLink) showLink2(printer, at, type);
  return type;
}

const FLIT_MODE = ", FLIT Mode Supported";

const deviceCapabilities = layout(
  Exp.DEVICE_CAPABILITIES,
  "\t\tDevCap:\tMaxPayload {MAX_PAYLOAD_SIZE_SUPPORTED:payload} bytes, PhantFunc {PHANTOM_FUNCTIONS_SUPPORTED:phantom}",
  formats,
);
const latencies = layout(
  Exp.DEVICE_CAPABILITIES,
  ", Latency L0s {ENDPOINT_L0S_ACCEPTABLE_LATENCY:l0s}, L1 {ENDPOINT_L1_ACCEPTABLE_LATENCY:l1}",
  formats,
);
const extendedTag = layout(Exp.DEVICE_CAPABILITIES, "\n\t\t\tExtTag{EXTENDED_TAG_FIELD_SUPPORTED}");
const indicators = layout(
  Exp.DEVICE_CAPABILITIES,
  " AttnBtn{ATTENTION_BUTTON_PRESENT} AttnInd{ATTENTION_INDICATOR_PRESENT} PwrInd{POWER_INDICATOR_PRESENT}",
);
const roleBased = layout(Exp.DEVICE_CAPABILITIES, " RBE{ROLE_BASED_ERROR_REPORTING}");
const functionReset = layout(Exp.DEVICE_CAPABILITIES, " FLReset{FUNCTION_LEVEL_RESET_CAPABILITY}");
const teeIo = layout(Exp.DEVICE_CAPABILITIES, " TEE-IO{TEE_IO_SUPPORTED}\n");
const deviceControl = layout(
  Exp.DEVICE_CONTROL,
  "\t\tDevCtl:\tCorrErr{CORRECTABLE_ERROR_REPORTING_ENABLE} NonFatalErr{NON_FATAL_ERROR_REPORTING_ENABLE} " +
    "FatalErr{FATAL_ERROR_REPORTING_ENABLE} UnsupReq{UNSUPPORTED_REQUEST_REPORTING_ENABLE}\n" +
    "\t\t\tRlxdOrd{ENABLE_RELAXED_ORDERING} ExtTag{EXTENDED_TAG_FIELD_ENABLE} PhantFunc{PHANTOM_FUNCTIONS_ENABLE} " +
    "AuxPwr{AUX_POWER_PM_ENABLE} NoSnoop{ENABLE_NO_SNOOP}",
);
const retry = layout(Exp.DEVICE_CONTROL, " BrConfRtry{INITIATE_FUNCTION_LEVEL_RESET}");
const resetControl = layout(Exp.DEVICE_CONTROL, " FLReset{INITIATE_FUNCTION_LEVEL_RESET}");
const sizes = layout(
  Exp.DEVICE_CONTROL,
  "\n\t\t\tMaxPayload {MAX_PAYLOAD_SIZE:payload} bytes, MaxReadReq {MAX_READ_REQUEST_SIZE:payload} bytes\n",
  formats,
);
const deviceStatus = layout(
  Exp.DEVICE_STATUS,
  "\t\tDevSta:\tCorrErr{CORRECTABLE_ERROR_DETECTED} NonFatalErr{NON_FATAL_ERROR_DETECTED} " +
    "FatalErr{FATAL_ERROR_DETECTED} UnsupReq{UNSUPPORTED_REQUEST_DETECTED} AuxPwr{AUX_POWER_DETECTED} " +
    "TransPend{TRANSACTIONS_PENDING}\n",
);

function showDevice(printer: Printer, at: number, type: number): void {
  const capabilities = printer.raw(at, Exp.DEVICE_CAPABILITIES);
  const { fields } = Exp.DEVICE_CAPABILITIES;
  const isEndpoint = type === PortType.ENDPOINT || type === PortType.LEGACY_ENDPOINT;
  const isAnyEndpoint = isEndpoint || type === PortType.INTEGRATED_ENDPOINT;
  const isUpper = type === PortType.UPSTREAM || type === PortType.TO_PCI_BRIDGE;
  printer.print(deviceCapabilities.render(capabilities));
  if (isEndpoint) printer.print(latencies.render(capabilities));
  printer.print(extendedTag.render(capabilities));
  if (isEndpoint || isUpper) printer.print(indicators.render(capabilities));
  printer.print(roleBased.render(capabilities));
  if (isAnyEndpoint) printer.print(functionReset.render(capabilities));
  if (type === PortType.ENDPOINT || isUpper) {
    const limit = fields.CAPTURED_SLOT_POWER_LIMIT_VALUE.get(capabilities);
    printer.print(` SlotPowerLimit ${powerLimit(limit, fields.CAPTURED_SLOT_POWER_LIMIT_SCALE.get(capabilities))}`);
  }
  printer.print(teeIo.render(capabilities));
  printer.show(at, deviceControl);
  if (type === PortType.TO_PCI_BRIDGE) printer.show(at, retry);
  if (isAnyEndpoint && fields.FUNCTION_LEVEL_RESET_CAPABILITY.test(capabilities)) printer.show(at, resetControl);
  printer.show(at, sizes, deviceStatus);
}

/** Watts; above 239 the values of scale 0 are encoded (PCIe 6.0, section 7.5.3.9). */
function powerLimit(value: number, scale: number): string {
  if (scale === 0 && value === 0xff) return ">600W";
  const watts = scale === 0 && value >= 0xf0 ? 250 + 25 * (value - 0xf0) : value;
  return `${Number((watts / 10 ** scale).toPrecision(6))}W`;
}

const linkCapabilities = layout(
  Exp.LINK_CAPABILITIES,
  "\t\tLnkCap:\tPort #{PORT_NUMBER}, Speed {MAX_LINK_SPEED:speed}, Width x{MAXIMUM_LINK_WIDTH}, ASPM {ASPM_SUPPORT:aspm}",
  formats,
);
const exitL0s = layout(Exp.LINK_CAPABILITIES, "L0s {L0S_EXIT_LATENCY:l0s}", formats);
const exitL1 = layout(Exp.LINK_CAPABILITIES, "L1 {L1_EXIT_LATENCY:l1}", formats);
const linkFlags = layout(
  Exp.LINK_CAPABILITIES,
  "\n\t\t\tClockPM{CLOCK_POWER_MANAGEMENT} Surprise{SURPRISE_DOWN_ERROR_REPORTING_CAPABLE} " +
    "LLActRep{DATA_LINK_LAYER_LINK_ACTIVE_REPORTING_CAPABLE} BwNot{LINK_BANDWIDTH_NOTIFICATION_CAPABILITY} " +
    "ASPMOptComp{ASPM_OPTIONALITY_COMPLIANCE}\n",
);
const linkControl = layout(Exp.LINK_CONTROL, "\t\tLnkCtl:\tASPM {ASPM_CONTROL:aspmControl};", formats);
const boundary = layout(Exp.LINK_CONTROL, " RCB {READ_COMPLETION_BOUNDARY:boundary} bytes,", formats);
const linkControlFlags = layout(
  Exp.LINK_CONTROL,
  " LnkDisable{LINK_DISABLE} CommClk{COMMON_CLOCK_CONFIGURATION}\n" +
    "\t\t\tExtSynch{EXTENDED_SYNCH} ClockPM{ENABLE_CLOCK_POWER_MANAGEMENT} " +
    "AutWidDis{HARDWARE_AUTONOMOUS_WIDTH_DISABLE} BWInt{LINK_BANDWIDTH_MANAGEMENT_INTERRUPT_ENABLE} " +
    "AutBWInt{LINK_AUTONOMOUS_BANDWIDTH_INTERRUPT_ENABLE} FltModeDis{FLIT_MODE_DISABLE}\n",
);
const linkStatusFlags = layout(
  Exp.LINK_STATUS,
  "\n\t\t\tTrErr{TRAINING_ERROR} Train{LINK_TRAINING} SlotClk{SLOT_CLOCK_CONFIGURATION} " +
    "DLActive{DATA_LINK_LAYER_LINK_ACTIVE} BWMgmt{LINK_BANDWIDTH_MANAGEMENT_STATUS} " +
    "ABWMgmt{LINK_AUTONOMOUS_BANDWIDTH_STATUS}\n",
);

function showLink(printer: Printer, at: number, type: number): void {
  const capabilities = printer.raw(at, Exp.LINK_CAPABILITIES);
  showLinkCapabilities(printer, capabilities);
  printer.show(at, linkControl);
  const hasBoundary: readonly number[] = [
    PortType.ROOT_PORT,
    PortType.ENDPOINT,
    PortType.LEGACY_ENDPOINT,
    PortType.TO_PCI_BRIDGE,
  ];
  if (hasBoundary.includes(type)) printer.show(at, boundary);
  printer.show(at, linkControlFlags);
  showLinkStatus(printer, type, printer.raw(at, Exp.LINK_STATUS), capabilities);
}

/** The link of a CXL device in restricted mode, which has its registers elsewhere: the kernel tells them. */
function showRestrictedLink(printer: Printer): void {
  const { rcdLink } = printer.shown.facts;
  if (rcdLink === undefined || rcdLink.capabilities === 0) return;
  showLinkCapabilities(printer, rcdLink.capabilities);
  printer.print(linkControl.render(rcdLink.control) + restrictedControl.render(rcdLink.control));
  showLinkStatus(printer, PortType.INTEGRATED_ENDPOINT, rcdLink.status, rcdLink.capabilities);
}

const restrictedControl = layout(
  Exp.LINK_CONTROL,
  " Disabled{LINK_DISABLE} CommClk{COMMON_CLOCK_CONFIGURATION}\n" +
    "\t\t\tExtSynch{EXTENDED_SYNCH} ClockPM{ENABLE_CLOCK_POWER_MANAGEMENT} " +
    "AutWidDis{HARDWARE_AUTONOMOUS_WIDTH_DISABLE} BWInt{LINK_BANDWIDTH_MANAGEMENT_INTERRUPT_ENABLE} " +
    "AutBWInt{LINK_AUTONOMOUS_BANDWIDTH_INTERRUPT_ENABLE}\n",
);

function showLinkCapabilities(printer: Printer, capabilities: number): void {
  const aspm = Exp.LINK_CAPABILITIES.fields.ASPM_SUPPORT.get(capabilities);
  printer.print(linkCapabilities.render(capabilities));
  if (aspm !== 0) {
    const shown = [(aspm & 1) !== 0 ? exitL0s : undefined, (aspm & 2) !== 0 ? exitL1 : undefined];
    const texts = shown.flatMap((line) => (line === undefined ? [] : [line.render(capabilities)]));
    printer.print(`, Exit Latency ${texts.join(", ")}`);
  }
  printer.print(linkFlags.render(capabilities));
}

function showLinkStatus(printer: Printer, type: number, status: number, capabilities: number): void {
  const { MAX_LINK_SPEED, MAXIMUM_LINK_WIDTH } = Exp.LINK_CAPABILITIES.fields;
  const { CURRENT_LINK_SPEED, NEGOTIATED_LINK_WIDTH } = Exp.LINK_STATUS.fields;
  const [speed, width] = [CURRENT_LINK_SPEED.get(status), NEGOTIATED_LINK_WIDTH.get(status)];
  const speedNote = compared(type, speed, MAX_LINK_SPEED.get(capabilities));
  const widthNote = compared(type, width, MAXIMUM_LINK_WIDTH.get(capabilities));
  printer.print(`\t\tLnkSta:\tSpeed ${SPEEDS[speed] || "unknown"}${speedNote}, Width x${width}${widthNote}`);
  printer.print(linkStatusFlags.render(status));
}

/** A lower end of a link says how it compares; an upper end only when it is more than it can be. */
function compared(type: number, value: number, capability: number): string {
  if (value > capability) return " (overdriven)";
  return value === capability || isDownstream(type) ? "" : " (downgraded)";
}

const slotCapabilities = layout(
  Exp.SLOT_CAPABILITIES,
  "\t\tSltCap:\tAttnBtn{ATTENTION_BUTTON_PRESENT} PwrCtrl{POWER_CONTROLLER_PRESENT} MRL{MRL_SENSOR_PRESENT} " +
    "AttnInd{ATTENTION_INDICATOR_PRESENT} PwrInd{POWER_INDICATOR_PRESENT} HotPlug{HOT_PLUG_CAPABLE} " +
    "Surprise{HOT_PLUG_SURPRISE}\n\t\t\tSlot #{PHYSICAL_SLOT_NUMBER}, PowerLimit ",
);
const slotLocks = layout(
  Exp.SLOT_CAPABILITIES,
  "; Interlock{ELECTROMECHANICAL_INTERLOCK_PRESENT} NoCompl{NO_COMMAND_COMPLETED_SUPPORT}\n",
);
const slotControl = layout(
  Exp.SLOT_CONTROL,
  "\t\tSltCtl:\tEnable: AttnBtn{ATTENTION_BUTTON_PRESSED_ENABLE} PwrFlt{POWER_FAULT_DETECTED_ENABLE} " +
    "MRL{MRL_SENSOR_CHANGED_ENABLE} PresDet{PRESENCE_DETECT_CHANGED_ENABLE} " +
    "CmdCplt{COMMAND_COMPLETED_INTERRUPT_ENABLE} HPIrq{HOT_PLUG_INTERRUPT_ENABLE} " +
    "LinkChg{DATA_LINK_LAYER_STATE_CHANGED_ENABLE}\n" +
    "\t\t\tControl: AttnInd {ATTENTION_INDICATOR_CONTROL:indicator}, PwrInd {POWER_INDICATOR_CONTROL:indicator}, " +
    "Power{POWER_CONTROLLER_CONTROL} Interlock{ELECTROMECHANICAL_INTERLOCK_CONTROL}\n",
  formats,
);
const slotStatus = layout(
  Exp.SLOT_STATUS,
  "\t\tSltSta:\tStatus: AttnBtn{ATTENTION_BUTTON_PRESSED} PowerFlt{POWER_FAULT_DETECTED} MRL{MRL_SENSOR_STATE} " +
    "CmdCplt{COMMAND_COMPLETED} PresDet{PRESENCE_DETECT_STATE} Interlock{ELECTROMECHANICAL_INTERLOCK_STATUS}\n" +
    "\t\t\tChanged: MRL{MRL_SENSOR_CHANGED} PresDet{PRESENCE_DETECT_CHANGED} " +
    "LinkState{DATA_LINK_LAYER_STATE_CHANGED}\n",
);

function showSlot(printer: Printer, at: number): void {
  const raw = printer.raw(at, Exp.SLOT_CAPABILITIES);
  const { SLOT_POWER_LIMIT_VALUE, SLOT_POWER_LIMIT_SCALE } = Exp.SLOT_CAPABILITIES.fields;
  const limit = powerLimit(SLOT_POWER_LIMIT_VALUE.get(raw), SLOT_POWER_LIMIT_SCALE.get(raw));
  printer.print(`${slotCapabilities.render(raw)}${limit}${slotLocks.render(raw)}`);
  printer.show(at, slotControl, slotStatus);
}

const rootCapabilities = layout(
  Exp.ROOT_CAPABILITIES,
  "\t\tRootCap: CRSVisible{CONFIGURATION_RRS_SOFTWARE_VISIBILITY}\n",
);
const rootControl = layout(
  Exp.ROOT_CONTROL,
  "\t\tRootCtl: ErrCorrectable{SYSTEM_ERROR_ON_CORRECTABLE_ERROR_ENABLE} " +
    "ErrNon-Fatal{SYSTEM_ERROR_ON_NON_FATAL_ERROR_ENABLE} ErrFatal{SYSTEM_ERROR_ON_FATAL_ERROR_ENABLE} " +
    "PMEIntEna{PME_INTERRUPT_ENABLE} CRSVisible{CONFIGURATION_RRS_SOFTWARE_VISIBILITY_ENABLE}\n",
);
const rootStatus = layout(
  Exp.ROOT_STATUS,
  "\t\tRootSta: PME ReqID {PME_REQUESTER_ID:04x}, PMEStatus{PME_STATUS} PMEPending{PME_PENDING}\n",
);

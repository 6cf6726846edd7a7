// Text of the registers that came with the second version of the Express capability.
import { PciExpress as Exp } from "../capabilities/pci-express.ts";
import { formats, isDownstream, PortType } from "./express-formats.ts";
import { layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const device2Capabilities = layout(
  Exp.DEVICE_CAPABILITIES_2,
  "\t\tDevCap2: Completion Timeout: {COMPLETION_TIMEOUT_RANGES_SUPPORTED:ranges}, " +
    "TimeoutDis{COMPLETION_TIMEOUT_DISABLE_SUPPORTED} NROPrPrP{NO_RO_ENABLED_PR_PR_PASSING} LTR{LTR_MECHANISM_SUPPORTED}" +
    "\n\t\t\t 10BitTagComp{TEN_BIT_TAG_COMPLETER_SUPPORTED} 10BitTagReq{TEN_BIT_TAG_REQUESTER_SUPPORTED} " +
    "OBFF {OBFF_SUPPORTED:obffSupport}, ExtFmt{EXTENDED_FMT_FIELD_SUPPORTED} EETLPPrefix{END_END_TLP_PREFIX_SUPPORTED}",
  formats,
);
const prefixes = layout(Exp.DEVICE_CAPABILITIES_2, ", MaxEETLPPrefixes {MAX_END_END_TLP_PREFIXES:prefixes}", formats);
const emergency = layout(
  Exp.DEVICE_CAPABILITIES_2,
  "\n\t\t\t EmergencyPowerReduction {EMERGENCY_POWER_REDUCTION_SUPPORTED:emergency}, " +
    "EmergencyPowerReductionInit{EMERGENCY_POWER_REDUCTION_INITIALIZATION_REQUIRED}\n\t\t\t FRS{FRS_SUPPORTED}",
  formats,
);
const cacheLines = layout(Exp.DEVICE_CAPABILITIES_2, " LN System CLS {LN_SYSTEM_CLS:cacheLines},", formats);
const hints = layout(Exp.DEVICE_CAPABILITIES_2, " {TPH_COMPLETER_SUPPORTED:hints}", formats);
const ariSupport = layout(Exp.DEVICE_CAPABILITIES_2, " ARIFwd{ARI_FORWARDING_SUPPORTED}");
const routing = layout(Exp.DEVICE_CAPABILITIES_2, " Routing{ATOMIC_OP_ROUTING_SUPPORTED}");
const completer = layout(
  Exp.DEVICE_CAPABILITIES_2,
  " 32bit{ATOMIC_OP_32_BIT_COMPLETER_SUPPORTED} 64bit{ATOMIC_OP_64_BIT_COMPLETER_SUPPORTED} " +
    "128bitCAS{CAS_128_BIT_COMPLETER_SUPPORTED}",
);
const device2Control = layout(
  Exp.DEVICE_CONTROL_2,
  "\t\tDevCtl2: Completion Timeout: {COMPLETION_TIMEOUT_VALUE:timeout}, TimeoutDis{COMPLETION_TIMEOUT_DISABLE}",
  formats,
);
const ari = layout(Exp.DEVICE_CONTROL_2, " ARIFwd{ARI_FORWARDING_ENABLE}");
const requester = layout(Exp.DEVICE_CONTROL_2, " ReqEn{ATOMIC_OP_REQUESTER_ENABLE}");
const egress = layout(Exp.DEVICE_CONTROL_2, " EgressBlck{ATOMIC_OP_EGRESS_BLOCKING}");
const device2Rest = layout(
  Exp.DEVICE_CONTROL_2,
  "\t\t\t IDOReq{IDO_REQUEST_ENABLE} IDOCompl{IDO_COMPLETION_ENABLE} LTR{LTR_MECHANISM_ENABLE} " +
    "EmergencyPowerReductionReq{EMERGENCY_POWER_REDUCTION_REQUEST}\n" +
    "\t\t\t 10BitTagReq{TEN_BIT_TAG_REQUESTER_ENABLE} OBFF {OBFF_ENABLE:obff}, " +
    "EETLPPrefixBlk{END_END_TLP_PREFIX_BLOCKING}\n",
  formats,
);

export function showDevice2(printer: Printer, at: number, type: number): void {
  const capabilities = printer.raw(at, Exp.DEVICE_CAPABILITIES_2);
  const isRootPort = type === PortType.ROOT_PORT;
  const forwards = isRootPort || type === PortType.DOWNSTREAM;
  const routes = forwards || type === PortType.UPSTREAM;
  const isEndpoint = type === PortType.ENDPOINT;
  const requests =
    isRootPort || isEndpoint || type === PortType.INTEGRATED_ENDPOINT || type === PortType.LEGACY_ENDPOINT;
  const completes = isRootPort || hasMemoryBar(printer);
  printer.print(device2Capabilities.render(capabilities));
  if (Exp.DEVICE_CAPABILITIES_2.fields.END_END_TLP_PREFIX_SUPPORTED.test(capabilities)) {
    printer.print(prefixes.render(capabilities));
  }
  printer.print(emergency.render(capabilities));
  if (isRootPort) printer.print(cacheLines.render(capabilities));
  if (isRootPort || isEndpoint) printer.print(hints.render(capabilities));
  printer.print(`${forwards ? ariSupport.render(capabilities) : ""}\n`);
  if (routes || completes) {
    printer.print("\t\t\t AtomicOpsCap:");
    if (routes) printer.print(routing.render(capabilities));
    if (completes) printer.print(completer.render(capabilities));
    printer.print("\n");
  }
  const control = printer.raw(at, Exp.DEVICE_CONTROL_2);
  printer.print(`${device2Control.render(control)}${forwards ? ari.render(control) : ""}\n`);
  if (routes || requests) {
    printer.print("\t\t\t AtomicOpsCtl:");
    if (requests) printer.print(requester.render(control));
    if (routes) printer.print(egress.render(control));
    printer.print("\n");
  }
  printer.print(device2Rest.render(control));
}

function hasMemoryBar({ shown }: Printer): boolean {
  return shown.bars().some(({ base, size }) => (base !== 0n || size !== 0n) && (base & 1n) === 0n);
}

const link2Capabilities = layout(
  Exp.LINK_CAPABILITIES_2,
  "\t\tLnkCap2: Supported Link Speeds: {SUPPORTED_LINK_SPEEDS_VECTOR:speeds}, Crosslink{CROSSLINK_SUPPORTED} " +
    "Retimer{RETIMER_PRESENCE_DETECT_SUPPORTED} 2Retimers{TWO_RETIMERS_PRESENCE_DETECT_SUPPORTED} DRS{DRS_SUPPORTED}\n",
  formats,
);
const link2Control = layout(
  Exp.LINK_CONTROL_2,
  "\t\tLnkCtl2: Target Link Speed: {TARGET_LINK_SPEED:targetSpeed}, EnterCompliance{ENTER_COMPLIANCE} " +
    "SpeedDis{HARDWARE_AUTONOMOUS_SPEED_DISABLE}",
  formats,
);
const selectable = layout(Exp.LINK_CONTROL_2, ", Selectable De-emphasis: {SELECTABLE_DE_EMPHASIS:deEmphasis}", formats);
const compliance = layout(
  Exp.LINK_CONTROL_2,
  "\n\t\t\t Transmit Margin: {TRANSMIT_MARGIN:margin}, EnterModifiedCompliance{ENTER_MODIFIED_COMPLIANCE} " +
    "ComplianceSOS{COMPLIANCE_SOS}\n\t\t\t Compliance Preset/De-emphasis: {COMPLIANCE_PRESET_DE_EMPHASIS:preset}\n",
  formats,
);
const link2Status = layout(
  Exp.LINK_STATUS_2,
  "\t\tLnkSta2: Current De-emphasis Level: {CURRENT_DE_EMPHASIS_LEVEL:deEmphasis}, " +
    "EqualizationComplete{EQUALIZATION_8_GT_COMPLETE} EqualizationPhase1{EQUALIZATION_8_GT_PHASE_1_SUCCESSFUL}\n" +
    "\t\t\t EqualizationPhase2{EQUALIZATION_8_GT_PHASE_2_SUCCESSFUL} " +
    "EqualizationPhase3{EQUALIZATION_8_GT_PHASE_3_SUCCESSFUL} " +
    "LinkEqualizationRequest{LINK_EQUALIZATION_REQUEST_8_GT}\n" +
    "\t\t\t Retimer{RETIMER_PRESENCE_DETECTED} 2Retimers{TWO_RETIMERS_PRESENCE_DETECTED} " +
    "CrosslinkRes: {CROSSLINK_RESOLUTION:crosslink}, FltMode{FLIT_MODE_STATUS}",
  formats,
);
const readiness = layout(
  Exp.LINK_STATUS_2,
  ", DRS{DRS_MESSAGE_RECEIVED}\n\t\t\t DownstreamComp: {DOWNSTREAM_COMPONENT_PRESENCE:presence}",
  formats,
);

export function showLink2(printer: Printer, at: number, type: number): void {
  const isEndpoint = type === PortType.ENDPOINT || type === PortType.LEGACY_ENDPOINT;
  const { device, function: number } = printer.shown.address;
  let capabilities = 0;
  // In the further functions of a device these registers are reserved.
  if (!isEndpoint || (device === 0 && number === 0)) {
    capabilities = printer.raw(at, Exp.LINK_CAPABILITIES_2);
    if (capabilities !== 0) printer.print(link2Capabilities.render(capabilities));
    printer.show(at, link2Control);
    if (type === PortType.DOWNSTREAM) printer.show(at, selectable);
    printer.show(at, compliance);
  }
  printer.show(at, link2Status);
  const ready = Exp.LINK_CAPABILITIES_2.fields.DRS_SUPPORTED.test(capabilities);
  if (isDownstream(type) && ready) printer.show(at, readiness);
  printer.print("\n");
}

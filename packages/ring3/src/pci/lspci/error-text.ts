// Text of advanced error reporting and downstream port containment.
import { AdvancedErrorReporting as Aer } from "../capabilities/advanced-error-reporting.ts";
import { DownstreamPortContainment as Dpc } from "../capabilities/downstream-port-containment.ts";
import type { Register } from "../register.ts";
import { PortType } from "./express-formats.ts";
import { type Layout, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

function uncorrectable(register: Register, name: string): Layout {
  return layout(
    register,
    `\t\t${name}:\tDLP{DATA_LINK_PROTOCOL_ERROR} SDES{SURPRISE_DOWN_ERROR} TLP{POISONED_TLP_RECEIVED} ` +
      "FCP{FLOW_CONTROL_PROTOCOL_ERROR} CmpltTO{COMPLETION_TIMEOUT} CmpltAbrt{COMPLETER_ABORT} " +
      "UnxCmplt{UNEXPECTED_COMPLETION} RxOF{RECEIVER_OVERFLOW} MalfTLP{MALFORMED_TLP}\n" +
      "\t\t\tECRC{ECRC_ERROR} UnsupReq{UNSUPPORTED_REQUEST_ERROR} ACSViol{ACS_VIOLATION} " +
      "UncorrIntErr{UNCORRECTABLE_INTERNAL_ERROR} BlockedTLP{MC_BLOCKED_TLP} AtomicOpBlocked{ATOMIC_OP_EGRESS_BLOCKED} " +
      "TLPBlockedErr{TLP_PREFIX_BLOCKED_ERROR}\n" +
      "\t\t\tPoisonTLPBlocked{POISONED_TLP_EGRESS_BLOCKED} DMWrReqBlocked{DMWR_REQUEST_EGRESS_BLOCKED} " +
      "IDECheck{IDE_CHECK_FAILED} MisIDETLP{MISROUTED_IDE_TLP} PCRC_CHECK{PCRC_CHECK_FAILED} " +
      "TLPXlatBlocked{TLP_TRANSLATION_EGRESS_BLOCKED}\n",
  );
}

function correctable(register: Register, name: string): Layout {
  return layout(
    register,
    `\t\t${name}:\tRxErr{RECEIVER_ERROR} BadTLP{BAD_TLP} BadDLLP{BAD_DLLP} Rollover{REPLAY_NUM_ROLLOVER} ` +
      "Timeout{REPLAY_TIMER_TIMEOUT} AdvNonFatalErr{ADVISORY_NON_FATAL_ERROR} CorrIntErr{CORRECTED_INTERNAL_ERROR} " +
      "HeaderOF{HEADER_LOG_OVERFLOW}\n",
  );
}

const errors = [
  uncorrectable(Aer.UNCORRECTABLE_ERROR_STATUS, "UESta"),
  uncorrectable(Aer.UNCORRECTABLE_ERROR_MASK, "UEMsk"),
  uncorrectable(Aer.UNCORRECTABLE_ERROR_SEVERITY, "UESvrt"),
  correctable(Aer.CORRECTABLE_ERROR_STATUS, "CESta"),
  correctable(Aer.CORRECTABLE_ERROR_MASK, "CEMsk"),
  layout(
    Aer.CAPABILITIES_AND_CONTROL,
    "\t\tAERCap:\tFirst Error Pointer: {FIRST_ERROR_POINTER:02x}, ECRCGenCap{ECRC_GENERATION_CAPABLE} " +
      "ECRCGenEn{ECRC_GENERATION_ENABLE} ECRCChkCap{ECRC_CHECK_CAPABLE} ECRCChkEn{ECRC_CHECK_ENABLE}\n" +
      "\t\t\tMultHdrRecCap{MULTIPLE_HEADER_RECORDING_CAPABLE} MultHdrRecEn{MULTIPLE_HEADER_RECORDING_ENABLE} " +
      "TLPPfxPres{TLP_PREFIX_LOG_PRESENT} HdrLogCap{COMPLETION_TIMEOUT_LOG_CAPABLE}\n",
  ),
  layout(Aer.HEADER_LOG_0, "\t\tHeaderLog: {VALUE:08x}"),
  layout(Aer.HEADER_LOG_1, " {VALUE:08x}"),
  layout(Aer.HEADER_LOG_2, " {VALUE:08x}"),
  layout(Aer.HEADER_LOG_3, " {VALUE:08x}\n"),
];
const rootErrors = [
  layout(
    Aer.ROOT_ERROR_COMMAND,
    "\t\tRootCmd: CERptEn{CORRECTABLE_ERROR_REPORTING_ENABLE} NFERptEn{NON_FATAL_ERROR_REPORTING_ENABLE} " +
      "FERptEn{FATAL_ERROR_REPORTING_ENABLE}\n",
  ),
  layout(
    Aer.ROOT_ERROR_STATUS,
    "\t\tRootSta: CERcvd{ERR_COR_RECEIVED} MultCERcvd{MULTIPLE_ERR_COR_RECEIVED} " +
      "UERcvd{ERR_FATAL_NONFATAL_RECEIVED} MultUERcvd{MULTIPLE_ERR_FATAL_NONFATAL_RECEIVED}\n" +
      "\t\t\t FirstFatal{FIRST_UNCORRECTABLE_FATAL} NonFatalMsg{NON_FATAL_ERROR_MESSAGES_RECEIVED} " +
      "FatalMsg{FATAL_ERROR_MESSAGES_RECEIVED} IntMsgNum {ADVANCED_ERROR_INTERRUPT_MESSAGE_NUMBER}\n",
  ),
  layout(
    Aer.ERROR_SOURCE_IDENTIFICATION,
    "\t\tErrorSrc: ERR_COR: {ERR_COR_SOURCE:04x} ERR_FATAL/NONFATAL: {ERR_FATAL_NONFATAL_SOURCE:04x}\n",
  ),
];

export function showAdvancedErrors(printer: Printer, at: number, portType: number): void {
  printer.print("Advanced Error Reporting\n");
  if (!printer.detailed || !printer.fetch(at, Aer.UNCORRECTABLE_ERROR_STATUS, Aer.HEADER_LOG_3)) return;
  printer.show(at, ...errors);
  if (portType !== PortType.ROOT_PORT && portType !== PortType.EVENT_COLLECTOR) return;
  if (printer.fetch(at, Aer.ROOT_ERROR_COMMAND, Aer.ERROR_SOURCE_IDENTIFICATION)) printer.show(at, ...rootErrors);
}

const containment = [
  layout(
    Dpc.CAPABILITY,
    "\t\tDpcCap:\tIntMsgNum {INTERRUPT_MESSAGE_NUMBER}, RPExt{RP_EXTENSIONS} " +
      "PoisonedTLP{POISONED_TLP_EGRESS_BLOCKING_SUPPORTED} SwTrigger{SOFTWARE_TRIGGERING_SUPPORTED} " +
      "RP PIO Log {RP_PIO_LOG_SIZE}, DL_ActiveErr{DL_ACTIVE_ERR_COR_SIGNALING_SUPPORTED}\n",
  ),
  layout(
    Dpc.CONTROL,
    "\t\tDpcCtl:\tTrigger:{TRIGGER_ENABLE:x} Cmpl{COMPLETION_CONTROL} INT{INTERRUPT_ENABLE} ErrCor{ERR_COR_ENABLE} " +
      "PoisonedTLP{POISONED_TLP_EGRESS_BLOCKING_ENABLE} SwTrigger{SOFTWARE_TRIGGER} " +
      "DL_ActiveErr{DL_ACTIVE_ERR_COR_ENABLE}\n",
  ),
  layout(
    Dpc.STATUS,
    "\t\tDpcSta:\tTrigger{TRIGGER_STATUS} Reason:{TRIGGER_REASON:02x} INT{INTERRUPT_STATUS} RPBusy{RP_BUSY} " +
      "TriggerExt:{TRIGGER_REASON_EXTENSION:02x} RP PIO ErrPtr:{RP_PIO_FIRST_ERROR_POINTER:02x}\n",
  ),
  layout(Dpc.ERROR_SOURCE_ID, "\t\tSource:\t{VALUE:04x}\n"),
];

export function showPortContainment(printer: Printer, at: number): void {
  printer.print("Downstream Port Containment\n");
  if (printer.detailed && printer.fetch(at, Dpc.CAPABILITY, Dpc.ERROR_SOURCE_ID)) printer.show(at, ...containment);
}

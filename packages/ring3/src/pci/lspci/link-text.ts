// Text of the extended capabilities of a link: equalisation, margins, power states, flits.
import { Device3 } from "../capabilities/device-3.ts";
import { FlitErrorInjection as Injection } from "../capabilities/flit-error-injection.ts";
import { FlitLogging } from "../capabilities/flit-logging.ts";
import { L1PmSubstates as L1 } from "../capabilities/l1-pm-substates.ts";
import { LaneMargining } from "../capabilities/lane-margining.ts";
import { PhysicalLayer16, PhysicalLayer32, PhysicalLayer64 } from "../capabilities/physical-layer.ts";
import { SecondaryExpress } from "../capabilities/secondary-express.ts";
import type { Register } from "../register.ts";
import { type Layout, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";
import { ltrScale } from "./services-text.ts";

const linkControl3 = layout(
  SecondaryExpress.LINK_CONTROL_3,
  "\t\tLnkCtl3: LnkEquIntrruptEn{LINK_EQUALIZATION_REQUEST_INTERRUPT_ENABLE} PerformEqu{PERFORM_EQUALIZATION}\n",
);

export function showSecondaryExpress(printer: Printer, at: number): void {
  printer.print("Secondary PCI Express\n");
  if (!printer.detailed || !printer.config.fetch(at + 4, 12)) return;
  printer.show(at, linkControl3);
  // lspci looks at 16 lanes.
  const errors = printer.raw(at, SecondaryExpress.LANE_ERROR_STATUS) & 0xffff;
  const lanes = Array.from({ length: 16 }, (_, lane) => lane).filter((lane) => (errors >>> lane) & 1);
  printer.print(`\t\tLaneErrStat: ${lanes.length === 0 ? "0" : `LaneErr at lane: ${lanes.join(" ")}`}\n`);
}

const EQUALIZATION =
  "EquComplete{EQUALIZATION_COMPLETE} EquPhase1{EQUALIZATION_PHASE_1_SUCCESSFUL} " +
  "EquPhase2{EQUALIZATION_PHASE_2_SUCCESSFUL} EquPhase3{EQUALIZATION_PHASE_3_SUCCESSFUL} " +
  "LinkEquRequest{LINK_EQUALIZATION_REQUEST}\n";
const status16 = layout(PhysicalLayer16.STATUS, `\t\tPhy16Sta: ${EQUALIZATION}`);
const layer32 = [
  layout(
    PhysicalLayer32.CAPABILITIES,
    "\t\tPhy32Cap: EqualizationBypass{EQUALIZATION_BYPASS_SUPPORTED} " +
      "NoEqualizationNeeded{NO_EQUALIZATION_NEEDED_SUPPORTED}\n" +
      "\t\t\t  ModTsMode0{MODIFIED_TS_USAGE_MODE_0_SUPPORTED} ModTsMode1{MODIFIED_TS_USAGE_MODE_1_SUPPORTED} " +
      "ModTsMode2{MODIFIED_TS_USAGE_MODE_2_SUPPORTED}\n",
  ),
  layout(
    PhysicalLayer32.CONTROL,
    "\t\tPhy32Ctl: EqualizationBypassDis{EQUALIZATION_BYPASS_DISABLE} " +
      "NoEqualizationNeededDis{NO_EQUALIZATION_NEEDED_DISABLE}\n" +
      "\t\t\t  Modified TS Usage Mode: {MODIFIED_TS_USAGE_MODE_SELECTED:mode}\n",
    { mode: ["PCI Express", "Training Set Messages", "Alternate Protocol Negotiation"] },
  ),
  layout(
    PhysicalLayer32.STATUS,
    `\t\tPhy32Sta: ${EQUALIZATION}` +
      "\t\t\t  Received Enhanced Link Behavior Control: {RECEIVED_ENHANCED_LINK_BEHAVIOR_CONTROL:behavior}\n" +
      "\t\t\t  ModTsRecv{MODIFIED_TS_RECEIVED} TxPrecodeOn{TRANSMITTER_PRECODING_ON} " +
      "TxPrecodeReq{TRANSMITTER_PRECODE_REQUEST} NoEqualizationNeededRecv{NO_EQUALIZATION_NEEDED_RECEIVED}\n",
    {
      behavior: [
        "Full Equalization required",
        "Equalization bypass to highest rate support",
        "No Equalization Needed",
        "Modified TS1/TS2 Ordered Sets supported",
      ],
    },
  ),
];
const status64 = layout(
  PhysicalLayer64.STATUS,
  `\t\tPhy64Sta: ${EQUALIZATION}\t\t\t  TxPrecodeOn{TRANSMITTER_PRECODING_ON} ` +
    "TxPrecodeReq{TRANSMITTER_PRECODE_REQUEST} NoEqualizationNeededRecv{NO_EQUALIZATION_NEEDED_RECEIVED}\n",
);

/** Fetches `size` bytes behind the header and shows the lines, or says that it could not. */
function whole(name: string, size: number, lines: readonly Layout[]): (printer: Printer, at: number) => void {
  return (printer, at) => {
    printer.print(`${name}\n`);
    if (!printer.detailed) return;
    if (printer.config.fetch(at + 4, size)) printer.show(at, ...lines);
    else printer.print("\t\t<unreadable>\n");
  };
}

type Show = (printer: Printer, at: number) => void;
export const showPhysicalLayer16: Show = whole("Physical Layer 16.0 GT/s", 0x18, [status16]);
export const showPhysicalLayer32: Show = whole("Physical Layer 32.0 GT/s", 0x1c, layer32);
export const showPhysicalLayer64: Show = whole("Physical Layer 64.0 GT/s", 0x0c, [status64]);

const margining = [
  layout(LaneMargining.PORT_CAPABILITIES, "\t\tPortCap: Uses Driver{MARGINING_USES_DRIVER_SOFTWARE}\n"),
  layout(
    LaneMargining.PORT_STATUS,
    "\t\tPortSta: MargReady{MARGINING_READY} MargSoftReady{MARGINING_SOFTWARE_READY}\n",
  ),
];

export function showLaneMargining(printer: Printer, at: number): void {
  printer.print("Lane Margining at the Receiver\n");
  if (printer.detailed && printer.config.fetch(at, 8)) printer.show(at, ...margining);
}

const substates = layout(
  L1.CAPABILITIES,
  "\t\tL1SubCap: PCI-PM_L1.2{PCI_PM_L1_2_SUPPORTED} PCI-PM_L1.1{PCI_PM_L1_1_SUPPORTED} " +
    "ASPM_L1.2{ASPM_L1_2_SUPPORTED} ASPM_L1.1{ASPM_L1_1_SUPPORTED} L1_PM_Substates{L1_PM_SUBSTATES_SUPPORTED}\n",
);
const restoreTime = layout(
  L1.CAPABILITIES,
  "\t\t\t  PortCommonModeRestoreTime={PORT_COMMON_MODE_RESTORE_TIME}us PortTPowerOnTime=",
);
const substateControl = layout(
  L1.CONTROL_1,
  "\t\tL1SubCtl1: PCI-PM_L1.2{PCI_PM_L1_2_ENABLE} PCI-PM_L1.1{PCI_PM_L1_1_ENABLE} ASPM_L1.2{ASPM_L1_2_ENABLE} " +
    "ASPM_L1.1{ASPM_L1_1_ENABLE}\n",
);
const commonMode = layout(L1.CONTROL_1, "\t\t\t   T_CommonMode={COMMON_MODE_RESTORE_TIME}us");

export function showL1Substates(printer: Printer, at: number): void {
  printer.print("L1 PM Substates\n");
  if (!printer.detailed) return;
  if (!printer.fetch(at, L1.CAPABILITIES, L1.CONTROL_2)) {
    printer.print("\t\t<unreadable>\n");
    return;
  }
  const capabilities = printer.raw(at, L1.CAPABILITIES);
  const { PCI_PM_L1_2_SUPPORTED, ASPM_L1_2_SUPPORTED, ...times } = L1.CAPABILITIES.fields;
  const hasAspm = ASPM_L1_2_SUPPORTED.test(capabilities);
  const has12 = hasAspm || PCI_PM_L1_2_SUPPORTED.test(capabilities);
  printer.print(substates.render(capabilities));
  if (has12) {
    const time = powerOn(times.PORT_T_POWER_ON_SCALE.get(capabilities), times.PORT_T_POWER_ON_VALUE.get(capabilities));
    printer.print(`${restoreTime.render(capabilities)}${time}\n`);
  }
  const control = printer.raw(at, L1.CONTROL_1);
  printer.print(substateControl.render(control));
  if (has12) {
    printer.print(commonMode.render(control));
    if (hasAspm) {
      const { LTR_L1_2_THRESHOLD_SCALE, LTR_L1_2_THRESHOLD_VALUE } = L1.CONTROL_1.fields;
      const scale = LTR_L1_2_THRESHOLD_SCALE.get(control);
      const threshold = LTR_L1_2_THRESHOLD_VALUE.get(control) * ltrScale(scale);
      printer.print(` LTR1.2_Threshold=${scale > 5 ? "<error>" : `${threshold}ns`}`);
    }
    printer.print("\n");
  }
  const { T_POWER_ON_SCALE, T_POWER_ON_VALUE } = L1.CONTROL_2.fields;
  const control2 = printer.raw(at, L1.CONTROL_2);
  const time = powerOn(T_POWER_ON_SCALE.get(control2), T_POWER_ON_VALUE.get(control2));
  printer.print(`\t\tL1SubCtl2:${has12 ? ` T_PwrOn=${time}` : ""}\n`);
}

function powerOn(scale: number, value: number): string {
  const unit = [2, 10, 100][scale];
  return unit === undefined ? "<error>" : `${unit * value}us`;
}

const EXIT = [
  ...["Less than 1us", "1us to less than 2us", "2us to less than 4us", "4us to less than 8us"],
  ...["8us to less than 16us", "16us to less than 32us", "32us-64us", "More than 64us"],
];
const WIDTHS: Readonly<Record<number, string>> = { 0: "x1", 1: "x2", 2: "x4", 3: "x8", 4: "x16", 7: "Dynamic" };
const width = (value: number): string => WIDTHS[value] ?? `Unknown (${value})`;
const device3 = layout(
  Device3.CAPABILITIES,
  "\t\tDevCap3: DMWr Request Routing{DMWR_REQUEST_ROUTING_SUPPORTED}, " +
    "14-Bit Tag Completer{FOURTEEN_BIT_TAG_COMPLETER_SUPPORTED}, " +
    "14-Bit Tag Requester{FOURTEEN_BIT_TAG_REQUESTER_SUPPORTED}\n\t\t\t L0p{RECEIVER_L0P_SUPPORTED}",
);
const exitLatencies = layout(
  Device3.CAPABILITIES,
  ", Port L0p Exit Latency: {PORT_L0P_EXIT_LATENCY:exit}, Retimer L0p Exit Latency: {RETIMER_L0P_EXIT_LATENCY:exit}",
  { exit: EXIT },
);
const unordered = layout(
  Device3.CAPABILITIES,
  "\n\t\t\t UIO Mem RdWr Completer{UIO_MEM_RD_WR_COMPLETER_SUPPORTED}, " +
    "UIO Mem RdWr Requester{UIO_MEM_RD_WR_REQUESTER_SUPPORTED}\n",
);
const device3Control = layout(
  Device3.CONTROL,
  "\t\tDevCtl3: DMWr Requester{DMWR_REQUESTER_ENABLE}, DMWr Egress Blocking{DMWR_EGRESS_BLOCKING}, " +
    "14-Bit Tag Requester{FOURTEEN_BIT_TAG_REQUESTER_ENABLE}\n" +
    "\t\t\t L0p{L0P_ENABLE}, Target Link Width: {TARGET_LINK_WIDTH:width}\n" +
    "\t\t\t UIO Mem RdWr Requester{UIO_MEM_RD_WR_REQUESTER_ENABLE}, " +
    "UIO Request 256B Boundary{!UIO_REQUEST_256B_BOUNDARY_DISABLE}\n",
  { width },
);
const device3Status = layout(
  Device3.STATUS,
  "\t\tDevSta3: Initial Link Width: {INITIAL_LINK_WIDTH:width}, Segment Captured{SEGMENT_CAPTURED}, " +
    "Remote L0p{REMOTE_L0P_SUPPORTED}\n",
  { width },
);

export function showDevice3(printer: Printer, at: number): void {
  printer.print("Device 3\n");
  if (!printer.detailed || !printer.fetch(at, Device3.CAPABILITIES)) return;
  const raw = printer.raw(at, Device3.CAPABILITIES);
  printer.print(device3.render(raw));
  if (Device3.CAPABILITIES.fields.RECEIVER_L0P_SUPPORTED.test(raw)) printer.print(exitLatencies.render(raw));
  printer.print(unordered.render(raw));
  if (!printer.fetch(at, Device3.CONTROL)) return;
  printer.show(at, device3Control);
  if (printer.fetch(at, Device3.STATUS)) printer.show(at, device3Status);
}

const FLIT_TYPES = ["any", "any non-IDLE", "only payload", "only NOP"];
const unknown = (value: number): string => `Unknown (${value})`;
const flitFormats = {
  // lspci looks at the lower two bits.
  type: (value: number) => `${FLIT_TYPES[value & 3]}`,
  consecutive: (value: number) => {
    if (value === 4) return unknown(value);
    return value === 0 ? "none" : value === 7 ? "pseudo-random" : `${value}`;
  },
  error: ["random", "correctable single group", "correctable three groups", "uncorrectable"],
  state: ["not started", "started", "completed", "error"],
  granularity: ["all", "even", "odd", "mismatch"],
  width,
};
const PAD = "\t\t\t      ";

function orderedSets(register: Register, name: string): Layout {
  return layout(
    register,
    `\t\t${name}:   TS0: {TS0:state}, TS1: {TS1:state}, TS2: {TS2:state}\n` +
      `${PAD}SKP: {SKP:state}, EIEOS: {EIEOS:state}, EIOS: {EIOS:state}\n` +
      `${PAD}SDS: {SDS:state}, Polling: {POLLING:state}, Configuration: {CONFIGURATION:state}\n` +
      `${PAD}L0: {L0:state}, non-EQ recovery: {NON_EQUALIZATION_RECOVERY:state}, Eq01: {EQUALIZATION_01:state}\n` +
      `${PAD}Eq2: {EQUALIZATION_2:state}, Eq3: {EQUALIZATION_3:state}\n`,
    flitFormats,
  );
}

const injection = [
  layout(
    Injection.CONTROL_1,
    "\t\tFlitEiCtl1:   En{INJECTION_ENABLE} Tx{INJECT_ON_TRANSMIT} Rx{INJECT_ON_RECEIVE} 2.5GT/s{RATE_2_5_GT} " +
      "5.0GT/s{RATE_5_0_GT} 8.0GT/s{RATE_8_0_GT} 16.0GT/s{RATE_16_0_GT} 32.0GT/s{RATE_32_0_GT} " +
      `64.0GT/s{RATE_64_0_GT}\n${PAD}Number of errors: {NUMBER_OF_ERRORS}, Spacing between errors: {SPACING}, ` +
      "Flit Type: {FLIT_TYPE:type}\n",
    flitFormats,
  ),
  layout(
    Injection.CONTROL_2,
    "\t\tFlitEiCtl2:   Consecutive: {CONSECUTIVE_ERRORS:consecutive}, Type: {ERROR_TYPE:error}, " +
      "Offset: {ERROR_OFFSET}, Magnitude: {ERROR_MAGNITUDE}\n",
    flitFormats,
  ),
  layout(Injection.STATUS, "\t\tFlitEiSts:    Tx: {TRANSMIT:state}, Rx: {RECEIVE:state}\n", flitFormats),
  layout(
    Injection.ORDERED_SET_CONTROL_1,
    "\t\tFlitEiOsCtl1: En{INJECTION_ENABLE} Tx{INJECT_ON_TRANSMIT} Rx{INJECT_ON_RECEIVE} TS0{TS0} TS1{TS1} TS2{TS2} " +
      `SKP{SKP} EIEOS{EIEOS} EIOS{EIOS}\n${PAD}SDS{SDS} Poll{POLLING} Conf{CONFIGURATION} L0{L0} ` +
      "NoEq{NON_EQUALIZATION_RECOVERY} Eq01{EQUALIZATION_01} Eq2{EQUALIZATION_2} Eq3{EQUALIZATION_3}\n",
  ),
  layout(Injection.ORDERED_SET_CONTROL_2, "\t\tFlitEiOsCtl2: Bytes: {BYTES:04x}, Lanes: {LANES:04x}\n"),
  orderedSets(Injection.ORDERED_SET_TRANSMIT_STATUS, "FlitEiOsTx"),
  orderedSets(Injection.ORDERED_SET_RECEIVE_STATUS, "FlitEiOsRx"),
];

export function showFlitErrorInjection(printer: Printer, at: number): void {
  printer.print("Flit Error Injection\n");
  if (printer.detailed && printer.config.fetch(at + 4, 32)) printer.show(at, ...injection);
}

const LOG_PAD = "\t\t\t   ";
const measured = [
  FlitLogging.MEASUREMENT_STATUS_3,
  FlitLogging.MEASUREMENT_STATUS_4,
  FlitLogging.MEASUREMENT_STATUS_5,
  FlitLogging.MEASUREMENT_STATUS_6,
  FlitLogging.MEASUREMENT_STATUS_7,
  FlitLogging.MEASUREMENT_STATUS_8,
  FlitLogging.MEASUREMENT_STATUS_9,
  FlitLogging.MEASUREMENT_STATUS_10,
].map((register: Register, index) => {
  const lane = (number: number): string => `${`Lane${number}:`.padEnd(8)}{LANE_${number}:5d}`;
  const name = `MeasSts${index + 3}:`.padEnd(11);
  return layout(register, `\t\t${name}${lane(2 * index)}, ${lane(2 * index + 1)}\n`);
});
const logging = [
  layout(
    FlitLogging.ERROR_LOG_1,
    `\t\tLog1:      Valid{VALID}, Link Width: {LINK_WIDTH:width}\n${LOG_PAD}More entries{MORE_ENTRIES} ` +
      "Unrecognized flit{UNRECOGNIZED_FLIT} FEC uncorrectable{FEC_UNCORRECTABLE}\n" +
      `${LOG_PAD}SyndParityGrp0: {SYNDROME_PARITY_GROUP_0:02x}, SyndCheckGrp0: {SYNDROME_CHECK_GROUP_0:02x}\n`,
    flitFormats,
  ),
  layout(
    FlitLogging.ERROR_LOG_2,
    "\t\tLog2:      SyndParityGrp1: {SYNDROME_PARITY_GROUP_1:02x}, SyndCheckGrp1: {SYNDROME_CHECK_GROUP_1:02x}\n" +
      `${LOG_PAD}SyndParityGrp2: {SYNDROME_PARITY_GROUP_2:02x}, SyndCheckGrp2: {SYNDROME_CHECK_GROUP_2:02x}\n`,
  ),
  layout(
    FlitLogging.ERROR_COUNTER_CONTROL,
    "\t\tCntCtl:    Flit Error Counter En{COUNTER_ENABLE} Flit Error Counter Interrupt En{INTERRUPT_ENABLE}\n" +
      `${LOG_PAD}Events to count: {EVENTS_TO_COUNT}, Trigger Event on Error Count: {TRIGGER_EVENT_ON_ERROR_COUNT:02x}\n`,
  ),
  layout(
    FlitLogging.ERROR_COUNTER_STATUS,
    "\t\tCntSts:    Link Width when Error Counter Started {LINK_WIDTH_AT_START:width}\n" +
      `${LOG_PAD}Interrupt Generated based on Trigger Event Count{LINK_WIDTH_AT_START.2}, FlitErr: {ERROR_COUNT}\n`,
    flitFormats,
  ),
  layout(
    FlitLogging.MEASUREMENT_CONTROL,
    "\t\tMeasCtl:   En{ENABLE} Granularity: {GRANULARITY:granularity}\n",
    flitFormats,
  ),
  layout(FlitLogging.MEASUREMENT_STATUS_1, "\t\tMeasSts1:  Flit Counter: {FLIT_COUNTER:d}\n"),
  layout(FlitLogging.MEASUREMENT_STATUS_2, "\t\tMeasSts2:  Invalid Flit Counter: {INVALID_FLIT_COUNTER:d}\n"),
  ...measured,
];

export function showFlitLogging(printer: Printer, at: number): void {
  printer.print("Flit Logging\n");
  if (printer.detailed && printer.config.fetch(at + 4, 56)) printer.show(at, ...logging);
}

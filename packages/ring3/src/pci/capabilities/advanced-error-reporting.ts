// PCIe 6.0, section 7.8.4. Everything that matters is sticky, so that the cause of a reset can be read after it. The root
// registers exist in root ports and event collectors only.
import type { CapabilityEntry } from "../capability-walk.ts";
import type { ConfigSpace } from "../config-space.ts";
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  UNCORRECTABLE_ERROR_STATUS: {
    at: [0x04, 32],
    DATA_LINK_PROTOCOL_ERROR: ["RW1CS", 4],
    SURPRISE_DOWN_ERROR: ["RW1CS", 5],
    POISONED_TLP_RECEIVED: ["RW1CS", 12],
    FLOW_CONTROL_PROTOCOL_ERROR: ["RW1CS", 13],
    COMPLETION_TIMEOUT: ["RW1CS", 14],
    COMPLETER_ABORT: ["RW1CS", 15],
    UNEXPECTED_COMPLETION: ["RW1CS", 16],
    RECEIVER_OVERFLOW: ["RW1CS", 17],
    MALFORMED_TLP: ["RW1CS", 18],
    ECRC_ERROR: ["RW1CS", 19],
    UNSUPPORTED_REQUEST_ERROR: ["RW1CS", 20],
    ACS_VIOLATION: ["RW1CS", 21],
    UNCORRECTABLE_INTERNAL_ERROR: ["RW1CS", 22],
    MC_BLOCKED_TLP: ["RW1CS", 23],
    ATOMIC_OP_EGRESS_BLOCKED: ["RW1CS", 24],
    TLP_PREFIX_BLOCKED_ERROR: ["RW1CS", 25],
    POISONED_TLP_EGRESS_BLOCKED: ["RW1CS", 26],
    DMWR_REQUEST_EGRESS_BLOCKED: ["RW1CS", 27],
    IDE_CHECK_FAILED: ["RW1CS", 28],
    MISROUTED_IDE_TLP: ["RW1CS", 29],
    PCRC_CHECK_FAILED: ["RW1CS", 30],
    TLP_TRANSLATION_EGRESS_BLOCKED: ["RW1CS", 31],
  },
  UNCORRECTABLE_ERROR_MASK: {
    at: [0x08, 32],
    DATA_LINK_PROTOCOL_ERROR: ["RWS", 4],
    SURPRISE_DOWN_ERROR: ["RWS", 5],
    POISONED_TLP_RECEIVED: ["RWS", 12],
    FLOW_CONTROL_PROTOCOL_ERROR: ["RWS", 13],
    COMPLETION_TIMEOUT: ["RWS", 14],
    COMPLETER_ABORT: ["RWS", 15],
    UNEXPECTED_COMPLETION: ["RWS", 16],
    RECEIVER_OVERFLOW: ["RWS", 17],
    MALFORMED_TLP: ["RWS", 18],
    ECRC_ERROR: ["RWS", 19],
    UNSUPPORTED_REQUEST_ERROR: ["RWS", 20],
    ACS_VIOLATION: ["RWS", 21],
    UNCORRECTABLE_INTERNAL_ERROR: ["RWS", 22, 1, 1],
    MC_BLOCKED_TLP: ["RWS", 23],
    ATOMIC_OP_EGRESS_BLOCKED: ["RWS", 24],
    TLP_PREFIX_BLOCKED_ERROR: ["RWS", 25],
    POISONED_TLP_EGRESS_BLOCKED: ["RWS", 26, 1, 1],
    DMWR_REQUEST_EGRESS_BLOCKED: ["RWS", 27],
    IDE_CHECK_FAILED: ["RWS", 28],
    MISROUTED_IDE_TLP: ["RWS", 29],
    PCRC_CHECK_FAILED: ["RWS", 30],
    TLP_TRANSLATION_EGRESS_BLOCKED: ["RWS", 31],
  },
  UNCORRECTABLE_ERROR_SEVERITY: {
    at: [0x0c, 32],
    DATA_LINK_PROTOCOL_ERROR: ["RWS", 4, 1, 1],
    SURPRISE_DOWN_ERROR: ["RWS", 5, 1, 1],
    POISONED_TLP_RECEIVED: ["RWS", 12],
    FLOW_CONTROL_PROTOCOL_ERROR: ["RWS", 13, 1, 1],
    COMPLETION_TIMEOUT: ["RWS", 14],
    COMPLETER_ABORT: ["RWS", 15],
    UNEXPECTED_COMPLETION: ["RWS", 16],
    RECEIVER_OVERFLOW: ["RWS", 17, 1, 1],
    MALFORMED_TLP: ["RWS", 18, 1, 1],
    ECRC_ERROR: ["RWS", 19],
    UNSUPPORTED_REQUEST_ERROR: ["RWS", 20],
    ACS_VIOLATION: ["RWS", 21],
    UNCORRECTABLE_INTERNAL_ERROR: ["RWS", 22, 1, 1],
    MC_BLOCKED_TLP: ["RWS", 23],
    ATOMIC_OP_EGRESS_BLOCKED: ["RWS", 24],
    TLP_PREFIX_BLOCKED_ERROR: ["RWS", 25],
    POISONED_TLP_EGRESS_BLOCKED: ["RWS", 26],
    DMWR_REQUEST_EGRESS_BLOCKED: ["RWS", 27],
    IDE_CHECK_FAILED: ["RWS", 28],
    MISROUTED_IDE_TLP: ["RWS", 29],
    PCRC_CHECK_FAILED: ["RWS", 30],
    TLP_TRANSLATION_EGRESS_BLOCKED: ["RWS", 31],
  },
  CORRECTABLE_ERROR_STATUS: {
    at: [0x10, 32],
    RECEIVER_ERROR: ["RW1CS", 0],
    BAD_TLP: ["RW1CS", 6],
    BAD_DLLP: ["RW1CS", 7],
    REPLAY_NUM_ROLLOVER: ["RW1CS", 8],
    REPLAY_TIMER_TIMEOUT: ["RW1CS", 12],
    ADVISORY_NON_FATAL_ERROR: ["RW1CS", 13],
    CORRECTED_INTERNAL_ERROR: ["RW1CS", 14],
    HEADER_LOG_OVERFLOW: ["RW1CS", 15],
  },
  CORRECTABLE_ERROR_MASK: {
    at: [0x14, 32],
    RECEIVER_ERROR: ["RWS", 0],
    BAD_TLP: ["RWS", 6],
    BAD_DLLP: ["RWS", 7],
    REPLAY_NUM_ROLLOVER: ["RWS", 8],
    REPLAY_TIMER_TIMEOUT: ["RWS", 12],
    ADVISORY_NON_FATAL_ERROR: ["RWS", 13, 1, 1],
    CORRECTED_INTERNAL_ERROR: ["RWS", 14, 1, 1],
    HEADER_LOG_OVERFLOW: ["RWS", 15, 1, 1],
  },
  CAPABILITIES_AND_CONTROL: {
    at: [0x18, 32],
    FIRST_ERROR_POINTER: ["ROS", 0, 5],
    ECRC_GENERATION_CAPABLE: ["RO", 5],
    ECRC_GENERATION_ENABLE: ["RWS", 6],
    ECRC_CHECK_CAPABLE: ["RO", 7],
    ECRC_CHECK_ENABLE: ["RWS", 8],
    MULTIPLE_HEADER_RECORDING_CAPABLE: ["RO", 9],
    MULTIPLE_HEADER_RECORDING_ENABLE: ["RWS", 10],
    TLP_PREFIX_LOG_PRESENT: ["ROS", 11],
    COMPLETION_TIMEOUT_LOG_CAPABLE: ["RO", 12],
    HEADER_LOG_SIZE: ["RO", 13, 5],
    LOGGED_TLP_WAS_FLIT_MODE: ["ROS", 18],
    LOGGED_TLP_SIZE: ["ROS", 19, 5],
  },
  HEADER_LOG_0: { at: [0x1c, 32], VALUE: ["ROS", 0, 32] },
  HEADER_LOG_1: { at: [0x20, 32], VALUE: ["ROS", 0, 32] },
  HEADER_LOG_2: { at: [0x24, 32], VALUE: ["ROS", 0, 32] },
  HEADER_LOG_3: { at: [0x28, 32], VALUE: ["ROS", 0, 32] },
  ROOT_ERROR_COMMAND: {
    at: [0x2c, 32],
    CORRECTABLE_ERROR_REPORTING_ENABLE: ["RW", 0],
    NON_FATAL_ERROR_REPORTING_ENABLE: ["RW", 1],
    FATAL_ERROR_REPORTING_ENABLE: ["RW", 2],
  },
  ROOT_ERROR_STATUS: {
    at: [0x30, 32],
    ERR_COR_RECEIVED: ["RW1CS", 0],
    MULTIPLE_ERR_COR_RECEIVED: ["RW1CS", 1],
    ERR_FATAL_NONFATAL_RECEIVED: ["RW1CS", 2],
    MULTIPLE_ERR_FATAL_NONFATAL_RECEIVED: ["RW1CS", 3],
    FIRST_UNCORRECTABLE_FATAL: ["RW1CS", 4],
    NON_FATAL_ERROR_MESSAGES_RECEIVED: ["RW1CS", 5],
    FATAL_ERROR_MESSAGES_RECEIVED: ["RW1CS", 6],
    ERR_COR_SUBCLASS: ["RW1CS", 7, 2],
    ADVANCED_ERROR_INTERRUPT_MESSAGE_NUMBER: ["RO", 27, 5],
  },
  ERROR_SOURCE_IDENTIFICATION: {
    at: [0x34, 32],
    ERR_COR_SOURCE: ["ROS", 0, 16],
    ERR_FATAL_NONFATAL_SOURCE: ["ROS", 16, 16],
  },
  TLP_PREFIX_LOG_0: { at: [0x38, 32], VALUE: ["ROS", 0, 32] },
  TLP_PREFIX_LOG_1: { at: [0x3c, 32], VALUE: ["ROS", 0, 32] },
  TLP_PREFIX_LOG_2: { at: [0x40, 32], VALUE: ["ROS", 0, 32] },
  TLP_PREFIX_LOG_3: { at: [0x44, 32], VALUE: ["ROS", 0, 32] },
} as const;

/** Advanced error reporting. */
export const AdvancedErrorReporting: Declared<typeof registers> = extendedCapability("AER", 0x01, registers);

/** What a function has recorded. */
export interface RecordedErrors {
  /** Field names of the bits that are set in the status registers. */
  readonly uncorrectable: readonly string[];
  readonly correctable: readonly string[];
  /** Those of `uncorrectable` whose severity is set to fatal. */
  readonly fatal: readonly string[];
  /** The uncorrectable error that came first, if the function recorded which. */
  readonly first: string | undefined;
  /** The header of the request that caused it, four dwords in the order of the wire. */
  readonly headerLog: readonly number[];
  /** Whether that is a header of flit mode, which is laid out in another way. */
  readonly flitMode: boolean;
}

/** Reads what the function has recorded; clears nothing. Eight reads. Throws `CAPABILITY_ABSENT`. */
export function readErrors(config: ConfigSpace, within?: CapabilityEntry): RecordedErrors {
  const aer = AdvancedErrorReporting;
  const uncorrectable = config.readRaw(aer.UNCORRECTABLE_ERROR_STATUS, within);
  const severity = config.readRaw(aer.UNCORRECTABLE_ERROR_SEVERITY, within);
  const correctable = config.readRaw(aer.CORRECTABLE_ERROR_STATUS, within);
  const { FIRST_ERROR_POINTER, LOGGED_TLP_WAS_FLIT_MODE } = config.read(aer.CAPABILITIES_AND_CONTROL, within);
  const fields = Object.entries(aer.UNCORRECTABLE_ERROR_STATUS.fields);
  const first = fields.find(([, field]) => field.offset === FIRST_ERROR_POINTER && field.test(uncorrectable));
  return {
    uncorrectable: fields.filter(([, field]) => field.test(uncorrectable)).map(([name]) => name),
    correctable: Object.entries(aer.CORRECTABLE_ERROR_STATUS.fields)
      .filter(([, field]) => field.test(correctable))
      .map(([name]) => name),
    fatal: fields.filter(([, field]) => field.test(uncorrectable & severity)).map(([name]) => name),
    first: first?.[0],
    headerLog: [aer.HEADER_LOG_0, aer.HEADER_LOG_1, aer.HEADER_LOG_2, aer.HEADER_LOG_3].map((register) =>
      config.readRaw(register, within),
    ),
    flitMode: LOGGED_TLP_WAS_FLIT_MODE === 1,
  };
}

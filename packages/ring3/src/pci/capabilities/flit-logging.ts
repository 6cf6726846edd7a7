// PCIe 6.1, section 7.8.12: errors of flits, counted and logged.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  ERROR_LOG_1: {
    at: [0x04, 32],
    VALID: ["RW1CS", 0],
    LINK_WIDTH: ["ROS", 1, 3],
    MORE_ENTRIES: ["ROS", 13],
    UNRECOGNIZED_FLIT: ["ROS", 14],
    FEC_UNCORRECTABLE: ["ROS", 15],
    SYNDROME_PARITY_GROUP_0: ["ROS", 16, 8],
    SYNDROME_CHECK_GROUP_0: ["ROS", 24, 8],
  },
  ERROR_LOG_2: {
    at: [0x08, 32],
    SYNDROME_PARITY_GROUP_1: ["ROS", 0, 8],
    SYNDROME_CHECK_GROUP_1: ["ROS", 8, 8],
    SYNDROME_PARITY_GROUP_2: ["ROS", 16, 8],
    SYNDROME_CHECK_GROUP_2: ["ROS", 24, 8],
  },
  ERROR_COUNTER_CONTROL: {
    at: [0x0c, 16],
    COUNTER_ENABLE: ["RWS", 0],
    INTERRUPT_ENABLE: ["RWS", 1],
    EVENTS_TO_COUNT: ["RWS", 2, 2],
    TRIGGER_EVENT_ON_ERROR_COUNT: ["RWS", 4, 8],
  },
  ERROR_COUNTER_STATUS: {
    at: [0x0e, 16],
    LINK_WIDTH_AT_START: ["ROS", 0, 3],
    INTERRUPT_GENERATED: ["RW1CS", 3],
    ERROR_COUNT: ["ROS", 8, 8],
  },
  MEASUREMENT_CONTROL: { at: [0x10, 32], ENABLE: ["RWS", 0], GRANULARITY: ["RWS", 2, 2] },
  MEASUREMENT_STATUS_1: { at: [0x14, 32], FLIT_COUNTER: ["ROS", 0, 32] },
  MEASUREMENT_STATUS_2: { at: [0x18, 32], INVALID_FLIT_COUNTER: ["ROS", 0, 16] },
  MEASUREMENT_STATUS_3: { at: [0x1c, 32], LANE_0: ["RO", 0, 16], LANE_1: ["RO", 16, 16] },
  MEASUREMENT_STATUS_4: { at: [0x20, 32], LANE_2: ["RO", 0, 16], LANE_3: ["RO", 16, 16] },
  MEASUREMENT_STATUS_5: { at: [0x24, 32], LANE_4: ["RO", 0, 16], LANE_5: ["RO", 16, 16] },
  MEASUREMENT_STATUS_6: { at: [0x28, 32], LANE_6: ["RO", 0, 16], LANE_7: ["RO", 16, 16] },
  MEASUREMENT_STATUS_7: { at: [0x2c, 32], LANE_8: ["RO", 0, 16], LANE_9: ["RO", 16, 16] },
  MEASUREMENT_STATUS_8: { at: [0x30, 32], LANE_10: ["RO", 0, 16], LANE_11: ["RO", 16, 16] },
  MEASUREMENT_STATUS_9: { at: [0x34, 32], LANE_12: ["RO", 0, 16], LANE_13: ["RO", 16, 16] },
  MEASUREMENT_STATUS_10: { at: [0x38, 32], LANE_14: ["RO", 0, 16], LANE_15: ["RO", 16, 16] },
} as const;

/** Flit logging. */
export const FlitLogging: Declared<typeof registers> = extendedCapability("FLITLOG", 0x32, registers);

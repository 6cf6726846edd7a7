// PCIe 6.0, sections 7.7.5, 7.7.6 and 7.7.8: equalisation at 16, 32 and 64 GT/s; a control register for each lane follows.
import { type Declared, extendedCapability } from "../register.ts";

const gt16 = {
  STATUS: {
    at: [0x0c, 32],
    EQUALIZATION_COMPLETE: ["ROS", 0],
    EQUALIZATION_PHASE_1_SUCCESSFUL: ["ROS", 1],
    EQUALIZATION_PHASE_2_SUCCESSFUL: ["ROS", 2],
    EQUALIZATION_PHASE_3_SUCCESSFUL: ["ROS", 3],
    LINK_EQUALIZATION_REQUEST: ["RW1CS", 4],
  },
  LOCAL_DATA_PARITY_MISMATCH: { at: [0x10, 32], VALUE: ["RO", 0, 32] },
  FIRST_RETIMER_DATA_PARITY_MISMATCH: { at: [0x14, 32], VALUE: ["RO", 0, 32] },
  SECOND_RETIMER_DATA_PARITY_MISMATCH: { at: [0x18, 32], VALUE: ["RO", 0, 32] },
} as const;

/** Physical layer 16.0 GT/s. */
export const PhysicalLayer16: Declared<typeof gt16> = extendedCapability("PHY16", 0x26, gt16);

const gt32 = {
  CAPABILITIES: {
    at: [0x04, 32],
    EQUALIZATION_BYPASS_SUPPORTED: ["HwInit", 0],
    NO_EQUALIZATION_NEEDED_SUPPORTED: ["HwInit", 1],
    MODIFIED_TS_USAGE_MODE_0_SUPPORTED: ["HwInit", 8],
    MODIFIED_TS_USAGE_MODE_1_SUPPORTED: ["HwInit", 9],
    MODIFIED_TS_USAGE_MODE_2_SUPPORTED: ["HwInit", 10],
  },
  CONTROL: {
    at: [0x08, 32],
    EQUALIZATION_BYPASS_DISABLE: ["RWS", 0],
    NO_EQUALIZATION_NEEDED_DISABLE: ["RWS", 1],
    MODIFIED_TS_USAGE_MODE_SELECTED: ["RWS", 8, 3],
  },
  STATUS: {
    at: [0x0c, 32],
    EQUALIZATION_COMPLETE: ["ROS", 0],
    EQUALIZATION_PHASE_1_SUCCESSFUL: ["ROS", 1],
    EQUALIZATION_PHASE_2_SUCCESSFUL: ["ROS", 2],
    EQUALIZATION_PHASE_3_SUCCESSFUL: ["ROS", 3],
    LINK_EQUALIZATION_REQUEST: ["RW1CS", 4],
    MODIFIED_TS_RECEIVED: ["ROS", 5],
    RECEIVED_ENHANCED_LINK_BEHAVIOR_CONTROL: ["ROS", 6, 2],
    TRANSMITTER_PRECODING_ON: ["RO", 8],
    TRANSMITTER_PRECODE_REQUEST: ["RO", 9],
    NO_EQUALIZATION_NEEDED_RECEIVED: ["ROS", 10],
  },
} as const;

/** Physical layer 32.0 GT/s. */
export const PhysicalLayer32: Declared<typeof gt32> = extendedCapability("PHY32", 0x2a, gt32);

const gt64 = {
  STATUS: {
    at: [0x0c, 32],
    EQUALIZATION_COMPLETE: ["ROS", 0],
    EQUALIZATION_PHASE_1_SUCCESSFUL: ["ROS", 1],
    EQUALIZATION_PHASE_2_SUCCESSFUL: ["ROS", 2],
    EQUALIZATION_PHASE_3_SUCCESSFUL: ["ROS", 3],
    LINK_EQUALIZATION_REQUEST: ["RW1CS", 4],
    TRANSMITTER_PRECODING_ON: ["RO", 5],
    TRANSMITTER_PRECODE_REQUEST: ["RO", 6],
    NO_EQUALIZATION_NEEDED_RECEIVED: ["ROS", 7],
  },
} as const;

/** Physical layer 64.0 GT/s. */
export const PhysicalLayer64: Declared<typeof gt64> = extendedCapability("PHY64", 0x31, gt64);

// PCIe 6.0, section 7.9.14: a port that cuts off what lies below it on an error.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 16],
    INTERRUPT_MESSAGE_NUMBER: ["RO", 0, 5],
    RP_EXTENSIONS: ["RO", 5],
    POISONED_TLP_EGRESS_BLOCKING_SUPPORTED: ["RO", 6],
    SOFTWARE_TRIGGERING_SUPPORTED: ["RO", 7],
    RP_PIO_LOG_SIZE: ["RO", 8, 4],
    DL_ACTIVE_ERR_COR_SIGNALING_SUPPORTED: ["RO", 12],
  },
  CONTROL: {
    at: [0x06, 16],
    TRIGGER_ENABLE: ["RW", 0, 2],
    COMPLETION_CONTROL: ["RW", 2],
    INTERRUPT_ENABLE: ["RW", 3],
    ERR_COR_ENABLE: ["RW", 4],
    POISONED_TLP_EGRESS_BLOCKING_ENABLE: ["RW", 5],
    SOFTWARE_TRIGGER: ["RW", 6],
    DL_ACTIVE_ERR_COR_ENABLE: ["RW", 7],
  },
  STATUS: {
    at: [0x08, 16],
    TRIGGER_STATUS: ["RW1CS", 0],
    TRIGGER_REASON: ["ROS", 1, 2],
    INTERRUPT_STATUS: ["RW1CS", 3],
    RP_BUSY: ["RO", 4],
    TRIGGER_REASON_EXTENSION: ["ROS", 5, 2],
    RP_PIO_FIRST_ERROR_POINTER: ["ROS", 8, 5],
  },
  ERROR_SOURCE_ID: { at: [0x0a, 16], VALUE: ["RO", 0, 16] },
} as const;

/** Downstream port containment. Root ports have registers of the RP PIO errors behind these. */
export const DownstreamPortContainment: Declared<typeof registers> = extendedCapability("DPC", 0x1d, registers);

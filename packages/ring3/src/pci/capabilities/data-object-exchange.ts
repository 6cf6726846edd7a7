// PCIe 6.0, section 7.9.24: a mailbox for data objects (CXL tables, SPDM messages).
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITIES: { at: [0x04, 32], DOE_INTERRUPT_SUPPORT: ["HwInit", 0], DOE_INTERRUPT_MESSAGE_NUMBER: ["RO", 1, 11] },
  CONTROL: { at: [0x08, 32], DOE_ABORT: ["RW", 0], DOE_INTERRUPT_ENABLE: ["RW", 1], DOE_GO: ["RW", 31] },
  STATUS: {
    at: [0x0c, 32],
    DOE_BUSY: ["RO", 0],
    DOE_INTERRUPT_STATUS: ["RW1C", 1],
    DOE_ERROR: ["RO", 2],
    DATA_OBJECT_READY: ["RO", 31],
  },
  WRITE_DATA_MAILBOX: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
  READ_DATA_MAILBOX: { at: [0x14, 32], VALUE: ["RW", 0, 32] },
} as const;

/** Data object exchange. */
export const DataObjectExchange: Declared<typeof registers> = extendedCapability("DOE", 0x2e, registers);

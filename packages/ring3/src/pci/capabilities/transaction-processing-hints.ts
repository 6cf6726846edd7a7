// PCIe 6.0, section 7.9.13: hints where data are used next. The steering table, if it lies here, follows the registers.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 32],
    NO_ST_MODE_SUPPORTED: ["RO", 0],
    INTERRUPT_VECTOR_MODE_SUPPORTED: ["RO", 1],
    DEVICE_SPECIFIC_MODE_SUPPORTED: ["RO", 2],
    EXTENDED_TPH_REQUESTER_SUPPORTED: ["RO", 8],
    ST_TABLE_LOCATION: ["RO", 9, 2],
    ST_TABLE_SIZE: ["RO", 16, 11],
  },
  CONTROL: { at: [0x08, 32], ST_MODE_SELECT: ["RW", 0, 3], TPH_REQUESTER_ENABLE: ["RW", 8, 2] },
} as const;

/** TPH requester. */
export const TransactionProcessingHints: Declared<typeof registers> = extendedCapability("TPH", 0x17, registers);

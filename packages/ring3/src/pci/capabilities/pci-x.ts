// PCI-X Addendum 2.0, sections 7.2 and 8.6.2: one capability id with two layouts, for functions and for bridges.
import { capability, type Declared } from "../register.ts";

const registers = {
  COMMAND: {
    at: [0x02, 16],
    DATA_PARITY_ERROR_RECOVERY_ENABLE: ["RW", 0],
    ENABLE_RELAXED_ORDERING: ["RW", 1],
    MAXIMUM_MEMORY_READ_BYTE_COUNT: ["RW", 2, 2],
    MAXIMUM_OUTSTANDING_SPLIT_TRANSACTIONS: ["RW", 4, 3],
    VERSION: ["RO", 12, 2],
  },
  STATUS: {
    at: [0x04, 32],
    FUNCTION_NUMBER: ["RO", 0, 3],
    DEVICE_NUMBER: ["RO", 3, 5],
    BUS_NUMBER: ["RO", 8, 8],
    DEVICE_64_BIT: ["RO", 16],
    CAPABLE_133_MHZ: ["RO", 17],
    SPLIT_COMPLETION_DISCARDED: ["RW1C", 18],
    UNEXPECTED_SPLIT_COMPLETION: ["RW1C", 19],
    DEVICE_COMPLEXITY: ["RO", 20],
    DESIGNED_MAXIMUM_MEMORY_READ_BYTE_COUNT: ["RO", 21, 2],
    DESIGNED_MAXIMUM_OUTSTANDING_SPLIT_TRANSACTIONS: ["RO", 23, 3],
    DESIGNED_MAXIMUM_CUMULATIVE_READ_SIZE: ["RO", 26, 3],
    RECEIVED_SPLIT_COMPLETION_ERROR_MESSAGE: ["RW1C", 29],
    CAPABLE_266_MHZ: ["RO", 30],
    CAPABLE_533_MHZ: ["RO", 31],
  },
} as const;

/** PCI-X, of a function with a type 0 header. */
export const PciX: Declared<typeof registers> = capability("PCI-X", 0x07, registers);

const bridge = {
  SECONDARY_STATUS: {
    at: [0x02, 16],
    DEVICE_64_BIT: ["RO", 0],
    CAPABLE_133_MHZ: ["RO", 1],
    SPLIT_COMPLETION_DISCARDED: ["RW1C", 2],
    UNEXPECTED_SPLIT_COMPLETION: ["RW1C", 3],
    SPLIT_COMPLETION_OVERRUN: ["RW1C", 4],
    SPLIT_REQUEST_DELAYED: ["RW1C", 5],
    SECONDARY_CLOCK_FREQUENCY: ["RO", 6, 3],
    VERSION: ["RO", 12, 2],
    CAPABLE_266_MHZ: ["RO", 14],
    CAPABLE_533_MHZ: ["RO", 15],
  },
  STATUS: {
    at: [0x04, 32],
    FUNCTION_NUMBER: ["RO", 0, 3],
    DEVICE_NUMBER: ["RO", 3, 5],
    BUS_NUMBER: ["RO", 8, 8],
    DEVICE_64_BIT: ["RO", 16],
    CAPABLE_133_MHZ: ["RO", 17],
    SPLIT_COMPLETION_DISCARDED: ["RW1C", 18],
    UNEXPECTED_SPLIT_COMPLETION: ["RW1C", 19],
    SPLIT_COMPLETION_OVERRUN: ["RW1C", 20],
    SPLIT_REQUEST_DELAYED: ["RW1C", 21],
  },
  UPSTREAM_SPLIT_TRANSACTION_CONTROL: {
    at: [0x08, 32],
    SPLIT_TRANSACTION_CAPACITY: ["RO", 0, 16],
    SPLIT_TRANSACTION_COMMITMENT_LIMIT: ["RW", 16, 16],
  },
  DOWNSTREAM_SPLIT_TRANSACTION_CONTROL: {
    at: [0x0c, 32],
    SPLIT_TRANSACTION_CAPACITY: ["RO", 0, 16],
    SPLIT_TRANSACTION_COMMITMENT_LIMIT: ["RW", 16, 16],
  },
} as const;

/** PCI-X, of a bridge. */
export const PciXBridge: Declared<typeof bridge> = capability("PCI-X-BRIDGE", 0x07, bridge);

// PCIe 6.0, section 10.5.2: asking for pages that are not there.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CONTROL: { at: [0x04, 16], ENABLE: ["RW", 0], RESET: ["RW", 1] },
  STATUS: {
    at: [0x06, 16],
    RESPONSE_FAILURE: ["RW1C", 0],
    UNEXPECTED_PAGE_REQUEST_GROUP_INDEX: ["RW1C", 1],
    STOPPED: ["RO", 8],
    PRG_RESPONSE_PASID_REQUIRED: ["RO", 15],
  },
  OUTSTANDING_PAGE_REQUEST_CAPACITY: { at: [0x08, 32], VALUE: ["RO", 0, 32] },
  OUTSTANDING_PAGE_REQUEST_ALLOCATION: { at: [0x0c, 32], VALUE: ["RW", 0, 32] },
} as const;

/** Page request interface. */
export const PageRequest: Declared<typeof registers> = extendedCapability("PRI", 0x13, registers);

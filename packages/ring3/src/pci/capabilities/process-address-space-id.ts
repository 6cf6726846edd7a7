// PCIe 6.0, section 7.8.9: requests that carry the address space they mean.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 16],
    EXECUTE_PERMISSION_SUPPORTED: ["RO", 1],
    PRIVILEGED_MODE_SUPPORTED: ["RO", 2],
    TRANSLATED_REQUESTS_SUPPORTED: ["RO", 3],
    MAX_PASID_WIDTH: ["RO", 8, 5],
  },
  CONTROL: {
    at: [0x06, 16],
    PASID_ENABLE: ["RW", 0],
    EXECUTE_PERMISSION_ENABLE: ["RW", 1],
    PRIVILEGED_MODE_ENABLE: ["RW", 2],
    TRANSLATED_REQUESTS_ENABLE: ["RW", 3],
  },
} as const;

/** Process address space ids. */
export const ProcessAddressSpaceId: Declared<typeof registers> = extendedCapability("PASID", 0x1b, registers);

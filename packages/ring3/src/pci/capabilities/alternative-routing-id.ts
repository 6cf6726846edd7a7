// PCIe 6.0, section 7.8.8: devices with more than eight functions, whose number takes the device number's place too.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 16],
    MFVC_FUNCTION_GROUPS_CAPABILITY: ["RO", 0],
    ACS_FUNCTION_GROUPS_CAPABILITY: ["RO", 1],
    NEXT_FUNCTION_NUMBER: ["RO", 8, 8],
  },
  CONTROL: {
    at: [0x06, 16],
    MFVC_FUNCTION_GROUPS_ENABLE: ["RW", 0],
    ACS_FUNCTION_GROUPS_ENABLE: ["RW", 1],
    FUNCTION_GROUP: ["RW", 4, 3],
  },
} as const;

/** Alternative routing-id interpretation. */
export const AlternativeRoutingId: Declared<typeof registers> = extendedCapability("ARI", 0x0e, registers);

// PCIe 6.0, section 7.7.11: whether requests between functions are checked and sent upstream, which is what decides over
// IOMMU groups.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 16],
    SOURCE_VALIDATION: ["RO", 0],
    TRANSLATION_BLOCKING: ["RO", 1],
    P2P_REQUEST_REDIRECT: ["RO", 2],
    P2P_COMPLETION_REDIRECT: ["RO", 3],
    UPSTREAM_FORWARDING: ["RO", 4],
    P2P_EGRESS_CONTROL: ["RO", 5],
    DIRECT_TRANSLATED_P2P: ["RO", 6],
    ENHANCED_CAPABILITY: ["RO", 7],
    EGRESS_CONTROL_VECTOR_SIZE: ["HwInit", 8, 8],
  },
  CONTROL: {
    at: [0x06, 16],
    SOURCE_VALIDATION_ENABLE: ["RW", 0],
    TRANSLATION_BLOCKING_ENABLE: ["RW", 1],
    P2P_REQUEST_REDIRECT_ENABLE: ["RW", 2],
    P2P_COMPLETION_REDIRECT_ENABLE: ["RW", 3],
    UPSTREAM_FORWARDING_ENABLE: ["RW", 4],
    P2P_EGRESS_CONTROL_ENABLE: ["RW", 5],
    DIRECT_TRANSLATED_P2P_ENABLE: ["RW", 6],
    IO_REQUEST_BLOCKING_ENABLE: ["RW", 7],
    DSP_MEMORY_TARGET_ACCESS_CONTROL: ["RW", 8, 2],
    USP_MEMORY_TARGET_ACCESS_CONTROL: ["RW", 10, 2],
    UNCLAIMED_REQUEST_REDIRECT_CONTROL: ["RW", 12],
  },
  EGRESS_CONTROL_VECTOR: { at: [0x08, 32], VALUE: ["RW", 0, 32] },
} as const;

/** Access control services. The egress control vector (its first dword is named here) exists with P2P_EGRESS_CONTROL. */
export const AccessControlServices: Declared<typeof registers> = extendedCapability("ACS", 0x0d, registers);

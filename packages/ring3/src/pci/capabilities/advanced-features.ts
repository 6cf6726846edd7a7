// PCIe 6.0, section 7.9.21 (Conventional PCI Advanced Features): function-level reset where there is no PCI Express
// capability.
import { capability, type Declared } from "../register.ts";

const registers = {
  LENGTH: { at: [0x02, 8], VALUE: ["RO", 0, 8, 6] },
  CAPABILITIES: { at: [0x03, 8], TRANSACTIONS_PENDING: ["HwInit", 0], FUNCTION_LEVEL_RESET: ["HwInit", 1] },
  CONTROL: { at: [0x04, 8], INITIATE_FLR: ["RW", 0] },
  STATUS: { at: [0x05, 8], TRANSACTIONS_PENDING: ["RO", 0] },
} as const;

/** Advanced features. */
export const AdvancedFeatures: Declared<typeof registers> = capability("AF", 0x13, registers);

// PCI-to-PCI Bridge Architecture Specification 1.2, section 13.4: slots and chassis behind a bridge.
import { capability, type Declared } from "../register.ts";

const registers = {
  EXPANSION_SLOT: { at: [0x02, 8], EXPANSION_SLOTS_PROVIDED: ["HwInit", 0, 5], FIRST_IN_CHASSIS: ["HwInit", 5] },
  CHASSIS_NUMBER: { at: [0x03, 8], VALUE: ["RW", 0, 8] },
} as const;

/** Slot identification. */
export const SlotIdentification: Declared<typeof registers> = capability("SLOTID", 0x04, registers);

// PCIe 6.0, section 7.9.10: which integrated endpoints a root complex event collector collects for.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  ASSOCIATION_BITMAP: { at: [0x04, 32], VALUE: ["RO", 0, 32] },
  ASSOCIATED_BUS_NUMBERS: { at: [0x08, 32], NEXT_BUS: ["HwInit", 8, 8], LAST_BUS: ["HwInit", 16, 8] },
} as const;

/** Root complex event collector endpoint association. ASSOCIATED_BUS_NUMBERS is there from version 2 on. */
export const EventCollectorAssociation: Declared<typeof registers> = extendedCapability("RCEC", 0x07, registers);

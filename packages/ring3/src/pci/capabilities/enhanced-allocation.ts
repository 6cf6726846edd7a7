// PCIe 6.0, section 7.8.5: BARs that hardware fixes. The entries have two to five dwords each, as their first one says, and
// follow the capability's own first dword, or second on a bridge.
import { capability, type Declared } from "../register.ts";

const registers = {
  NUMBER_OF_ENTRIES: { at: [0x02, 16], VALUE: ["HwInit", 0, 6] },
  BRIDGE_BUS_NUMBERS: {
    at: [0x04, 32],
    FIXED_SECONDARY_BUS_NUMBER: ["HwInit", 0, 8],
    FIXED_SUBORDINATE_BUS_NUMBER: ["HwInit", 8, 8],
  },
} as const;

/** Enhanced allocation; the bus numbers belong to bridges alone. */
export const EnhancedAllocation: Declared<typeof registers> = capability("EA", 0x14, registers);

const entry = {
  HEADER: {
    at: [0x00, 32],
    ENTRY_SIZE: ["HwInit", 0, 3],
    BAR_EQUIVALENT_INDICATOR: ["HwInit", 4, 4],
    PRIMARY_PROPERTIES: ["HwInit", 8, 8],
    SECONDARY_PROPERTIES: ["HwInit", 16, 8],
    WRITABLE: ["HwInit", 30],
    ENABLE: ["RW", 31],
  },
  BASE: { at: [0x04, 32], IS_64_BIT: ["HwInit", 1], ADDRESS: ["RW", 2, 30] },
  MAX_OFFSET: { at: [0x08, 32], IS_64_BIT: ["HwInit", 1], OFFSET: ["RW", 2, 30] },
} as const;

/** One entry of {@link EnhancedAllocation}; the upper halves follow in the same order where the fields say so. */
export const EnhancedAllocationEntry: Declared<typeof entry> = capability("EA-ENTRY", 0x14, entry);

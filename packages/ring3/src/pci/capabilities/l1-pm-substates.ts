// PCIe 6.0, section 7.8.3: L1.1 and L1.2, in which the clock, and in the second the common mode voltage as well, is off.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITIES: {
    at: [0x04, 32],
    PCI_PM_L1_2_SUPPORTED: ["HwInit", 0],
    PCI_PM_L1_1_SUPPORTED: ["HwInit", 1],
    ASPM_L1_2_SUPPORTED: ["HwInit", 2],
    ASPM_L1_1_SUPPORTED: ["HwInit", 3],
    L1_PM_SUBSTATES_SUPPORTED: ["HwInit", 4],
    PORT_COMMON_MODE_RESTORE_TIME: ["HwInit", 8, 8],
    PORT_T_POWER_ON_SCALE: ["HwInit", 16, 2],
    PORT_T_POWER_ON_VALUE: ["HwInit", 19, 5],
  },
  CONTROL_1: {
    at: [0x08, 32],
    PCI_PM_L1_2_ENABLE: ["RW", 0],
    PCI_PM_L1_1_ENABLE: ["RW", 1],
    ASPM_L1_2_ENABLE: ["RW", 2],
    ASPM_L1_1_ENABLE: ["RW", 3],
    COMMON_MODE_RESTORE_TIME: ["RW", 8, 8],
    LTR_L1_2_THRESHOLD_VALUE: ["RW", 16, 10],
    LTR_L1_2_THRESHOLD_SCALE: ["RW", 29, 3],
  },
  CONTROL_2: { at: [0x0c, 32], T_POWER_ON_SCALE: ["RW", 0, 2], T_POWER_ON_VALUE: ["RW", 3, 5] },
} as const;

/** L1 PM substates. */
export const L1PmSubstates: Declared<typeof registers> = extendedCapability("L1PM", 0x1e, registers);

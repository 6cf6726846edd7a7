// PCIe 6.0, section 7.7.3: equalisation at 8 GT/s; a control register for each lane follows.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  LINK_CONTROL_3: {
    at: [0x04, 32],
    PERFORM_EQUALIZATION: ["RW", 0],
    LINK_EQUALIZATION_REQUEST_INTERRUPT_ENABLE: ["RW", 1],
    ENABLE_LOWER_SKP_OS_GENERATION_VECTOR: ["RW", 9, 7],
  },
  LANE_ERROR_STATUS: { at: [0x08, 32], LANES: ["RW1CS", 0, 32] },
} as const;

/** Secondary PCI Express. */
export const SecondaryExpress: Declared<typeof registers> = extendedCapability("SECPCI", 0x19, registers);

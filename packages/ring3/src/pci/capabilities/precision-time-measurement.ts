// PCIe 6.0, section 7.9.15: one clock for a hierarchy.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 32],
    REQUESTER_CAPABLE: ["HwInit", 0],
    RESPONDER_CAPABLE: ["HwInit", 1],
    ROOT_CAPABLE: ["HwInit", 2],
    LOCAL_CLOCK_GRANULARITY: ["HwInit", 8, 8],
  },
  CONTROL: { at: [0x08, 32], PTM_ENABLE: ["RW", 0], ROOT_SELECT: ["RW", 1], EFFECTIVE_GRANULARITY: ["RW", 8, 8] },
} as const;

/** Precision time measurement. Granularities are in nanoseconds. */
export const PrecisionTimeMeasurement: Declared<typeof registers> = extendedCapability("PTM", 0x1f, registers);

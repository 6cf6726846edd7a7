// AGP 3.0, section 4.1.2: one layout for versions 2 and 3, in which bit 3 of the rates says which of the two they mean.
import { capability, type Declared } from "../register.ts";

const registers = {
  VERSION: { at: [0x02, 8], MINOR: ["RO", 0, 4], MAJOR: ["RO", 4, 4] },
  STATUS: {
    at: [0x04, 32],
    RATE: ["RO", 0, 3],
    MODE_3_0: ["RO", 3],
    FW: ["RO", 4],
    OVER_4G: ["RO", 5],
    HTRANS_N: ["RO", 6],
    GART64B: ["RO", 7],
    ITA_COH: ["RO", 8],
    SBA: ["RO", 9],
    CAL_CYCLE: ["RO", 10, 3],
    ARQSZ: ["RO", 13, 3],
    ISOCH: ["RO", 16],
    RQ: ["RO", 24, 8],
  },
  COMMAND: {
    at: [0x08, 32],
    RATE: ["RW", 0, 3],
    FW_ENABLE: ["RW", 4],
    OVER_4G_ENABLE: ["RW", 5],
    GART64B_ENABLE: ["RW", 7],
    AGP_ENABLE: ["RW", 8],
    SBA_ENABLE: ["RW", 9],
    CAL_CYCLE: ["RW", 10, 3],
    ARQSZ: ["RW", 13, 3],
    RQ: ["RW", 24, 8],
  },
} as const;

/** Accelerated graphics port. */
export const AcceleratedGraphicsPort: Declared<typeof registers> = capability("AGP", 0x02, registers);

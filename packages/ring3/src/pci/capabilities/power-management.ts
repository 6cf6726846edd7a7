// PCI Bus Power Management Interface 1.2, section 3.2; PCIe 6.0, section 7.5.2. POWER_STATE acts when written: back ends
// take it through `Power`, which waits as long as the transition needs.
import { capability, type Declared } from "../register.ts";

const registers = {
  PMC: {
    at: [0x02, 16],
    VERSION: ["RO", 0, 3, 3],
    PME_CLOCK: ["RO", 3],
    IMMEDIATE_READINESS: ["RO", 4],
    DSI: ["RO", 5],
    AUX_CURRENT: ["RO", 6, 3],
    D1_SUPPORT: ["RO", 9],
    D2_SUPPORT: ["RO", 10],
    PME_SUPPORT: ["RO", 11, 5],
  },
  PMCSR: {
    at: [0x04, 16],
    POWER_STATE: ["RW", 0, 2],
    NO_SOFT_RESET: ["RO", 3],
    PME_ENABLE: ["RWS", 8],
    DATA_SELECT: ["RW", 9, 4],
    DATA_SCALE: ["RO", 13, 2],
    PME_STATUS: ["RW1CS", 15],
  },
  PMCSR_BSE: { at: [0x06, 8], B2_B3: ["RO", 6], BPCC_ENABLE: ["RO", 7] },
  DATA: { at: [0x07, 8], VALUE: ["RO", 0, 8] },
} as const;

/** Power management. */
export const PowerManagement: Declared<typeof registers> = capability("PM", 0x01, registers);

// Serial ATA AHCI 1.3.1, section 2.5: where the index and data registers of an adapter lie.
import { capability, type Declared } from "../register.ts";

const registers = {
  SATACR0: { at: [0x02, 16], MINREV: ["RO", 0, 4], MAJREV: ["RO", 4, 4] },
  SATACR1: { at: [0x04, 32], BARLOC: ["RO", 0, 4], BAROFST: ["RO", 4, 20] },
} as const;

/** Serial ATA host bus adapter. A BARLOC of 4 to 9 is BAR 0 to 5, 15 is config space. */
export const SerialAta: Declared<typeof registers> = capability("SATA", 0x12, registers);

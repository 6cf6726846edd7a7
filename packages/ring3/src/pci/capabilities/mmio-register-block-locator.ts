// PCIe 6.1, section 7.9.31: where register blocks lie in the BARs; eight bytes for each.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITIES: { at: [0x04, 32], STRUCTURE_LENGTH: ["HwInit", 0, 12] },
} as const;

/** MMIO register block locator. */
export const MmioRegisterBlockLocator: Declared<typeof registers> = extendedCapability("MRBL", 0x36, registers);

const locator = {
  OFFSET_LOWER: { at: [0x00, 32], BIR: ["HwInit", 0, 3], BLOCK_ID: ["HwInit", 8, 8], OFFSET: ["HwInit", 16, 16] },
  OFFSET_UPPER: { at: [0x04, 32], VALUE: ["RO", 0, 32] },
} as const;

/** One locator. */
export const MmioRegisterBlock: Declared<typeof locator> = extendedCapability("MRBL-LOCATOR", 0x36, locator);

// PCIe 6.0, section 7.9.11: posted writes to many receivers. Addresses and vectors of 64 bits are two registers each.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 16],
    MC_MAX_GROUP: ["RO", 0, 6],
    MC_WINDOW_SIZE_REQUESTED: ["RO", 8, 6],
    MC_ECRC_REGENERATION_SUPPORTED: ["RO", 15],
  },
  CONTROL: { at: [0x06, 16], MC_NUM_GROUP: ["RW", 0, 6], MC_ENABLE: ["RW", 15] },
  BASE_ADDRESS_LOWER: { at: [0x08, 32], MC_INDEX_POSITION: ["RW", 0, 6], MC_BASE_ADDRESS: ["RW", 12, 20] },
  BASE_ADDRESS_UPPER: { at: [0x0c, 32], VALUE: ["RW", 0, 32] },
  RECEIVE_LOWER: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
  RECEIVE_UPPER: { at: [0x14, 32], VALUE: ["RW", 0, 32] },
  BLOCK_ALL_LOWER: { at: [0x18, 32], VALUE: ["RW", 0, 32] },
  BLOCK_ALL_UPPER: { at: [0x1c, 32], VALUE: ["RW", 0, 32] },
  BLOCK_UNTRANSLATED_LOWER: { at: [0x20, 32], VALUE: ["RW", 0, 32] },
  BLOCK_UNTRANSLATED_UPPER: { at: [0x24, 32], VALUE: ["RW", 0, 32] },
  OVERLAY_LOWER: { at: [0x28, 32], MC_OVERLAY_SIZE: ["RW", 0, 6], MC_OVERLAY_BAR: ["RW", 6, 26] },
  OVERLAY_UPPER: { at: [0x2c, 32], VALUE: ["RW", 0, 32] },
} as const;

/** Multicast. The overlay BAR belongs to ports. */
export const Multicast: Declared<typeof registers> = extendedCapability("MCAST", 0x12, registers);

// PCIe 6.0, section 7.9.23: a bridge's subsystem ids, which its header has no room for.
import { capability, type Declared } from "../register.ts";

const registers = {
  SUBSYSTEM_VENDOR_ID: { at: [0x04, 16], VALUE: ["HwInit", 0, 16] },
  SUBSYSTEM_ID: { at: [0x06, 16], VALUE: ["HwInit", 0, 16] },
} as const;

/** Subsystem ids of a bridge. */
export const SubsystemId: Declared<typeof registers> = capability("SSVID", 0x0d, registers);

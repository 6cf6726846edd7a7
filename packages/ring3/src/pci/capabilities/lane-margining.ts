// PCIe 6.0, section 7.7.7: how far a lane's receiver is from errors; two registers for each lane follow.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  PORT_CAPABILITIES: { at: [0x04, 16], MARGINING_USES_DRIVER_SOFTWARE: ["HwInit", 0] },
  PORT_STATUS: { at: [0x06, 16], MARGINING_READY: ["RO", 0], MARGINING_SOFTWARE_READY: ["RO", 1] },
} as const;

/** Lane margining at the receiver. */
export const LaneMargining: Declared<typeof registers> = extendedCapability("LMR", 0x27, registers);

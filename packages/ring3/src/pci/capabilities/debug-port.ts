// EHCI 1.0, appendix C.1: where the debug registers of a USB controller lie.
import { capability, type Declared } from "../register.ts";

const registers = { DEBUG_PORT: { at: [0x02, 16], OFFSET: ["RO", 0, 13], BAR: ["RO", 13, 3] } } as const;

/** Debug port. */
export const DebugPort: Declared<typeof registers> = capability("DEBUG", 0x0a, registers);

// PCIe 6.1, section 7.7.9: what did not fit into the Express capability any more.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITIES: {
    at: [0x04, 32],
    DMWR_REQUEST_ROUTING_SUPPORTED: ["HwInit", 0],
    FOURTEEN_BIT_TAG_COMPLETER_SUPPORTED: ["HwInit", 1],
    FOURTEEN_BIT_TAG_REQUESTER_SUPPORTED: ["HwInit", 2],
    RECEIVER_L0P_SUPPORTED: ["HwInit", 3],
    PORT_L0P_EXIT_LATENCY: ["HwInit", 4, 3],
    RETIMER_L0P_EXIT_LATENCY: ["HwInit", 7, 3],
    UIO_MEM_RD_WR_COMPLETER_SUPPORTED: ["HwInit", 10],
    UIO_MEM_RD_WR_REQUESTER_SUPPORTED: ["HwInit", 11],
  },
  CONTROL: {
    at: [0x08, 16],
    DMWR_REQUESTER_ENABLE: ["RW", 0],
    DMWR_EGRESS_BLOCKING: ["RW", 1],
    FOURTEEN_BIT_TAG_REQUESTER_ENABLE: ["RW", 2],
    L0P_ENABLE: ["RW", 3],
    TARGET_LINK_WIDTH: ["RW", 4, 3],
    UIO_MEM_RD_WR_REQUESTER_ENABLE: ["RW", 7],
    UIO_REQUEST_256B_BOUNDARY_DISABLE: ["RW", 8],
  },
  STATUS: {
    at: [0x0c, 16],
    INITIAL_LINK_WIDTH: ["RO", 0, 3],
    SEGMENT_CAPTURED: ["RO", 3],
    REMOTE_L0P_SUPPORTED: ["RO", 4],
  },
} as const;

/** Device 3. */
export const Device3: Declared<typeof registers> = extendedCapability("DEV3", 0x2f, registers);

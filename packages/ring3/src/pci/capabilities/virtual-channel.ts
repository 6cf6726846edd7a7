// PCIe 6.0, section 7.9.1: traffic classes on virtual channels. The port's registers are followed by three registers for each
// of its channels; arbitration tables lie where both say.
import { type Declared, extendedCapability } from "../register.ts";

const port = {
  PORT_CAPABILITY_1: {
    at: [0x04, 32],
    EXTENDED_VC_COUNT: ["RO", 0, 3],
    LOW_PRIORITY_EXTENDED_VC_COUNT: ["RO", 4, 3],
    REFERENCE_CLOCK: ["RO", 8, 2],
    PORT_ARBITRATION_TABLE_ENTRY_SIZE: ["RO", 10, 2],
  },
  PORT_CAPABILITY_2: {
    at: [0x08, 32],
    VC_ARBITRATION_CAPABILITY: ["RO", 0, 8],
    VC_ARBITRATION_TABLE_OFFSET: ["RO", 24, 8],
  },
  PORT_CONTROL: { at: [0x0c, 16], LOAD_VC_ARBITRATION_TABLE: ["RW", 0], VC_ARBITRATION_SELECT: ["RW", 1, 3] },
  PORT_STATUS: { at: [0x0e, 16], VC_ARBITRATION_TABLE_STATUS: ["RO", 0] },
} as const;

/** Virtual channel, of a port; ids 0x02 and 0x09 have one layout. */
export const VirtualChannel: Declared<typeof port> = extendedCapability("VC", 0x02, port);

const resource = {
  CAPABILITY: {
    at: [0x00, 32],
    PORT_ARBITRATION_CAPABILITY: ["RO", 0, 8],
    REJECT_SNOOP_TRANSACTIONS: ["HwInit", 15],
    MAXIMUM_TIME_SLOTS: ["HwInit", 16, 7],
    PORT_ARBITRATION_TABLE_OFFSET: ["RO", 24, 8],
  },
  CONTROL: {
    at: [0x04, 32],
    TC_VC_MAP: ["RW", 0, 8],
    LOAD_PORT_ARBITRATION_TABLE: ["RW", 16],
    PORT_ARBITRATION_SELECT: ["RW", 17, 3],
    VC_ID: ["RW", 24, 3],
    VC_ENABLE: ["RW", 31],
  },
  STATUS: { at: [0x0a, 16], PORT_ARBITRATION_TABLE_STATUS: ["RO", 0], VC_NEGOTIATION_PENDING: ["RO", 1] },
} as const;

/** The registers of one channel; offsets count from the first of them, 12 bytes from one channel to the next. */
export const VirtualChannelResource: Declared<typeof resource> = extendedCapability("VC-RESOURCE", 0x02, resource);

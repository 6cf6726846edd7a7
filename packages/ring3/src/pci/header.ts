// The first 64 bytes of config space. PCIe 6.0, section 7.5.1 (types 0 and 1); PCI Local Bus 3.0, chapter 6; PC Card
// Standard 8.0, volume 7 (type 2). What a BAR's bits mean depends on its lowest bit and on the BAR before it: see bar.ts.
import { type Declared, header } from "./register.ts";

const common = {
  VENDOR_ID: { at: [0x00, 16], VALUE: ["HwInit", 0, 16] },
  DEVICE_ID: { at: [0x02, 16], VALUE: ["HwInit", 0, 16] },
  COMMAND: {
    at: [0x04, 16],
    IO: ["RW", 0],
    MEMORY: ["RW", 1],
    BUS_MASTER: ["RW", 2],
    SPECIAL_CYCLES: ["RW", 3],
    MEMORY_WRITE_AND_INVALIDATE: ["RW", 4],
    VGA_PALETTE_SNOOP: ["RW", 5],
    PARITY_ERROR_RESPONSE: ["RW", 6],
    IDSEL_STEPPING: ["RW", 7],
    SERR_ENABLE: ["RW", 8],
    FAST_BACK_TO_BACK_ENABLE: ["RW", 9],
    INTX_DISABLE: ["RW", 10],
  },
  STATUS: {
    at: [0x06, 16],
    IMMEDIATE_READINESS: ["RO", 0],
    INTERRUPT_STATUS: ["RO", 3],
    CAPABILITIES_LIST: ["RO", 4],
    CAPABLE_66_MHZ: ["RO", 5],
    USER_DEFINABLE_FEATURES: ["RO", 6],
    FAST_BACK_TO_BACK_CAPABLE: ["RO", 7],
    MASTER_DATA_PARITY_ERROR: ["RW1C", 8],
    DEVSEL_TIMING: ["RO", 9, 2],
    SIGNALED_TARGET_ABORT: ["RW1C", 11],
    RECEIVED_TARGET_ABORT: ["RW1C", 12],
    RECEIVED_MASTER_ABORT: ["RW1C", 13],
    SIGNALED_SYSTEM_ERROR: ["RW1C", 14],
    DETECTED_PARITY_ERROR: ["RW1C", 15],
  },
  REVISION_ID: { at: [0x08, 8], VALUE: ["HwInit", 0, 8] },
  PROGRAMMING_INTERFACE: { at: [0x09, 8], VALUE: ["RO", 0, 8] },
  SUBCLASS: { at: [0x0a, 8], VALUE: ["RO", 0, 8] },
  BASE_CLASS: { at: [0x0b, 8], VALUE: ["RO", 0, 8] },
  CACHE_LINE_SIZE: { at: [0x0c, 8], VALUE: ["RW", 0, 8] },
  LATENCY_TIMER: { at: [0x0d, 8], VALUE: ["RW", 0, 8] },
  HEADER_TYPE: { at: [0x0e, 8], LAYOUT: ["RO", 0, 7], MULTI_FUNCTION: ["RO", 7] },
  BIST: { at: [0x0f, 8], COMPLETION_CODE: ["RO", 0, 4], START: ["RW", 6], CAPABLE: ["HwInit", 7] },
  INTERRUPT_LINE: { at: [0x3c, 8], VALUE: ["RW", 0, 8] },
  INTERRUPT_PIN: { at: [0x3d, 8], VALUE: ["RO", 0, 8] },
} as const;

/** What headers of every type have. */
export const Header: Declared<typeof common> = header("HEADER", common);

const type0 = {
  BAR0: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
  BAR1: { at: [0x14, 32], VALUE: ["RW", 0, 32] },
  BAR2: { at: [0x18, 32], VALUE: ["RW", 0, 32] },
  BAR3: { at: [0x1c, 32], VALUE: ["RW", 0, 32] },
  BAR4: { at: [0x20, 32], VALUE: ["RW", 0, 32] },
  BAR5: { at: [0x24, 32], VALUE: ["RW", 0, 32] },
  CARDBUS_CIS_POINTER: { at: [0x28, 32], VALUE: ["RO", 0, 32] },
  SUBSYSTEM_VENDOR_ID: { at: [0x2c, 16], VALUE: ["HwInit", 0, 16] },
  SUBSYSTEM_ID: { at: [0x2e, 16], VALUE: ["HwInit", 0, 16] },
  EXPANSION_ROM: {
    at: [0x30, 32],
    ENABLE: ["RW", 0],
    VALIDATION_STATUS: ["HwInit", 1, 3],
    VALIDATION_DETAILS: ["HwInit", 4, 4],
    ADDRESS: ["RW", 11, 21],
  },
  CAPABILITIES_POINTER: { at: [0x34, 8], VALUE: ["RO", 0, 8] },
  MIN_GNT: { at: [0x3e, 8], VALUE: ["RO", 0, 8] },
  MAX_LAT: { at: [0x3f, 8], VALUE: ["RO", 0, 8] },
} as const;

/** The rest of a type 0 header: endpoints. */
export const Header0: Declared<typeof type0> = header("HEADER0", type0);

const type1 = {
  BAR0: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
  BAR1: { at: [0x14, 32], VALUE: ["RW", 0, 32] },
  PRIMARY_BUS_NUMBER: { at: [0x18, 8], VALUE: ["RW", 0, 8] },
  SECONDARY_BUS_NUMBER: { at: [0x19, 8], VALUE: ["RW", 0, 8] },
  SUBORDINATE_BUS_NUMBER: { at: [0x1a, 8], VALUE: ["RW", 0, 8] },
  SECONDARY_LATENCY_TIMER: { at: [0x1b, 8], VALUE: ["RW", 0, 8] },
  IO_BASE: { at: [0x1c, 8], ADDRESSING: ["RO", 0, 4], BASE: ["RW", 4, 4] },
  IO_LIMIT: { at: [0x1d, 8], ADDRESSING: ["RO", 0, 4], LIMIT: ["RW", 4, 4] },
  SECONDARY_STATUS: {
    at: [0x1e, 16],
    CAPABLE_66_MHZ: ["RO", 5],
    FAST_BACK_TO_BACK_CAPABLE: ["RO", 7],
    MASTER_DATA_PARITY_ERROR: ["RW1C", 8],
    DEVSEL_TIMING: ["RO", 9, 2],
    SIGNALED_TARGET_ABORT: ["RW1C", 11],
    RECEIVED_TARGET_ABORT: ["RW1C", 12],
    RECEIVED_MASTER_ABORT: ["RW1C", 13],
    RECEIVED_SYSTEM_ERROR: ["RW1C", 14],
    DETECTED_PARITY_ERROR: ["RW1C", 15],
  },
  MEMORY_BASE: { at: [0x20, 16], BASE: ["RW", 4, 12] },
  MEMORY_LIMIT: { at: [0x22, 16], LIMIT: ["RW", 4, 12] },
  PREFETCHABLE_MEMORY_BASE: { at: [0x24, 16], ADDRESSING: ["RO", 0, 4], BASE: ["RW", 4, 12] },
  PREFETCHABLE_MEMORY_LIMIT: { at: [0x26, 16], ADDRESSING: ["RO", 0, 4], LIMIT: ["RW", 4, 12] },
  PREFETCHABLE_BASE_UPPER: { at: [0x28, 32], VALUE: ["RW", 0, 32] },
  PREFETCHABLE_LIMIT_UPPER: { at: [0x2c, 32], VALUE: ["RW", 0, 32] },
  IO_BASE_UPPER: { at: [0x30, 16], VALUE: ["RW", 0, 16] },
  IO_LIMIT_UPPER: { at: [0x32, 16], VALUE: ["RW", 0, 16] },
  CAPABILITIES_POINTER: { at: [0x34, 8], VALUE: ["RO", 0, 8] },
  EXPANSION_ROM: {
    at: [0x38, 32],
    ENABLE: ["RW", 0],
    VALIDATION_STATUS: ["HwInit", 1, 3],
    VALIDATION_DETAILS: ["HwInit", 4, 4],
    ADDRESS: ["RW", 11, 21],
  },
  BRIDGE_CONTROL: {
    at: [0x3e, 16],
    PARITY_ERROR_RESPONSE_ENABLE: ["RW", 0],
    SERR_ENABLE: ["RW", 1],
    ISA_ENABLE: ["RW", 2],
    VGA_ENABLE: ["RW", 3],
    VGA_16_BIT_DECODE: ["RW", 4],
    MASTER_ABORT_MODE: ["RW", 5],
    SECONDARY_BUS_RESET: ["RW", 6],
    FAST_BACK_TO_BACK_ENABLE: ["RW", 7],
    PRIMARY_DISCARD_TIMER: ["RW", 8],
    SECONDARY_DISCARD_TIMER: ["RW", 9],
    DISCARD_TIMER_STATUS: ["RW1C", 10],
    DISCARD_TIMER_SERR_ENABLE: ["RW", 11],
  },
} as const;

/** The rest of a type 1 header: bridges, root ports and switch ports. */
export const Header1: Declared<typeof type1> = header("HEADER1", type1);

const type2 = {
  SOCKET_BASE_ADDRESS: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
  CAPABILITIES_POINTER: { at: [0x14, 8], VALUE: ["RO", 0, 8] },
  SECONDARY_STATUS: {
    at: [0x16, 16],
    MASTER_DATA_PARITY_ERROR: ["RW1C", 8],
    DEVSEL_TIMING: ["RO", 9, 2],
    SIGNALED_TARGET_ABORT: ["RW1C", 11],
    RECEIVED_TARGET_ABORT: ["RW1C", 12],
    RECEIVED_MASTER_ABORT: ["RW1C", 13],
    RECEIVED_SYSTEM_ERROR: ["RW1C", 14],
    DETECTED_PARITY_ERROR: ["RW1C", 15],
  },
  PCI_BUS_NUMBER: { at: [0x18, 8], VALUE: ["RW", 0, 8] },
  CARDBUS_BUS_NUMBER: { at: [0x19, 8], VALUE: ["RW", 0, 8] },
  SUBORDINATE_BUS_NUMBER: { at: [0x1a, 8], VALUE: ["RW", 0, 8] },
  CARDBUS_LATENCY_TIMER: { at: [0x1b, 8], VALUE: ["RW", 0, 8] },
  MEMORY_BASE_0: { at: [0x1c, 32], VALUE: ["RW", 0, 32] },
  MEMORY_LIMIT_0: { at: [0x20, 32], VALUE: ["RW", 0, 32] },
  MEMORY_BASE_1: { at: [0x24, 32], VALUE: ["RW", 0, 32] },
  MEMORY_LIMIT_1: { at: [0x28, 32], VALUE: ["RW", 0, 32] },
  IO_BASE_0: { at: [0x2c, 32], ADDRESSING: ["RO", 0, 2], BASE: ["RW", 2, 30] },
  IO_LIMIT_0: { at: [0x30, 32], LIMIT: ["RW", 2, 30] },
  IO_BASE_1: { at: [0x34, 32], ADDRESSING: ["RO", 0, 2], BASE: ["RW", 2, 30] },
  IO_LIMIT_1: { at: [0x38, 32], LIMIT: ["RW", 2, 30] },
  BRIDGE_CONTROL: {
    at: [0x3e, 16],
    PARITY_ERROR_RESPONSE_ENABLE: ["RW", 0],
    SERR_ENABLE: ["RW", 1],
    ISA_ENABLE: ["RW", 2],
    VGA_ENABLE: ["RW", 3],
    MASTER_ABORT_MODE: ["RW", 5],
    CARDBUS_RESET: ["RW", 6],
    INTERRUPT_16_BIT_ENABLE: ["RW", 7],
    MEMORY_0_PREFETCH_ENABLE: ["RW", 8],
    MEMORY_1_PREFETCH_ENABLE: ["RW", 9],
    WRITE_POSTING_ENABLE: ["RW", 10],
  },
  SUBSYSTEM_VENDOR_ID: { at: [0x40, 16], VALUE: ["RO", 0, 16] },
  SUBSYSTEM_ID: { at: [0x42, 16], VALUE: ["RO", 0, 16] },
  LEGACY_MODE_BASE: { at: [0x44, 32], VALUE: ["RW", 0, 32] },
} as const;

/** The rest of a type 2 header: CardBus bridges. */
export const Header2: Declared<typeof type2> = header("HEADER2", type2);

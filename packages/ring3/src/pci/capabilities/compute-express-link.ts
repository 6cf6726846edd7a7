// CXL 3.1, section 8.1: the designated vendor-specific capabilities of vendor 0x1e98, told apart by their DVSEC id. Offsets count
// from the start of the capability, so that its two headers come first.
import { type Declared, extendedCapability } from "../register.ts";

const device = {
  CAPABILITY: {
    at: [0x0a, 16],
    CACHE_CAPABLE: ["RO", 0],
    IO_CAPABLE: ["RO", 1],
    MEM_CAPABLE: ["RO", 2],
    MEM_HWINIT_MODE: ["RO", 3],
    HDM_COUNT: ["RO", 4, 2],
    VIRAL_CAPABLE: ["RO", 14],
  },
  CONTROL: {
    at: [0x0c, 16],
    CACHE_ENABLE: ["RW", 0],
    IO_ENABLE: ["RW", 1],
    MEM_ENABLE: ["RW", 2],
    CACHE_SF_COVERAGE: ["RW", 3, 5],
    CACHE_SF_GRANULARITY: ["RW", 8, 3],
    CACHE_CLEAN_EVICTION: ["RW", 11],
    VIRAL_ENABLE: ["RW", 14],
  },
  STATUS: { at: [0x0e, 16], VIRAL_STATUS: ["RW1CS", 14] },
  CONTROL_2: {
    at: [0x10, 16],
    DISABLE_CACHING: ["RW", 0],
    INITIATE_CACHE_WRITE_BACK_AND_INVALIDATION: ["RW", 1],
    INITIATE_CXL_RESET: ["RW", 2],
    CXL_RESET_MEM_CLR_ENABLE: ["RW", 3],
    DESIRED_VOLATILE_HDM_STATE_AFTER_HOT_RESET: ["RWS", 4],
  },
  STATUS_2: {
    at: [0x12, 16],
    CACHE_INVALID: ["RO", 0],
    CXL_RESET_COMPLETE: ["RO", 1],
    CXL_RESET_ERROR: ["RO", 2],
    POWER_MANAGEMENT_INITIALIZATION_COMPLETE: ["RO", 15],
  },
  LOCK: { at: [0x14, 16], CONFIG_LOCK: ["RW", 0] },
  CAPABILITY_2: { at: [0x16, 16], CACHE_SIZE_UNIT: ["RO", 0, 4], CACHE_SIZE: ["RO", 8, 8] },
  RANGE_1_SIZE_HIGH: { at: [0x18, 32], VALUE: ["RO", 0, 32] },
  RANGE_1_SIZE_LOW: {
    at: [0x1c, 32],
    MEMORY_INFO_VALID: ["RO", 0],
    MEMORY_ACTIVE: ["RO", 1],
    MEDIA_TYPE: ["RO", 2, 3],
    MEMORY_CLASS: ["RO", 5, 3],
    DESIRED_INTERLEAVE: ["RO", 8, 5],
    MEMORY_ACTIVE_TIMEOUT: ["RO", 13, 3],
    MEMORY_SIZE_LOW: ["RO", 28, 4],
  },
  RANGE_1_BASE_HIGH: { at: [0x20, 32], VALUE: ["RW", 0, 32] },
  RANGE_1_BASE_LOW: { at: [0x24, 32], MEMORY_BASE_LOW: ["RW", 28, 4] },
  RANGE_2_SIZE_HIGH: { at: [0x28, 32], VALUE: ["RO", 0, 32] },
  RANGE_2_SIZE_LOW: {
    at: [0x2c, 32],
    MEMORY_INFO_VALID: ["RO", 0],
    MEMORY_ACTIVE: ["RO", 1],
    MEDIA_TYPE: ["RO", 2, 3],
    MEMORY_CLASS: ["RO", 5, 3],
    DESIRED_INTERLEAVE: ["RO", 8, 5],
    MEMORY_ACTIVE_TIMEOUT: ["RO", 13, 3],
    MEMORY_SIZE_LOW: ["RO", 28, 4],
  },
  RANGE_2_BASE_HIGH: { at: [0x30, 32], VALUE: ["RW", 0, 32] },
  RANGE_2_BASE_LOW: { at: [0x34, 32], MEMORY_BASE_LOW: ["RW", 28, 4] },
  CAPABILITY_3: {
    at: [0x38, 16],
    DEFAULT_VOLATILE_HDM_STATE_AFTER_COLD_RESET: ["RO", 0],
    DEFAULT_VOLATILE_HDM_STATE_AFTER_WARM_RESET: ["RO", 1],
    DEFAULT_VOLATILE_HDM_STATE_AFTER_HOT_RESET: ["RO", 2],
    VOLATILE_HDM_STATE_AFTER_HOT_RESET_CONFIGURABILITY: ["RO", 3],
  },
} as const;

/** DVSEC for CXL devices, id 0. CAPABILITY_3 is there from revision 2 on. */
export const CxlDevice: Declared<typeof device> = extendedCapability("CXL-DEVICE", 0x23, device);

const functionMap = {
  FUNCTION_MAP_0: { at: [0x0c, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_1: { at: [0x10, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_2: { at: [0x14, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_3: { at: [0x18, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_4: { at: [0x1c, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_5: { at: [0x20, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_6: { at: [0x24, 32], VALUE: ["RO", 0, 32] },
  FUNCTION_MAP_7: { at: [0x28, 32], VALUE: ["RO", 0, 32] },
} as const;

/** Non-CXL function map, id 2: a bit for each function. */
export const CxlFunctionMap: Declared<typeof functionMap> = extendedCapability("CXL-FUNCTION-MAP", 0x23, functionMap);

const port = {
  STATUS: { at: [0x0a, 16], POWER_MANAGEMENT_INITIALIZATION_COMPLETE: ["RO", 0], VIRAL_STATUS: ["RW1CS", 14] },
  CONTROL: {
    at: [0x0c, 16],
    UNMASK_SBR: ["RW", 0],
    UNMASK_LINK_DISABLE: ["RW", 1],
    ALT_MEMORY_AND_ID_SPACE_ENABLE: ["RW", 2],
    ALT_BME: ["RW", 3],
    VIRAL_ENABLE: ["RW", 14],
  },
  ALTERNATE_BUS_BASE: { at: [0x0e, 8], VALUE: ["RW", 0, 8] },
  ALTERNATE_BUS_LIMIT: { at: [0x0f, 8], VALUE: ["RW", 0, 8] },
  ALTERNATE_MEMORY_BASE: { at: [0x10, 16], VALUE: ["RW", 0, 16] },
  ALTERNATE_MEMORY_LIMIT: { at: [0x12, 16], VALUE: ["RW", 0, 16] },
} as const;

/** CXL extensions for ports, id 3. */
export const CxlPort: Declared<typeof port> = extendedCapability("CXL-PORT", 0x23, port);

const gpfPort = {
  PHASE_1_CONTROL: { at: [0x0c, 16], BASE: ["RW", 0, 4], SCALE: ["RW", 8, 4] },
  PHASE_2_CONTROL: { at: [0x0e, 16], BASE: ["RW", 0, 4], SCALE: ["RW", 8, 4] },
} as const;

/** Global persistent flush of a port, id 4. */
export const CxlFlushPort: Declared<typeof gpfPort> = extendedCapability("CXL-GPF-PORT", 0x23, gpfPort);

const gpfDevice = {
  PHASE_2_DURATION: { at: [0x0a, 16], BASE: ["RW", 0, 4], SCALE: ["RW", 8, 4] },
  PHASE_2_POWER: { at: [0x0c, 32], VALUE: ["RO", 0, 32] },
} as const;

/** Global persistent flush of a device, id 5; power in milliwatts. */
export const CxlFlushDevice: Declared<typeof gpfDevice> = extendedCapability("CXL-GPF-DEVICE", 0x23, gpfDevice);

const flexBus = {
  CAPABILITY: {
    at: [0x0a, 16],
    CACHE: ["RO", 0],
    IO: ["RO", 1],
    MEM: ["RO", 2],
    FLIT_68B: ["RO", 5],
    MULTI_LOGICAL_DEVICE: ["RO", 6],
    FLIT_256B: ["RO", 13],
    PBR_FLIT: ["RO", 14],
  },
  CONTROL: {
    at: [0x0c, 16],
    CACHE: ["RW", 0],
    IO: ["RW", 1],
    MEM: ["RW", 2],
    SYNC_HEADER_BYPASS: ["RW", 3],
    DRIFT_BUFFER: ["RW", 4],
    FLIT_68B: ["RW", 5],
    MULTI_LOGICAL_DEVICE: ["RW", 6],
    DISABLE_RCD_TRAINING: ["RW", 7],
    RETIMER_1: ["RW", 8],
    RETIMER_2: ["RW", 9],
    FLIT_256B: ["RW", 13],
    PBR_FLIT: ["RW", 14],
  },
  STATUS: {
    at: [0x0e, 16],
    CACHE: ["RO", 0],
    IO: ["RO", 1],
    MEM: ["RO", 2],
    SYNC_HEADER_BYPASS: ["RO", 3],
    DRIFT_BUFFER: ["RO", 4],
    FLIT_68B: ["RO", 5],
    MULTI_LOGICAL_DEVICE: ["RO", 6],
    FLIT_256B: ["RO", 13],
    PBR_FLIT: ["RO", 14],
  },
  MODIFIED_TS_DATA: { at: [0x10, 32], RECEIVED_FLEX_BUS_DATA: ["RO", 0, 24] },
  CAPABILITY_2: { at: [0x14, 32], NOP_HINT_CAPABLE: ["RO", 0] },
  CONTROL_2: { at: [0x18, 32], NOP_HINT_ENABLE: ["RW", 0] },
  STATUS_2: { at: [0x1c, 32], NOP_HINT_INFO: ["RO", 0, 2] },
} as const;

/** Flex Bus port, id 7. MODIFIED_TS_DATA is there from revision 1 on, what follows from 2. */
export const CxlFlexBus: Declared<typeof flexBus> = extendedCapability("CXL-FLEX-BUS", 0x23, flexBus);

const multiLogical = {
  NUMBER_OF_LDS: { at: [0x0a, 16], VALUE: ["RO", 0, 16] },
} as const;

/** Multiple logical devices, id 9. */
export const CxlMultiLogicalDevice: Declared<typeof multiLogical> = extendedCapability("CXL-MLD", 0x23, multiLogical);

const locator = {
  OFFSET_LOW: { at: [0x00, 32], BIR: ["HwInit", 0, 3], BLOCK_ID: ["HwInit", 8, 8], OFFSET: ["HwInit", 16, 16] },
  OFFSET_HIGH: { at: [0x04, 32], VALUE: ["RO", 0, 32] },
} as const;

/** One block of the register locator, id 8; the first lies at 0x0c of the capability. */
export const CxlRegisterBlock: Declared<typeof locator> = extendedCapability("CXL-LOCATOR", 0x23, locator);

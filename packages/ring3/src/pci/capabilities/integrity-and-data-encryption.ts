// PCIe 6.0, section 7.9.26: encrypted streams, of the link and selective ones. Their register blocks follow in turn, as many as
// the capability says; a selective block ends with as many address associations as its own first register says.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 32],
    LINK_IDE_STREAM_SUPPORTED: ["HwInit", 0],
    SELECTIVE_IDE_STREAMS_SUPPORTED: ["HwInit", 1],
    FLOW_THROUGH_IDE_STREAM_SUPPORTED: ["HwInit", 2],
    PARTIAL_HEADER_ENCRYPTION_SUPPORTED: ["HwInit", 3],
    AGGREGATION_SUPPORTED: ["HwInit", 4],
    PCRC_SUPPORTED: ["HwInit", 5],
    IDE_KM_PROTOCOL_SUPPORTED: ["HwInit", 6],
    SELECTIVE_IDE_FOR_CONFIGURATION_REQUESTS_SUPPORTED: ["HwInit", 7],
    SUPPORTED_ALGORITHMS: ["HwInit", 8, 5],
    NUMBER_OF_TCS_SUPPORTED_FOR_LINK_IDE: ["HwInit", 13, 3],
    NUMBER_OF_SELECTIVE_IDE_STREAMS_SUPPORTED: ["HwInit", 16, 8],
    TEE_LIMITED_STREAM_SUPPORTED: ["HwInit", 24],
    XT_SUPPORTED: ["HwInit", 25],
  },
  CONTROL: { at: [0x08, 32], FLOW_THROUGH_IDE_STREAM_ENABLED: ["RW", 2] },
} as const;

/** Integrity and data encryption. */
export const IntegrityAndDataEncryption: Declared<typeof registers> = extendedCapability("IDE", 0x30, registers);

const linkStream = {
  CONTROL: {
    at: [0x00, 32],
    STREAM_ENABLE: ["RW", 0],
    XT_ENABLE: ["RW", 1],
    TX_AGGREGATION_MODE_NPR: ["RW", 2, 2],
    TX_AGGREGATION_MODE_PR: ["RW", 4, 2],
    TX_AGGREGATION_MODE_CPL: ["RW", 6, 2],
    PCRC_ENABLE: ["RW", 8],
    PARTIAL_HEADER_ENCRYPTION_MODE: ["RW", 10, 4],
    SELECTED_ALGORITHM: ["RW", 14, 5],
    TC: ["RW", 19, 3],
    STREAM_ID: ["RW", 24, 8],
  },
  STATUS: { at: [0x04, 32], STREAM_STATE: ["RO", 0, 4], RECEIVED_INTEGRITY_CHECK_FAIL_MESSAGE: ["RW1CS", 31] },
} as const;

/** Registers of one link stream. */
export const LinkIdeStream: Declared<typeof linkStream> = extendedCapability("IDE-LINK", 0x30, linkStream);

const selectiveStream = {
  CAPABILITY: { at: [0x00, 32], NUMBER_OF_ADDRESS_ASSOCIATION_REGISTER_BLOCKS: ["HwInit", 0, 4] },
  CONTROL: {
    at: [0x04, 32],
    STREAM_ENABLE: ["RW", 0],
    XT_ENABLE: ["RW", 1],
    TX_AGGREGATION_MODE_NPR: ["RW", 2, 2],
    TX_AGGREGATION_MODE_PR: ["RW", 4, 2],
    TX_AGGREGATION_MODE_CPL: ["RW", 6, 2],
    PCRC_ENABLE: ["RW", 8],
    CONFIGURATION_REQUESTS_ENABLE: ["RW", 9],
    PARTIAL_HEADER_ENCRYPTION_MODE: ["RW", 10, 4],
    SELECTED_ALGORITHM: ["RW", 14, 5],
    TC: ["RW", 19, 3],
    DEFAULT_STREAM: ["RW", 22],
    TEE_LIMITED_STREAM: ["RW", 23],
    STREAM_ID: ["RW", 24, 8],
  },
  STATUS: { at: [0x08, 32], STREAM_STATE: ["RO", 0, 4], RECEIVED_INTEGRITY_CHECK_FAIL_MESSAGE: ["RW1CS", 31] },
  RID_ASSOCIATION_1: { at: [0x0c, 32], RID_LIMIT: ["RW", 8, 16] },
  RID_ASSOCIATION_2: { at: [0x10, 32], VALID: ["RW", 0], RID_BASE: ["RW", 8, 16], SEGMENT_BASE: ["RW", 24, 8] },
} as const;

/** Registers of one selective stream. */
export const SelectiveIdeStream: Declared<typeof selectiveStream> = extendedCapability(
  "IDE-SELECTIVE",
  0x30,
  selectiveStream,
);

const address = {
  REGISTER_1: {
    at: [0x00, 32],
    VALID: ["RW", 0],
    MEMORY_BASE_LOWER: ["RW", 8, 12],
    MEMORY_LIMIT_LOWER: ["RW", 20, 12],
  },
  REGISTER_2: { at: [0x04, 32], MEMORY_LIMIT_UPPER: ["RW", 0, 32] },
  REGISTER_3: { at: [0x08, 32], MEMORY_BASE_UPPER: ["RW", 0, 32] },
} as const;

/** One address association. */
export const IdeAddressAssociation: Declared<typeof address> = extendedCapability("IDE-ADDRESS", 0x30, address);

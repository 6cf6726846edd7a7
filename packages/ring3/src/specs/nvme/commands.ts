// Submission queue entries: opcodes, their words, and the values of the fields that drivers set.
// NVMe base 2.0, sections 3.3.3.1 (entry), 5 (admin commands), 7 (I/O commands); NVM command set 1.0, section 3.2.
import { type Fields, fields } from "../../binary/layout.ts";

export const SUBMISSION_ENTRY_SIZE = 64;
export const COMPLETION_ENTRY_SIZE = 16;

/** Word indices of a submission queue entry (64 bytes, 16 words), base figure 88. */
export const CommandWord = {
  CDW0: 0,
  NSID: 1,
  CDW2: 2,
  CDW3: 3,
  MPTR_LOW: 4,
  MPTR_HIGH: 5,
  PRP1_LOW: 6,
  PRP1_HIGH: 7,
  PRP2_LOW: 8,
  PRP2_HIGH: 9,
  CDW10: 10,
  CDW11: 11,
  CDW12: 12,
  CDW13: 13,
  CDW14: 14,
  CDW15: 15,
} as const;

const cdw0Bits = { OPC: [0, 8], FUSE: [8, 2], PSDT: [14, 2], CID: [16, 16] } as const;
/** Command Dword 0, base figure 86. */
export const Cdw0: Fields<typeof cdw0Bits> = fields(cdw0Bits);
/** Values of CDW0.PSDT: how the data pointer is laid out. */
export const DataPointerKind = { PRP: 0, SGL: 1, SGL_METADATA_SEGMENT: 2 } as const;

/** Word indices of a completion queue entry (16 bytes, 4 words), base figure 90. */
export const CompletionWord = { DW0: 0, DW1: 1, SQ: 2, STATUS: 3 } as const;
const completionSqBits = { SQHD: [0, 16], SQID: [16, 16] } as const;
/** Completion dword 2. */
export const CompletionSq: Fields<typeof completionSqBits> = fields(completionSqBits);
const completionStatusBits = {
  CID: [0, 16],
  P: [16],
  SC: [17, 8],
  SCT: [25, 3],
  CRD: [28, 2],
  M: [30],
  DNR: [31],
} as const;
/** Completion dword 3: CID, phase tag and status field, base figure 92 and section 3.3.3.2.1. */
export const CompletionStatus: Fields<typeof completionStatusBits> = fields(completionStatusBits);

/** Admin opcodes, base figure 138. */
export const AdminOpcode = {
  DELETE_IO_SUBMISSION_QUEUE: 0x00,
  CREATE_IO_SUBMISSION_QUEUE: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_IO_COMPLETION_QUEUE: 0x04,
  CREATE_IO_COMPLETION_QUEUE: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNCHRONOUS_EVENT_REQUEST: 0x0c,
  NAMESPACE_MANAGEMENT: 0x0d,
  FIRMWARE_COMMIT: 0x10,
  FIRMWARE_IMAGE_DOWNLOAD: 0x11,
  DEVICE_SELF_TEST: 0x14,
  NAMESPACE_ATTACHMENT: 0x15,
  KEEP_ALIVE: 0x18,
  DOORBELL_BUFFER_CONFIG: 0x7c,
  FORMAT_NVM: 0x80,
  SECURITY_SEND: 0x81,
  SECURITY_RECEIVE: 0x82,
  SANITIZE: 0x84,
} as const;

/** I/O opcodes: flush is base section 7.1, the others NVM command set 1.0, figure 19. */
export const IoOpcode = {
  FLUSH: 0x00,
  WRITE: 0x01,
  READ: 0x02,
  WRITE_UNCORRECTABLE: 0x04,
  COMPARE: 0x05,
  WRITE_ZEROES: 0x08,
  DATASET_MANAGEMENT: 0x09,
  VERIFY: 0x0c,
  COPY: 0x19,
} as const;

const ioCdw12Bits = { NLB: [0, 16], DEAC: [25], PRINFO: [26, 4], FUA: [30], LR: [31] } as const;
/** CDW12 of read, write, compare, verify, write zeroes: NVM command set 1.0, section 3.2. NLB is zero-based. */
export const IoCdw12: Fields<typeof ioCdw12Bits> = fields(ioCdw12Bits);
const datasetCdw10Bits = { NR: [0, 8] } as const;
/** CDW10 and CDW11 of dataset management, NVM command set 1.0, section 3.2.3. NR is zero-based. */
export const DatasetCdw10: Fields<typeof datasetCdw10Bits> = fields(datasetCdw10Bits);
const datasetCdw11Bits = { IDR: [0], IDW: [1], AD: [2] } as const;
export const DatasetCdw11: Fields<typeof datasetCdw11Bits> = fields(datasetCdw11Bits);
/** At most this many ranges in one dataset management command. */
export const DATASET_RANGES_MAX = 256;

const createQueueCdw10Bits = { QID: [0, 16], QSIZE: [16, 16] } as const;
/** CDW10 of create I/O queue (both kinds), base sections 5.4 and 5.5. QSIZE is zero-based. */
export const CreateQueueCdw10: Fields<typeof createQueueCdw10Bits> = fields(createQueueCdw10Bits);
const createCompletionCdw11Bits = { PC: [0], IEN: [1], IV: [16, 16] } as const;
/** CDW11 of create I/O completion queue, base section 5.4. */
export const CreateCompletionCdw11: Fields<typeof createCompletionCdw11Bits> = fields(createCompletionCdw11Bits);
const createSubmissionCdw11Bits = { PC: [0], QPRIO: [1, 2], CQID: [16, 16] } as const;
/** CDW11 of create I/O submission queue, base section 5.5. */
export const CreateSubmissionCdw11: Fields<typeof createSubmissionCdw11Bits> = fields(createSubmissionCdw11Bits);

const identifyCdw10Bits = { CNS: [0, 8], CNTID: [16, 16] } as const;
/** CDW10 of identify, base section 5.17.1. */
export const IdentifyCdw10: Fields<typeof identifyCdw10Bits> = fields(identifyCdw10Bits);
/** Values of CNS, base figure 273. */
export const Cns = {
  NAMESPACE: 0x00,
  CONTROLLER: 0x01,
  ACTIVE_NAMESPACES: 0x02,
  NAMESPACE_DESCRIPTORS: 0x03,
  IO_COMMAND_SET_NAMESPACE: 0x05,
  IO_COMMAND_SET_CONTROLLER: 0x06,
  IO_COMMAND_SET_ACTIVE_NAMESPACES: 0x07,
  INDEPENDENT_NAMESPACE: 0x08,
  ALLOCATED_NAMESPACES: 0x10,
  ALLOCATED_NAMESPACE: 0x11,
  IO_COMMAND_SETS: 0x1c,
} as const;
const identifyCdw11Bits = { CNSSID: [0, 16], CSI: [24, 8] } as const;
/** CDW11 of identify, base section 5.17.1: the command set that the CNS values with IO_COMMAND_SET are about. */
export const IdentifyCdw11: Fields<typeof identifyCdw11Bits> = fields(identifyCdw11Bits);
/** Command set identifiers (CSI), base figure 274. */
export const CommandSet = { NVM: 0x00 } as const;
/** As a namespace id: all namespaces, where the command takes that. */
export const ALL_NAMESPACES = 0xffff_ffff;

const logCdw10Bits = { LID: [0, 8], LSP: [8, 7], RAE: [15], NUMDL: [16, 16] } as const;
/** CDW10 of get log page, base section 5.16. The number of dwords is zero-based and split over CDW10 and CDW11. */
export const LogCdw10: Fields<typeof logCdw10Bits> = fields(logCdw10Bits);
const logCdw11Bits = { NUMDU: [0, 16], LSI: [16, 16] } as const;
export const LogCdw11: Fields<typeof logCdw11Bits> = fields(logCdw11Bits);
const logCdw14Bits = { UUID_INDEX: [0, 7], OT: [23], CSI: [24, 8] } as const;
/** CDW14 of get log page. OT: the offset in CDW12 and CDW13 counts entries instead of bytes. */
export const LogCdw14: Fields<typeof logCdw14Bits> = fields(logCdw14Bits);
/** Log page identifiers, base figure 202. */
export const LogPage = {
  SUPPORTED_LOG_PAGES: 0x00,
  ERROR_INFORMATION: 0x01,
  HEALTH: 0x02,
  FIRMWARE_SLOT: 0x03,
  CHANGED_NAMESPACES: 0x04,
  COMMANDS_SUPPORTED: 0x05,
  FEATURE_EFFECTS: 0x12,
} as const;
const commandEffectsBits = { CSUPP: [0], LBCC: [1], NCC: [2], NIC: [3], CCC: [4], CSE: [16, 3] } as const;
/** An entry of the commands supported and effects log, base figure 212. LBCC: it may change blocks. */
export const CommandEffects: Fields<typeof commandEffectsBits> = fields(commandEffectsBits);
const featureEffectsBits = { FSUPP: [0], UDCC: [1], NCC: [2], NIC: [3], CCC: [4], FSP: [20, 12] } as const;
/** An entry of the feature identifiers supported and effects log, base figure 256. FSP bit 0: namespace, 1: controller. */
export const FeatureEffects: Fields<typeof featureEffectsBits> = fields(featureEffectsBits);

const abortCdw10Bits = { SQID: [0, 16], CID: [16, 16] } as const;
/** CDW10 of abort, base section 5.1: which command of which submission queue. Bit 0 of the result set: not aborted. */
export const AbortCdw10: Fields<typeof abortCdw10Bits> = fields(abortCdw10Bits);

const asynchronousEventBits = { TYPE: [0, 3], INFORMATION: [8, 8], LOG_PAGE: [16, 8] } as const;
/** Completion dword 0 of an asynchronous event request, base section 5.2.1. */
export const AsynchronousEvent: Fields<typeof asynchronousEventBits> = fields(asynchronousEventBits);
/** Asynchronous event types, base figure 146. */
export const AsynchronousEventType = {
  ERROR: 0,
  HEALTH: 1,
  NOTICE: 2,
  IMMEDIATE: 3,
  IO_COMMAND_SET: 6,
  VENDOR: 7,
} as const;
/** Information of the type ERROR, base figure 147. */
export const ErrorEvent = { INVALID_DOORBELL_REGISTER: 0x00, INVALID_DOORBELL_VALUE: 0x01 } as const;
/** Information of the type HEALTH, base figure 148. */
export const HealthEvent = { RELIABILITY: 0x00, TEMPERATURE: 0x01, SPARE: 0x02 } as const;
/** Information of the type NOTICE, base figure 149. */
export const NoticeEvent = { NAMESPACE_ATTRIBUTES_CHANGED: 0x00 } as const;

// Data structures that commands carry: identify, log pages, dataset ranges, SGL descriptors.
// NVMe base 2.0, sections 4.1.2 (SGL), 5.16 (logs), 5.17 (identify); NVM command set 1.0, sections 3.2.3.1, 4.1.5.1.
// Offsets are those of the figures; the vendor and reserved areas are left out.

import { type Fields, fields, type LayoutValue, layout } from "../../binary/layout.ts";
import type { Struct } from "../../binary/struct.ts";

const powerStateMembers = {
  MP: [0, "u16"],
  FLAGS: [3, "u8"],
  ENLAT: [4, "u32"],
  EXLAT: [8, "u32"],
  RRT: [12, "u8"],
  RRL: [13, "u8"],
  RWT: [14, "u8"],
  RWL: [15, "u8"],
  IDLP: [16, "u16"],
  IPS: [18, "u8"],
  ACTP: [20, "u16"],
  APS: [22, "u8"],
} as const;
/** A power state descriptor, base figure 276. */
export const PowerState: Struct<LayoutValue<typeof powerStateMembers>> = layout(
  "power state descriptor",
  32,
  powerStateMembers,
);
export type PowerState = LayoutValue<typeof powerStateMembers>;

const identifyControllerMembers = {
  VID: [0, "u16"],
  SSVID: [2, "u16"],
  SN: [4, "ascii", 20],
  MN: [24, "ascii", 40],
  FR: [64, "ascii", 8],
  RAB: [72, "u8"],
  IEEE: [73, "bytes", 3],
  CMIC: [76, "u8"],
  MDTS: [77, "u8"],
  CNTLID: [78, "u16"],
  VER: [80, "u32"],
  RTD3R: [84, "u32"],
  RTD3E: [88, "u32"],
  OAES: [92, "u32"],
  CTRATT: [96, "u32"],
  RRLS: [100, "u16"],
  CNTRLTYPE: [111, "u8"],
  FGUID: [112, "bytes", 16],
  CRDT1: [128, "u16"],
  CRDT2: [130, "u16"],
  CRDT3: [132, "u16"],
  NVMSR: [253, "u8"],
  VWCI: [254, "u8"],
  MEC: [255, "u8"],
  OACS: [256, "u16"],
  ACL: [258, "u8"],
  AERL: [259, "u8"],
  FRMW: [260, "u8"],
  LPA: [261, "u8"],
  ELPE: [262, "u8"],
  NPSS: [263, "u8"],
  AVSCC: [264, "u8"],
  APSTA: [265, "u8"],
  WCTEMP: [266, "u16"],
  CCTEMP: [268, "u16"],
  MTFA: [270, "u16"],
  HMPRE: [272, "u32"],
  HMMIN: [276, "u32"],
  TNVMCAP: [280, "u128"],
  UNVMCAP: [296, "u128"],
  RPMBS: [312, "u32"],
  EDSTT: [316, "u16"],
  DSTO: [318, "u8"],
  FWUG: [319, "u8"],
  KAS: [320, "u16"],
  HCTMA: [322, "u16"],
  MNTMT: [324, "u16"],
  MXTMT: [326, "u16"],
  SANICAP: [328, "u32"],
  HMMINDS: [332, "u32"],
  HMMAXD: [336, "u16"],
  NSETIDMAX: [338, "u16"],
  ENDGIDMAX: [340, "u16"],
  ANATT: [342, "u8"],
  ANACAP: [343, "u8"],
  ANAGRPMAX: [344, "u32"],
  NANAGRPID: [348, "u32"],
  PELS: [352, "u32"],
  SQES: [512, "u8"],
  CQES: [513, "u8"],
  MAXCMD: [514, "u16"],
  NN: [516, "u32"],
  ONCS: [520, "u16"],
  FUSES: [522, "u16"],
  FNA: [524, "u8"],
  VWC: [525, "u8"],
  AWUN: [526, "u16"],
  AWUPF: [528, "u16"],
  ICSVSCC: [530, "u8"],
  NWPC: [531, "u8"],
  ACWU: [532, "u16"],
  CDFS: [534, "u16"],
  SGLS: [536, "u32"],
  MNAN: [540, "u32"],
  SUBNQN: [768, "text", 256],
  PSD: [2048, "bytes", 1024],
} as const;
/** Identify controller (CNS 01h), base figure 275. */
export const IdentifyController: Struct<LayoutValue<typeof identifyControllerMembers>> = layout(
  "identify controller",
  4096,
  identifyControllerMembers,
);
export type IdentifyController = LayoutValue<typeof identifyControllerMembers>;

const oncsBits = {
  COMPARE: [0],
  WRITE_UNCORRECTABLE: [1],
  DATASET_MANAGEMENT: [2],
  WRITE_ZEROES: [3],
  SAVE_FEATURES: [4],
  RESERVATIONS: [5],
  TIMESTAMP: [6],
  VERIFY: [7],
  COPY: [8],
} as const;
/** Optional NVM command support, ONCS. */
export const Oncs: Fields<typeof oncsBits> = fields(oncsBits);
const oacsBits = {
  SECURITY: [0],
  FORMAT: [1],
  FIRMWARE: [2],
  NAMESPACE_MANAGEMENT: [3],
  SELF_TEST: [4],
  DOORBELL_BUFFER: [8],
} as const;
/** Optional admin command support, OACS. */
export const Oacs: Fields<typeof oacsBits> = fields(oacsBits);
const sglsBits = { SUPPORT: [0, 2], KEYED: [2], BIT_BUCKET: [16] } as const;
/** SGL support, SGLS. `SUPPORT` 0: none, 1: any alignment, 2: dword aligned. */
export const Sgls: Fields<typeof sglsBits> = fields(sglsBits);
const vwcBits = { PRESENT: [0] } as const;
/** Volatile write cache, VWC. */
export const Vwc: Fields<typeof vwcBits> = fields(vwcBits);
const oaesBits = { NAMESPACE_ATTRIBUTES: [8], FIRMWARE_ACTIVATION: [9] } as const;
/** Optional asynchronous events, OAES. */
export const Oaes: Fields<typeof oaesBits> = fields(oaesBits);

const lbaFormatBits = { MS: [0, 16], LBADS: [16, 8], RP: [24, 2] } as const;
/** An LBA format, NVM command set 1.0, figure 98: metadata bytes, log2 of the block size, relative performance. */
export const LbaFormat: Fields<typeof lbaFormatBits> = fields(lbaFormatBits);

const identifyNamespaceMembers = {
  NSZE: [0, "u64"],
  NCAP: [8, "u64"],
  NUSE: [16, "u64"],
  NSFEAT: [24, "u8"],
  NLBAF: [25, "u8"],
  FLBAS: [26, "u8"],
  MC: [27, "u8"],
  DPC: [28, "u8"],
  DPS: [29, "u8"],
  NMIC: [30, "u8"],
  RESCAP: [31, "u8"],
  FPI: [32, "u8"],
  DLFEAT: [33, "u8"],
  NAWUN: [34, "u16"],
  NAWUPF: [36, "u16"],
  NACWU: [38, "u16"],
  NABSN: [40, "u16"],
  NABO: [42, "u16"],
  NABSPF: [44, "u16"],
  NOIOB: [46, "u16"],
  NVMCAP: [48, "u128"],
  NPWG: [64, "u16"],
  NPWA: [66, "u16"],
  NPDG: [68, "u16"],
  NPDA: [70, "u16"],
  NOWS: [72, "u16"],
  MSSRL: [74, "u16"],
  MCL: [76, "u32"],
  MSRC: [80, "u8"],
  ANAGRPID: [92, "u32"],
  NSATTR: [99, "u8"],
  NVMSETID: [100, "u16"],
  ENDGID: [102, "u16"],
  NGUID: [104, "bytes", 16],
  EUI64: [120, "bytes", 8],
  LBAF: [128, "u32", 64],
} as const;
/** Identify namespace (CNS 00h), NVM command set 1.0, figure 97. */
export const IdentifyNamespace: Struct<LayoutValue<typeof identifyNamespaceMembers>> = layout(
  "identify namespace",
  4096,
  identifyNamespaceMembers,
);
export type IdentifyNamespace = LayoutValue<typeof identifyNamespaceMembers>;
const flbasBits = { LSB: [0, 4], EXTENDED: [4], MSB: [5, 2] } as const;
/** FLBAS: the format in use is MSB:LSB (bits 6:5 and 3:0); EXTENDED: metadata follows each block's data. */
export const Flbas: Fields<typeof flbasBits> = fields(flbasBits);

const independentNamespaceMembers = {
  NSFEAT: [0, "u8"],
  NMIC: [1, "u8"],
  RESCAP: [2, "u8"],
  FPI: [3, "u8"],
  ANAGRPID: [4, "u32"],
  NSATTR: [8, "u8"],
  NVMSETID: [10, "u16"],
  ENDGID: [12, "u16"],
  NSTAT: [14, "u8"],
} as const;
/** Identify namespace independent of the command set (CNS 08h), base figure 280. NSTAT bit 0: ready. */
export const IndependentNamespace: Struct<LayoutValue<typeof independentNamespaceMembers>> = layout(
  "I/O command set independent identify namespace",
  4096,
  independentNamespaceMembers,
);
export type IndependentNamespace = LayoutValue<typeof independentNamespaceMembers>;

const nvmControllerMembers = {
  VSL: [0, "u8"],
  WZSL: [1, "u8"],
  WUSL: [2, "u8"],
  DMRL: [3, "u8"],
  DMRSL: [4, "u32"],
  DMSL: [8, "u64"],
} as const;
/** Identify controller of the NVM command set (CNS 06h, CSI 00h), NVM command set 1.0, figure 100. 0: no limit. */
export const NvmController: Struct<LayoutValue<typeof nvmControllerMembers>> = layout(
  "NVM command set identify controller",
  4096,
  nvmControllerMembers,
);
export type NvmController = LayoutValue<typeof nvmControllerMembers>;

const namespaceListMembers = { NSID: [0, "u32", 1024] } as const;
/** A list of active namespace ids (CNS 02h): 1024 ids, ascending, ended by 0. Base section 5.17.2.2. */
export const NamespaceList: Struct<LayoutValue<typeof namespaceListMembers>> = layout(
  "namespace list",
  4096,
  namespaceListMembers,
);
export type NamespaceList = LayoutValue<typeof namespaceListMembers>;

const namespaceDescriptorMembers = { NIDT: [0, "u8"], NIDL: [1, "u8"] } as const;
/** Header of a namespace identification descriptor (CNS 03h), base figure 277; `NIDL` bytes follow. */
export const NamespaceDescriptor: Struct<LayoutValue<typeof namespaceDescriptorMembers>> = layout(
  "namespace descriptor",
  4,
  namespaceDescriptorMembers,
);
export type NamespaceDescriptor = LayoutValue<typeof namespaceDescriptorMembers>;
/** Values of NIDT. */
export const NamespaceDescriptorKind = { EUI64: 1, NGUID: 2, UUID: 3, COMMAND_SET: 4 } as const;

const healthLogMembers = {
  CRITICAL_WARNING: [0, "u8"],
  COMPOSITE_TEMPERATURE: [1, "u16"],
  AVAILABLE_SPARE: [3, "u8"],
  AVAILABLE_SPARE_THRESHOLD: [4, "u8"],
  PERCENTAGE_USED: [5, "u8"],
  ENDURANCE_GROUP_WARNING: [6, "u8"],
  DATA_UNITS_READ: [32, "u128"],
  DATA_UNITS_WRITTEN: [48, "u128"],
  HOST_READ_COMMANDS: [64, "u128"],
  HOST_WRITE_COMMANDS: [80, "u128"],
  CONTROLLER_BUSY_TIME: [96, "u128"],
  POWER_CYCLES: [112, "u128"],
  POWER_ON_HOURS: [128, "u128"],
  UNSAFE_SHUTDOWNS: [144, "u128"],
  MEDIA_ERRORS: [160, "u128"],
  ERROR_LOG_ENTRIES: [176, "u128"],
  WARNING_TEMPERATURE_TIME: [192, "u32"],
  CRITICAL_TEMPERATURE_TIME: [196, "u32"],
  TEMPERATURE_SENSORS: [200, "u16", 8],
  THERMAL1_TRANSITIONS: [216, "u32"],
  THERMAL2_TRANSITIONS: [220, "u32"],
  THERMAL1_TIME: [224, "u32"],
  THERMAL2_TIME: [228, "u32"],
} as const;
/** SMART / health information (log 02h), base figure 207. Temperatures in kelvin; data units of 512,000 bytes. */
export const HealthLog: Struct<LayoutValue<typeof healthLogMembers>> = layout("SMART log", 512, healthLogMembers);
export type HealthLog = LayoutValue<typeof healthLogMembers>;

const errorLogEntryMembers = {
  ERROR_COUNT: [0, "u64"],
  SQID: [8, "u16"],
  CID: [10, "u16"],
  STATUS_FIELD: [12, "u16"],
  PARAMETER_LOCATION: [14, "u16"],
  LBA: [16, "u64"],
  NSID: [24, "u32"],
  VENDOR: [28, "u8"],
  TRTYPE: [29, "u8"],
  COMMAND_SPECIFIC: [32, "u64"],
  TRANSPORT_SPECIFIC: [40, "u16"],
} as const;
/** An entry of the error information log (log 01h), base figure 206. `STATUS_FIELD` has the phase in bit 0. */
export const ErrorLogEntry: Struct<LayoutValue<typeof errorLogEntryMembers>> = layout(
  "error log entry",
  64,
  errorLogEntryMembers,
);
export type ErrorLogEntry = LayoutValue<typeof errorLogEntryMembers>;

const firmwareLogMembers = { AFI: [0, "u8"], FRS: [8, "bytes", 56] } as const;
/** Firmware slot information (log 03h), base figure 208. AFI bits 2:0: active slot, bits 6:4: next. */
export const FirmwareLog: Struct<LayoutValue<typeof firmwareLogMembers>> = layout(
  "firmware slot log",
  512,
  firmwareLogMembers,
);
export type FirmwareLog = LayoutValue<typeof firmwareLogMembers>;

const datasetRangeMembers = { ATTRIBUTES: [0, "u32"], LENGTH: [4, "u32"], SLBA: [8, "u64"] } as const;
/** A range of dataset management, NVM command set 1.0, figure 37. */
export const DatasetRange: Struct<LayoutValue<typeof datasetRangeMembers>> = layout(
  "dataset range",
  16,
  datasetRangeMembers,
);
export type DatasetRange = LayoutValue<typeof datasetRangeMembers>;

const sglDescriptorMembers = { ADDRESS: [0, "u64"], LENGTH: [8, "u32"], KIND: [15, "u8"] } as const;
/** An SGL descriptor, base section 4.1.2.1; `KIND`: type in bits 7:4, sub type in bits 3:0. */
export const SglDescriptor: Struct<LayoutValue<typeof sglDescriptorMembers>> = layout(
  "SGL descriptor",
  16,
  sglDescriptorMembers,
);
export type SglDescriptor = LayoutValue<typeof sglDescriptorMembers>;
/** SGL descriptor types with sub type 0 (address), as the `KIND` byte. */
export const SglKind = { DATA_BLOCK: 0x00, BIT_BUCKET: 0x10, SEGMENT: 0x20, LAST_SEGMENT: 0x30 } as const;

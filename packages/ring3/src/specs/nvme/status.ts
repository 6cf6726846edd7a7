// Status codes of completions and their names: NVMe base 2.0, section 3.3.3.2.1; NVM command set 1.0, section 2.1 (figures 20-22).
// A status is kept as one number: status code type in bits 10:8, status code in bits 7:0.

/** Status code types, base figure 93. */
export const StatusType = { GENERIC: 0, COMMAND_SPECIFIC: 1, MEDIA: 2, PATH: 3, VENDOR: 7 } as const;

/** Bits of the status field above a status value: more is in the error log; the same command would fail again. */
export const StatusFlag = { MORE: 0x2000, DO_NOT_RETRY: 0x4000 } as const;

/** Status values (`type << 8 | code`) that drivers act on or name. */
export const Status = {
  SUCCESS: 0x000,
  INVALID_OPCODE: 0x001,
  INVALID_FIELD: 0x002,
  COMMAND_ID_CONFLICT: 0x003,
  DATA_TRANSFER_ERROR: 0x004,
  ABORTED_POWER_LOSS: 0x005,
  INTERNAL_ERROR: 0x006,
  ABORT_REQUESTED: 0x007,
  ABORTED_QUEUE_DELETION: 0x008,
  ABORTED_FAILED_FUSED: 0x009,
  ABORTED_MISSING_FUSED: 0x00a,
  INVALID_NAMESPACE: 0x00b,
  COMMAND_SEQUENCE_ERROR: 0x00c,
  INVALID_SGL_SEGMENT: 0x00d,
  INVALID_SGL_COUNT: 0x00e,
  DATA_SGL_LENGTH: 0x00f,
  METADATA_SGL_LENGTH: 0x010,
  SGL_TYPE: 0x011,
  INVALID_CMB_USE: 0x012,
  INVALID_PRP_OFFSET: 0x013,
  ATOMIC_WRITE_UNIT: 0x014,
  OPERATION_DENIED: 0x015,
  SGL_OFFSET: 0x016,
  HOST_ID_FORMAT: 0x018,
  KEEP_ALIVE_EXPIRED: 0x019,
  KEEP_ALIVE_INVALID: 0x01a,
  ABORTED_PREEMPT: 0x01b,
  SANITIZE_FAILED: 0x01c,
  SANITIZE_IN_PROGRESS: 0x01d,
  SGL_GRANULARITY: 0x01e,
  NAMESPACE_WRITE_PROTECTED: 0x020,
  COMMAND_INTERRUPTED: 0x021,
  TRANSIENT_TRANSPORT: 0x022,
  LBA_OUT_OF_RANGE: 0x080,
  CAPACITY_EXCEEDED: 0x081,
  NAMESPACE_NOT_READY: 0x082,
  RESERVATION_CONFLICT: 0x083,
  FORMAT_IN_PROGRESS: 0x084,
  COMPLETION_QUEUE_INVALID: 0x100,
  INVALID_QUEUE_ID: 0x101,
  INVALID_QUEUE_SIZE: 0x102,
  ABORT_LIMIT: 0x103,
  ASYNCHRONOUS_EVENT_LIMIT: 0x105,
  INVALID_FIRMWARE_SLOT: 0x106,
  INVALID_FIRMWARE_IMAGE: 0x107,
  INVALID_INTERRUPT_VECTOR: 0x108,
  INVALID_LOG_PAGE: 0x109,
  INVALID_FORMAT: 0x10a,
  INVALID_QUEUE_DELETION: 0x10c,
  FEATURE_NOT_SAVEABLE: 0x10d,
  FEATURE_NOT_CHANGEABLE: 0x10e,
  FEATURE_NOT_NAMESPACE_SPECIFIC: 0x10f,
  OVERLAPPING_RANGE: 0x114,
  COMMAND_SET_NOT_SUPPORTED: 0x129,
  COMMAND_SET_NOT_ENABLED: 0x12a,
  COMMAND_SET_COMBINATION_REJECTED: 0x12b,
  INVALID_COMMAND_SET: 0x12c,
  CONFLICTING_ATTRIBUTES: 0x180,
  INVALID_PROTECTION: 0x181,
  READ_ONLY_RANGE: 0x182,
  WRITE_FAULT: 0x280,
  UNRECOVERED_READ: 0x281,
  GUARD_CHECK: 0x282,
  APPLICATION_TAG_CHECK: 0x283,
  REFERENCE_TAG_CHECK: 0x284,
  COMPARE_FAILURE: 0x285,
  ACCESS_DENIED: 0x286,
  UNWRITTEN_BLOCK: 0x287,
} as const;

const names: ReadonlyMap<number, string> = new Map(Object.entries(Status).map(([name, value]) => [value, name]));
const typeNames = ["generic", "command specific", "media", "path", undefined, undefined, undefined, "vendor specific"];

/** The name of a status (`type << 8 | code`), or its type and code in hex where it has none here. */
export function statusName(status: number): string {
  const type = typeNames[(status >>> 8) & 7] ?? `type ${(status >>> 8) & 7}`;
  return names.get(status & 0x7ff) ?? `${type} status 0x${(status & 0xff).toString(16).padStart(2, "0")}`;
}

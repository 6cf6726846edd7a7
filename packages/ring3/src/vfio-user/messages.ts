// The messages of vfio-user as its specification lays them out (QEMU, docs/interop/vfio-user.rst): header, commands, flags
// and payloads. Host byte order, which is little endian on every system that ring3 runs on. Offsets of payloads are from
// the end of the header. Where peers differ from the text, the comment names them.
import { type Struct, struct, u16, u32, u64 } from "../binary/struct.ts";

/** Command numbers. 14 was DIRTY_PAGES in an earlier text and is refused. */
export const Command = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;
export type CommandName = keyof typeof Command;

const COMMAND_NAMES = new Map<number, CommandName>();
for (const [name, number] of Object.entries(Command)) COMMAND_NAMES.set(number, name as CommandName);

/** `REGION_READ` for 9; `command 99` for a number that the specification does not have. */
export function commandName(command: number): string {
  return COMMAND_NAMES.get(command) ?? `command ${command}`;
}

export const HEADER_SIZE = 16;
/** Where the header's members lie, for hot paths. */
export const HeaderOffset = { MESSAGE_ID: 0, COMMAND: 2, SIZE: 4, FLAGS: 8, ERROR: 12 } as const;

interface Header {
  /** Belongs to the sender: it may repeat, also while in use (SPDK sends 0 always). */
  message_id: number;
  command: number;
  /** Of the whole message, header included. */
  size: number;
  flags: number;
  /** An errno in a reply with the Error flag; reserved in a command. */
  error: number;
}
export const Header: Struct<Header> = struct("vfio_user_header", HEADER_SIZE, {
  message_id: [0, u16],
  command: [2, u16],
  size: [4, u32],
  flags: [8, u32],
  error: [12, u32],
});

/** Bits of the header's flags. The lowest four hold the type: 0 command, 1 reply; all others are reserved. */
export const HeaderFlag = { TYPE_MASK: 0xf, COMMAND: 0, REPLY: 1, NO_REPLY: 0x10, ERROR: 0x20 } as const;

/** The versions that ring3 speaks: major must match, the lower minor of both counts. */
export const VERSION_MAJOR = 0;
export const VERSION_MINOR = 1;

/** What holds where a VERSION message does not name the capability. */
export const DefaultCapability = {
  max_msg_fds: 1,
  max_data_xfer_size: 1_048_576,
  max_dma_maps: 65_535,
  pgsizes: 4096,
} as const;

/** The JSON of a VERSION message's `capabilities`. All of it is optional. */
export interface Capabilities {
  readonly max_msg_fds?: number;
  readonly max_data_xfer_size?: number;
  readonly max_dma_maps?: number;
  readonly pgsizes?: number;
  readonly twin_socket?: { readonly supported?: boolean; readonly fd_index?: number };
  readonly write_multiple?: boolean;
  /** ring3's own: a server that says `false` to a client that proposes it wants to answer each write to a BAR. */
  readonly posted_writes?: boolean;
  /** ring3's own: a client that proposes it takes a sentence as the payload of the error that VERSION is answered with. */
  readonly refusal_text?: boolean;
  /**
   * ring3's own: a client says `true` if it knows that others may use the function besides, and a server that lets them answers with how
   * many have it now, this one included.
   */
  readonly openings?: boolean | number;
}

/** JSON `{"capabilities": {...}}` with a terminating NUL may follow. */
export const Version: Struct<{ major: number; minor: number }> = struct("vfio_user_version", 4, {
  major: [0, u16],
  minor: [2, u16],
});

export const DmaMapFlag = { READABLE: 1, WRITEABLE: 2 } as const;
/** No payload in the reply. */
export const DmaMap: Struct<{ argsz: number; flags: number; offset: bigint; address: bigint; size: bigint }> = struct(
  "vfio_user_dma_map",
  32,
  { argsz: [0, u32], flags: [4, u32], offset: [8, u64], address: [16, u64], size: [24, u64] },
);

/** The text calls the flags unused; QEMU and libvfio-user use these. */
export const DmaUnmapFlag = { GET_DIRTY_BITMAP: 1, ALL: 2 } as const;
/** With GET_DIRTY_BITMAP a {@link DmaBitmap} follows, in the reply with the bitmap behind it. The reply repeats the request. */
export const DmaUnmap: Struct<{ argsz: number; flags: number; address: bigint; size: bigint }> = struct(
  "vfio_user_dma_unmap",
  24,
  { argsz: [0, u32], flags: [4, u32], address: [8, u64], size: [16, u64] },
);
/** `size` is the bitmap's, in bytes, and a multiple of eight. */
export const DmaBitmap: Struct<{ pgsize: bigint; size: bigint }> = struct("vfio_user_bitmap", 16, {
  pgsize: [0, u64],
  size: [8, u64],
});

export const DeviceFlag = { RESET: 1, PCI: 2 } as const;
export const DeviceInfo: Struct<{ argsz: number; flags: number; num_regions: number; num_irqs: number }> = struct(
  "vfio_user_device_info",
  16,
  { argsz: [0, u32], flags: [4, u32], num_regions: [8, u32], num_irqs: [12, u32] },
);

/** Region indexes of a PCI device; 0 to 5 are its BARs. */
export const Region = { BAR0: 0, BAR5: 5, ROM: 6, CONFIG: 7, VGA: 8 } as const;
export const REGION_COUNT = 9;

export const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** Offsets of capabilities are from the start of this structure. */
export const RegionInfo: Struct<{
  argsz: number;
  flags: number;
  index: number;
  cap_offset: number;
  size: bigint;
  offset: bigint;
}> = struct("vfio_region_info", 32, {
  argsz: [0, u32],
  flags: [4, u32],
  index: [8, u32],
  cap_offset: [12, u32],
  size: [16, u64],
  offset: [24, u64],
});

export const RegionCapability = { SPARSE_MMAP: 1, TYPE: 2, MSIX_MAPPABLE: 3 } as const;
export const RegionCapabilityHeader: Struct<{ id: number; version: number; next: number }> = struct(
  "vfio_info_cap_header",
  8,
  { id: [0, u16], version: [2, u16], next: [4, u32] },
);
/** With its header; `nr_areas` areas follow. */
export const SparseMmap: Struct<{ id: number; version: number; next: number; nr_areas: number; reserved: number }> =
  struct("vfio_region_info_cap_sparse_mmap", 16, {
    id: [0, u16],
    version: [2, u16],
    next: [4, u32],
    nr_areas: [8, u32],
    reserved: [12, u32],
  });
/** `offset` is from the region's start; the file's offset is the region info's `offset` plus this. */
export const SparseMmapArea: Struct<{ offset: bigint; size: bigint }> = struct("vfio_region_sparse_mmap_area", 16, {
  offset: [0, u64],
  size: [8, u64],
});

/** `count` sub-regions follow in the reply. */
export const RegionIoFds: Struct<{ argsz: number; flags: number; index: number; count: number }> = struct(
  "vfio_user_region_io_fds",
  16,
  { argsz: [0, u32], flags: [4, u32], index: [8, u32], count: [12, u32] },
);
/** IOEVENTFD_SHADOW is libvfio-user's: the value written also goes to shared memory. */
export const IoFdType = { IOEVENTFD: 0, IOREGIONFD: 1, IOEVENTFD_SHADOW: 2 } as const;
export const IoEventFdFlag = { DATAMATCH: 1, PIO: 2 } as const;
/** An entry as the specification has it. Entries lie (argsz - 16) / count bytes apart, which need not be 40. */
export const SubRegionIoEventFd: Struct<{
  offset: bigint;
  size: bigint;
  fd_index: number;
  type: number;
  flags: number;
  datamatch: bigint;
}> = struct("vfio_user_sub_region_ioeventfd", 40, {
  offset: [0, u64],
  size: [8, u64],
  fd_index: [16, u32],
  type: [20, u32],
  flags: [24, u32],
  datamatch: [32, u64],
});
/**
 * An entry as libvfio-user and cloud-hypervisor have it, for every type. Ours are these, with `datamatch` also at 32 where
 * there is no shadow, so that readers of either text understand them.
 */
export const SubRegionIoEventFdShadow: Struct<{
  offset: bigint;
  size: bigint;
  fd_index: number;
  type: number;
  flags: number;
  shadow_mem_fd_index: number;
  shadow_offset: bigint;
  datamatch: bigint;
}> = struct("vfio_user_sub_region_ioeventfd_shadow", 48, {
  offset: [0, u64],
  size: [8, u64],
  fd_index: [16, u32],
  type: [20, u32],
  flags: [24, u32],
  shadow_mem_fd_index: [28, u32],
  shadow_offset: [32, u64],
  datamatch: [40, u64],
});

/** Interrupt indexes of a PCI device. */
export const Irq = { INTX: 0, MSI: 1, MSIX: 2, ERROR: 3, REQUEST: 4 } as const;
export const IRQ_COUNT = 5;
export const IrqFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;
export const IrqInfo: Struct<{ argsz: number; flags: number; index: number; count: number }> = struct(
  "vfio_irq_info",
  16,
  { argsz: [0, u32], flags: [4, u32], index: [8, u32], count: [12, u32] },
);

/** `SET_IRQS` flags: one DATA and one ACTION. */
export const IrqSetFlag = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 0x10,
  ACTION_TRIGGER: 0x20,
  DATA_MASK: 0x07,
  ACTION_MASK_BITS: 0x38,
} as const;
/** DATA_BOOL bytes follow; eventfds travel beside the message. No payload in the reply. */
export const IrqSet: Struct<{ argsz: number; flags: number; index: number; start: number; count: number }> = struct(
  "vfio_irq_set",
  20,
  { argsz: [0, u32], flags: [4, u32], index: [8, u32], start: [12, u32], count: [16, u32] },
);

/** REGION_READ and REGION_WRITE, both ways; `count` bytes of data follow in a write and in a read's reply. */
export const RegionAccess: Struct<{ offset: bigint; region: number; count: number }> = struct(
  "vfio_user_region_access",
  16,
  { offset: [0, u64], region: [8, u32], count: [12, u32] },
);
export const RegionAccessOffset = { OFFSET: 0, REGION: 8, COUNT: 12, DATA: 16 } as const;

/** `wr_cnt` writes of {@link MultiWrite} follow; the reply is this alone. */
export const RegionWriteMulti: Struct<{ wr_cnt: bigint }> = struct("vfio_user_write_multi", 8, { wr_cnt: [0, u64] });
/** Up to eight bytes of data lie at 16, always with room for eight. */
export const MultiWrite: Struct<{ offset: bigint; region: number; count: number; data: bigint }> = struct(
  "vfio_user_write_single",
  24,
  { offset: [0, u64], region: [8, u32], count: [12, u32], data: [16, u64] },
);

/**
 * DMA_READ and DMA_WRITE, both ways; data follows in a write and in a read's reply. The specification draws `count` of the
 * write's reply with four bytes; libvfio-user has eight everywhere. QEMU up to 10.2 has {@link DmaAccess32}.
 */
export const DmaAccess: Struct<{ address: bigint; count: bigint }> = struct("vfio_user_dma_region_access", 16, {
  address: [0, u64],
  count: [8, u64],
});
export const DmaAccess32: Struct<{ address: bigint; count: number }> = struct("VFIOUserDMARW", 12, {
  address: [0, u64],
  count: [8, u32],
});

/** Bits of DEVICE_FEATURE's flags; the lowest 16 hold the feature's number. */
export const FeatureFlag = { MASK: 0xffff, GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000 } as const;
export const Feature = {
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
} as const;
/** The feature's data follows. */
export const DeviceFeature: Struct<{ argsz: number; flags: number }> = struct("vfio_device_feature", 8, {
  argsz: [0, u32],
  flags: [4, u32],
});

export const MigrationFlag = { STOP_COPY: 1n, P2P: 2n, PRE_COPY: 4n } as const;
export const FeatureMigration: Struct<{ flags: bigint }> = struct("vfio_device_feature_migration", 8, {
  flags: [0, u64],
});
export const MigrationState = {
  ERROR: 0,
  STOP: 1,
  RUNNING: 2,
  STOP_COPY: 3,
  RESUMING: 4,
  RUNNING_P2P: 5,
  PRE_COPY: 6,
  PRE_COPY_P2P: 7,
} as const;
/** `data_fd` is unused: MIG_DATA_READ and MIG_DATA_WRITE carry the data. */
export const FeatureMigrationState: Struct<{ device_state: number; data_fd: number }> = struct(
  "vfio_device_feature_mig_state",
  8,
  { device_state: [0, u32], data_fd: [4, u32] },
);
/** `num_ranges` ranges follow; none: everything. */
export const FeatureDmaLoggingStart: Struct<{ page_size: bigint; num_ranges: number; reserved: number }> = struct(
  "vfio_device_feature_dma_logging_control",
  16,
  { page_size: [0, u64], num_ranges: [8, u32], reserved: [12, u32] },
);
export const DmaLoggingRange: Struct<{ iova: bigint; length: bigint }> = struct(
  "vfio_device_feature_dma_logging_range",
  16,
  { iova: [0, u64], length: [8, u64] },
);
/** The bitmap follows in the reply, a bit a page, whole groups of eight bytes. */
export const FeatureDmaLoggingReport: Struct<{ iova: bigint; length: bigint; page_size: bigint }> = struct(
  "vfio_device_feature_dma_logging_report",
  24,
  { iova: [0, u64], length: [8, u64], page_size: [16, u64] },
);

/** MIG_DATA_READ both ways and the request of MIG_DATA_WRITE, whose reply has no payload. Data follows. */
export const MigrationData: Struct<{ argsz: number; size: number }> = struct("vfio_user_mig_data", 8, {
  argsz: [0, u32],
  size: [4, u32],
});

/** Numbers of the errors that replies carry (asm-generic/errno*.h). */
export const WireErrno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  ERANGE: 34,
  ENOSYS: 38,
  EPROTO: 71,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
} as const;

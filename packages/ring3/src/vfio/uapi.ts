// Numbers of Linux's VFIO and iommufd interfaces (include/uapi/linux/vfio.h and iommufd.h). The hard part: a number means
// something else on another kind of file (3B71 is hot reset on a device, MAP_DMA on a container), so there is one table
// for each kind of file and every call names its table.

/** Calls on `/dev/vfio/vfio` and on the type1 IOMMU behind it. */
export const ContainerCall = {
  GET_API_VERSION: 0x3b64,
  CHECK_EXTENSION: 0x3b65,
  SET_IOMMU: 0x3b66,
  IOMMU_GET_INFO: 0x3b70,
  IOMMU_MAP_DMA: 0x3b71,
  IOMMU_UNMAP_DMA: 0x3b72,
  IOMMU_DIRTY_PAGES: 0x3b75,
} as const;

/** Calls on `/dev/vfio/<group>`. */
export const GroupCall = {
  GET_STATUS: 0x3b67,
  SET_CONTAINER: 0x3b68,
  UNSET_CONTAINER: 0x3b69,
  GET_DEVICE_FD: 0x3b6a,
} as const;

/** Calls on a device, whether it came from a group or from `/dev/vfio/devices/vfioN`. */
export const DeviceCall = {
  GET_INFO: 0x3b6b,
  GET_REGION_INFO: 0x3b6c,
  GET_IRQ_INFO: 0x3b6d,
  SET_IRQS: 0x3b6e,
  RESET: 0x3b6f,
  GET_PCI_HOT_RESET_INFO: 0x3b70,
  PCI_HOT_RESET: 0x3b71,
  IOEVENTFD: 0x3b74,
  FEATURE: 0x3b75,
  BIND_IOMMUFD: 0x3b76,
  ATTACH_IOMMUFD_PT: 0x3b77,
  DETACH_IOMMUFD_PT: 0x3b78,
} as const;

/** Calls on the data file of a migration. */
export const MigrationCall = { GET_PRECOPY_INFO: 0x3b79 } as const;

/** Calls on `/dev/iommu`. */
export const IommufdCall = {
  DESTROY: 0x3b80,
  IOAS_ALLOC: 0x3b81,
  IOAS_ALLOW_IOVAS: 0x3b82,
  IOAS_COPY: 0x3b83,
  IOAS_IOVA_RANGES: 0x3b84,
  IOAS_MAP: 0x3b85,
  IOAS_UNMAP: 0x3b86,
  OPTION: 0x3b87,
  VFIO_IOAS: 0x3b88,
  HWPT_ALLOC: 0x3b89,
  GET_HW_INFO: 0x3b8a,
  HWPT_SET_DIRTY_TRACKING: 0x3b8b,
  HWPT_GET_DIRTY_BITMAP: 0x3b8c,
} as const;

/** Arguments of `CHECK_EXTENSION` and `SET_IOMMU`. Type1 without "v2" splits mappings on unmap and is never used. */
export const Extension = {
  TYPE1v2_IOMMU: 3,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
} as const;

export const GroupFlag = { VIABLE: 1, CONTAINER_SET: 2 } as const;
export const DeviceFlag = { RESET: 1, PCI: 2, CAPS: 0x80 } as const;
export const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
export const IrqFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

/** `SET_IRQS` flags: one DATA and one ACTION. */
export const IrqSet = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 0x10,
  ACTION_TRIGGER: 0x20,
} as const;

/** Fixed region indexes of vfio-pci; from 9 on the TYPE capability says what a region is. */
export const RegionIndex = { BAR0: 0, BAR5: 5, ROM: 6, CONFIG: 7, VGA: 8 } as const;
export const IrqIndex = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
export type IrqIndex = (typeof IrqIndex)[keyof typeof IrqIndex];

/** Capability identifiers in a region's chain. */
export const RegionCapability = { SPARSE_MMAP: 1, TYPE: 2, MSIX_MAPPABLE: 3 } as const;
/** Capability identifiers in the type1 IOMMU's chain. */
export const IommuCapability = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;
export const IommuFlag = { PGSIZES: 1, CAPS: 2 } as const;

export const DmaMapFlag = { READ: 1, WRITE: 2 } as const;
export const DmaUnmapFlag = { GET_DIRTY_BITMAP: 1, ALL: 2 } as const;
export const DirtyPagesFlag = { START: 1, STOP: 2, GET_BITMAP: 4 } as const;

export const IoasMapFlag = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const;
export const HwptAllocFlag = { DIRTY_TRACKING: 2 } as const;
/** `GET_HW_INFO`: what the IOMMU behind a device can do. */
export const HardwareCapability = { DIRTY_TRACKING: 1n } as const;

export const HotResetInfoFlag = { DEVICE_ID: 1, DEVICE_ID_OWNED: 2 } as const;
/** In place of a device number: affected by the reset and owned, without a number here (0), or not owned (-1). */
export const HotResetDeviceId = { OWNED: 0, NOT_OWNED: 0xffff_ffff } as const;

export const IoeventfdWidth = { 1: 1, 2: 2, 4: 4, 8: 8 } as const;

export const BindFlag = { TOKEN: 1 } as const;

export const FeatureFlag = { MASK: 0xffff, GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000 } as const;
/** Features of a device, probed one by one. */
export const Feature = {
  PCI_VF_TOKEN: 0,
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  LOW_POWER_ENTRY: 3,
  LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  LOW_POWER_EXIT: 5,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
  MIG_DATA_SIZE: 9,
  BUS_MASTER: 10,
  DMA_BUF: 11,
} as const;
export type FeatureName = keyof typeof Feature;

export const MigrationFlag = { STOP_COPY: 1n, P2P: 2n, PRE_COPY: 4n } as const;
/** By value of `device_state`. */
export const migrationStates = [
  "error",
  "stop",
  "running",
  "stop-copy",
  "resuming",
  "running-p2p",
  "pre-copy",
  "pre-copy-p2p",
] as const;
export type MigrationState = (typeof migrationStates)[number];

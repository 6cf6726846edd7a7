// Structures of include/uapi/linux/vfio.h, each with the size that the header gives it. VFIO's carry `argsz`, the size of
// the caller's buffer; what is variable follows the fixed part.
import { i32, type Struct, struct, u8, u16, u32, u64 } from "../binary/struct.ts";

interface Header {
  argsz: number;
  flags: number;
}

export const CapabilityHeader: Struct<{ id: number; version: number; next: number }> = struct(
  "vfio_info_cap_header",
  8,
  {
    id: [0, u16],
    version: [2, u16],
    next: [4, u32],
  },
);

export const GroupStatus: Struct<Header> = struct("vfio_group_status", 8, { argsz: [0, u32], flags: [4, u32] });

export const DeviceInfo: Struct<Header & { num_regions: number; num_irqs: number; cap_offset: number }> = struct(
  "vfio_device_info",
  24,
  { argsz: [0, u32], flags: [4, u32], num_regions: [8, u32], num_irqs: [12, u32], cap_offset: [16, u32] },
);

export const RegionInfo: Struct<Header & { index: number; cap_offset: number; size: bigint; offset: bigint }> = struct(
  "vfio_region_info",
  32,
  { argsz: [0, u32], flags: [4, u32], index: [8, u32], cap_offset: [12, u32], size: [16, u64], offset: [24, u64] },
);

/** Offsets are from the capability's header. */
export const SparseMmap: Struct<{ nr_areas: number }> = struct("vfio_region_info_cap_sparse_mmap", 16, {
  nr_areas: [8, u32],
});
export const SparseMmapArea: Struct<{ offset: bigint; size: bigint }> = struct("vfio_region_sparse_mmap_area", 16, {
  offset: [0, u64],
  size: [8, u64],
});
export const RegionType: Struct<{ type: number; subtype: number }> = struct("vfio_region_info_cap_type", 16, {
  type: [8, u32],
  subtype: [12, u32],
});

export const IrqInfo: Struct<Header & { index: number; count: number }> = struct("vfio_irq_info", 16, {
  argsz: [0, u32],
  flags: [4, u32],
  index: [8, u32],
  count: [12, u32],
});

/** The data (nothing, bytes or eventfds) follows. */
export const IrqSetHeader: Struct<Header & { index: number; start: number; count: number }> = struct(
  "vfio_irq_set",
  20,
  {
    argsz: [0, u32],
    flags: [4, u32],
    index: [8, u32],
    start: [12, u32],
    count: [16, u32],
  },
);

export const HotResetInfo: Struct<Header & { count: number }> = struct("vfio_pci_hot_reset_info", 12, {
  argsz: [0, u32],
  flags: [4, u32],
  count: [8, u32],
});
/** `id` is the group's number, or the device's in iommufd where the info says so. */
export const DependentDevice: Struct<{ id: number; segment: number; bus: number; devfn: number }> = struct(
  "vfio_pci_dependent_device",
  8,
  { id: [0, u32], segment: [4, u16], bus: [6, u8], devfn: [7, u8] },
);
/** The group's fds (i32 each) follow. */
export const HotReset: Struct<Header & { count: number }> = struct("vfio_pci_hot_reset", 12, {
  argsz: [0, u32],
  flags: [4, u32],
  count: [8, u32],
});

export const Ioeventfd: Struct<Header & { offset: bigint; data: bigint; fd: number }> = struct(
  "vfio_device_ioeventfd",
  32,
  {
    argsz: [0, u32],
    flags: [4, u32],
    offset: [8, u64],
    data: [16, u64],
    fd: [24, i32],
  },
);

export const BindIommufd: Struct<Header & { iommufd: number; out_devid: number; token_uuid_ptr: bigint }> = struct(
  "vfio_device_bind_iommufd",
  24,
  { argsz: [0, u32], flags: [4, u32], iommufd: [8, i32], out_devid: [12, u32], token_uuid_ptr: [16, u64] },
);
/** Without the PASID member, which kernels before 6.15 do not know; `argsz` says so. */
export const AttachIommufdPt: Struct<Header & { pt_id: number }> = struct("vfio_device_attach_iommufd_pt", 12, {
  argsz: [0, u32],
  flags: [4, u32],
  pt_id: [8, u32],
});
/** A feature's data follows. */
export const DeviceFeature: Struct<Header> = struct("vfio_device_feature", 8, { argsz: [0, u32], flags: [4, u32] });
export const FeatureMigration: Struct<{ flags: bigint }> = struct("vfio_device_feature_migration", 8, {
  flags: [0, u64],
});
export const FeatureMigrationState: Struct<{ device_state: number; data_fd: number }> = struct(
  "vfio_device_feature_mig_state",
  8,
  { device_state: [0, u32], data_fd: [4, i32] },
);
export const FeatureMigrationDataSize: Struct<{ stop_copy_length: bigint }> = struct(
  "vfio_device_feature_mig_data_size",
  8,
  { stop_copy_length: [0, u64] },
);
/** `ranges` points at an array of {@link DmaLoggingRange}. */
export const FeatureDmaLoggingControl: Struct<{ page_size: bigint; num_ranges: number; ranges: bigint }> = struct(
  "vfio_device_feature_dma_logging_control",
  24,
  { page_size: [0, u64], num_ranges: [8, u32], ranges: [16, u64] },
);
export const DmaLoggingRange: Struct<{ iova: bigint; length: bigint }> = struct(
  "vfio_device_feature_dma_logging_range",
  16,
  { iova: [0, u64], length: [8, u64] },
);
export const FeatureDmaLoggingReport: Struct<{ iova: bigint; length: bigint; page_size: bigint; bitmap: bigint }> =
  struct("vfio_device_feature_dma_logging_report", 32, {
    iova: [0, u64],
    length: [8, u64],
    page_size: [16, u64],
    bitmap: [24, u64],
  });
/** {@link DmaBufRange}s follow. */
export const FeatureDmaBuf: Struct<{ region_index: number; open_flags: number; flags: number; nr_ranges: number }> =
  struct("vfio_device_feature_dma_buf", 16, {
    region_index: [0, u32],
    open_flags: [4, u32],
    flags: [8, u32],
    nr_ranges: [12, u32],
  });
export const DmaBufRange: Struct<{ offset: bigint; length: bigint }> = struct("vfio_region_dma_range", 16, {
  offset: [0, u64],
  length: [8, u64],
});

/** The type1 IOMMU. Old kernels fill the first 16 bytes only. */
export const Type1Info: Struct<Header & { iova_pgsizes: bigint; cap_offset: number }> = struct(
  "vfio_iommu_type1_info",
  24,
  {
    argsz: [0, u32],
    flags: [4, u32],
    iova_pgsizes: [8, u64],
    cap_offset: [16, u32],
  },
);
export const IovaRangeCapability: Struct<{ nr_iovas: number }> = struct("vfio_iommu_type1_info_cap_iova_range", 16, {
  nr_iovas: [8, u32],
});
export const IovaRange: Struct<{ start: bigint; end: bigint }> = struct("vfio_iova_range", 16, {
  start: [0, u64],
  end: [8, u64],
});
export const MigrationCapability: Struct<{ pgsize_bitmap: bigint; max_dirty_bitmap_size: bigint }> = struct(
  "vfio_iommu_type1_info_cap_migration",
  32,
  { pgsize_bitmap: [16, u64], max_dirty_bitmap_size: [24, u64] },
);
export const DmaAvailCapability: Struct<{ avail: number }> = struct("vfio_iommu_type1_info_dma_avail", 12, {
  avail: [8, u32],
});
export const Type1Map: Struct<Header & { vaddr: bigint; iova: bigint; size: bigint }> = struct(
  "vfio_iommu_type1_dma_map",
  32,
  { argsz: [0, u32], flags: [4, u32], vaddr: [8, u64], iova: [16, u64], size: [24, u64] },
);
export const Type1Unmap: Struct<Header & { iova: bigint; size: bigint }> = struct("vfio_iommu_type1_dma_unmap", 24, {
  argsz: [0, u32],
  flags: [4, u32],
  iova: [8, u64],
  size: [16, u64],
});
/** `vfio_iommu_type1_dirty_bitmap` with `vfio_iommu_type1_dirty_bitmap_get` as its data; START and STOP take the first 8 bytes. */
export const Type1DirtyBitmap: Struct<
  Header & { iova: bigint; size: bigint; pgsize: bigint; bitmapSize: bigint; data: bigint }
> = struct("vfio_iommu_type1_dirty_bitmap", 48, {
  argsz: [0, u32],
  flags: [4, u32],
  iova: [8, u64],
  size: [16, u64],
  pgsize: [24, u64],
  bitmapSize: [32, u64],
  data: [40, u64],
});

// Structures of include/uapi/linux/iommufd.h. Each begins with `size`; a tail that the kernel does not know must be zero
// (E2BIG), an unknown value is EOPNOTSUPP.
import { type Struct, struct, u32, u64 } from "../binary/struct.ts";

export const IoasAlloc: Struct<{ size: number; flags: number; out_ioas_id: number }> = struct("iommu_ioas_alloc", 12, {
  size: [0, u32],
  flags: [4, u32],
  out_ioas_id: [8, u32],
});
/** `allowed_iovas` points at an array of {@link IommuIovaRange}. */
export const IoasIovaRanges: Struct<{
  size: number;
  ioas_id: number;
  num_iovas: number;
  allowed_iovas: bigint;
  out_iova_alignment: bigint;
}> = struct("iommu_ioas_iova_ranges", 32, {
  size: [0, u32],
  ioas_id: [4, u32],
  num_iovas: [8, u32],
  allowed_iovas: [16, u64],
  out_iova_alignment: [24, u64],
});
export const IommuIovaRange: Struct<{ start: bigint; last: bigint }> = struct("iommu_iova_range", 16, {
  start: [0, u64],
  last: [8, u64],
});
export const IoasMap: Struct<{
  size: number;
  flags: number;
  ioas_id: number;
  user_va: bigint;
  length: bigint;
  iova: bigint;
}> = struct("iommu_ioas_map", 40, {
  size: [0, u32],
  flags: [4, u32],
  ioas_id: [8, u32],
  user_va: [16, u64],
  length: [24, u64],
  iova: [32, u64],
});
export const IoasUnmap: Struct<{ size: number; ioas_id: number; iova: bigint; length: bigint }> = struct(
  "iommu_ioas_unmap",
  24,
  { size: [0, u32], ioas_id: [4, u32], iova: [8, u64], length: [16, u64] },
);
export const HwptAlloc: Struct<{
  size: number;
  flags: number;
  dev_id: number;
  pt_id: number;
  out_hwpt_id: number;
}> = struct("iommu_hwpt_alloc", 48, {
  size: [0, u32],
  flags: [4, u32],
  dev_id: [8, u32],
  pt_id: [12, u32],
  out_hwpt_id: [16, u32],
});
export const HardwareInfo: Struct<{
  size: number;
  dev_id: number;
  data_len: number;
  data_uptr: bigint;
  out_data_type: number;
  out_capabilities: bigint;
}> = struct("iommu_hw_info", 40, {
  size: [0, u32],
  dev_id: [8, u32],
  data_len: [12, u32],
  data_uptr: [16, u64],
  out_data_type: [24, u32],
  out_capabilities: [32, u64],
});
export const HwptSetDirtyTracking: Struct<{ size: number; flags: number; hwpt_id: number }> = struct(
  "iommu_hwpt_set_dirty_tracking",
  16,
  { size: [0, u32], flags: [4, u32], hwpt_id: [8, u32] },
);
export const HwptGetDirtyBitmap: Struct<{
  size: number;
  hwpt_id: number;
  flags: number;
  iova: bigint;
  length: bigint;
  page_size: bigint;
  data: bigint;
}> = struct("iommu_hwpt_get_dirty_bitmap", 48, {
  size: [0, u32],
  hwpt_id: [4, u32],
  flags: [8, u32],
  iova: [16, u64],
  length: [24, u64],
  page_size: [32, u64],
  data: [40, u64],
});

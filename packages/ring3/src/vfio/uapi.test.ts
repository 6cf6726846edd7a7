import assert from "node:assert/strict";
import { test } from "node:test";
import { ContainerCall, DeviceCall, GroupCall, IommufdCall, MigrationCall } from "./uapi.ts";
import * as iommufd from "./uapi-iommufd.ts";
import * as vfio from "./uapi-structs.ts";

// Sizes and request numbers as a C compiler gives them for the kernel's headers (Linux 7.3, x86-64).
const sizes: Readonly<Record<string, number>> = {
  vfio_info_cap_header: 8,
  vfio_group_status: 8,
  vfio_device_info: 24,
  vfio_region_info: 32,
  vfio_region_info_cap_sparse_mmap: 16,
  vfio_region_sparse_mmap_area: 16,
  vfio_region_info_cap_type: 16,
  vfio_irq_info: 16,
  vfio_irq_set: 20,
  vfio_pci_hot_reset_info: 12,
  vfio_pci_dependent_device: 8,
  vfio_pci_hot_reset: 12,
  vfio_device_ioeventfd: 32,
  vfio_device_bind_iommufd: 24,
  vfio_device_feature: 8,
  vfio_device_feature_migration: 8,
  vfio_device_feature_mig_state: 8,
  vfio_device_feature_mig_data_size: 8,
  vfio_device_feature_dma_logging_control: 24,
  vfio_device_feature_dma_logging_range: 16,
  vfio_device_feature_dma_logging_report: 32,
  vfio_device_feature_dma_buf: 16,
  vfio_region_dma_range: 16,
  vfio_iommu_type1_info: 24,
  vfio_iommu_type1_info_cap_iova_range: 16,
  vfio_iova_range: 16,
  vfio_iommu_type1_info_cap_migration: 32,
  vfio_iommu_type1_info_dma_avail: 12,
  vfio_iommu_type1_dma_map: 32,
  vfio_iommu_type1_dma_unmap: 24,
  iommu_ioas_alloc: 12,
  iommu_ioas_iova_ranges: 32,
  iommu_iova_range: 16,
  iommu_ioas_map: 40,
  iommu_ioas_unmap: 24,
  iommu_hwpt_alloc: 48,
  iommu_hw_info: 40,
  iommu_hwpt_set_dirty_tracking: 16,
  iommu_hwpt_get_dirty_bitmap: 48,
};

test("structures have the sizes of the kernel's headers", () => {
  const structs = [...Object.values(vfio), ...Object.values(iommufd)];
  const ours = Object.fromEntries(structs.map(({ name, size }) => [name, size]));
  for (const [name, size] of Object.entries(sizes)) assert.equal(ours[name], size, name);
});

test("request numbers lie where each kind of file expects them", () => {
  assert.equal(ContainerCall.IOMMU_MAP_DMA, 0x3b71);
  assert.equal(DeviceCall.PCI_HOT_RESET, 0x3b71);
  assert.equal(GroupCall.GET_DEVICE_FD, 0x3b6a);
  assert.equal(MigrationCall.GET_PRECOPY_INFO, 0x3b79);
  assert.equal(IommufdCall.IOAS_MAP, 0x3b85);
  for (const table of [ContainerCall, GroupCall, DeviceCall, IommufdCall]) {
    assert.equal(new Set(Object.values(table)).size, Object.values(table).length);
  }
});

test("a map request has its members where the kernel reads them", () => {
  const bytes = vfio.Type1Map.bytes({ argsz: 32, flags: 3, vaddr: 0x1122_3344_5566n, iova: 0x1_0000n, size: 0x2000n });
  assert.equal(Buffer.from(bytes).toString("hex"), "2000000003000000665544332211000000000100000000000020000000000000");
});

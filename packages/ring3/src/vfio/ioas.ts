// An IO address space of iommufd (`/dev/iommu`). Dirty tracking belongs to the hardware page table, so a space that shall
// track attaches its devices through a table made for that.
import { Ring3Error } from "../binary/error.ts";
import { systemCallError } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { ioctl, tryIoctl } from "../linux/ioctl.ts";
import type { Pointable } from "../linux/pointers.ts";
import type { IovaRange } from "../memory/iova-allocator.ts";
import type { DmaPermission } from "../pci/function.ts";
import { trailingElements } from "./capability-chain.ts";
import { type DirtyPages, type Iommu, toExactRanges } from "./iommu.ts";
import { HardwareCapability, HwptAllocFlag, IoasMapFlag, IommufdCall } from "./uapi.ts";
import {
  HardwareInfo,
  HwptAlloc,
  HwptGetDirtyBitmap,
  HwptSetDirtyTracking,
  IoasAlloc,
  IoasIovaRanges,
  IoasMap,
  IoasUnmap,
  IommuIovaRange,
} from "./uapi-iommufd.ts";

const EMSGSIZE = 90;

const mapFlags: Readonly<Record<DmaPermission, number>> = {
  read: IoasMapFlag.READABLE,
  write: IoasMapFlag.WRITEABLE,
  "read-write": IoasMapFlag.READABLE | IoasMapFlag.WRITEABLE,
};

export class Ioas implements Iommu {
  readonly backend = "iommufd";
  readonly lockedCounter = "VmPin";
  readonly fd: FileDescriptor;
  readonly id: number;
  #alignment = 4096;
  /** The page table with dirty tracking, once a device was attached through it. */
  #hardwareTable: number | undefined;

  /** Takes over `fd`, an open `/dev/iommu`, and makes an empty address space in it. */
  constructor(fd: FileDescriptor) {
    this.fd = fd;
    const request = IoasAlloc.bytes({ size: IoasAlloc.size });
    ioctl(fd, "IOMMU_IOAS_ALLOC", IommufdCall.IOAS_ALLOC, request);
    this.id = IoasAlloc.from(request).out_ioas_id;
  }

  ranges(): readonly IovaRange[] {
    let count = 16;
    for (;;) {
      const array = new Uint8Array(count * IommuIovaRange.size);
      const request = IoasIovaRanges.bytes({ size: IoasIovaRanges.size, ioas_id: this.id, num_iovas: count });
      const pointer = { at: IoasIovaRanges.offsets.allowed_iovas, memory: array };
      const result = tryIoctl(this.fd, IommufdCall.IOAS_IOVA_RANGES, request, [pointer], "IOMMU_IOAS_IOVA_RANGES");
      const { num_iovas, out_iova_alignment } = IoasIovaRanges.from(request);
      if (result === -EMSGSIZE && num_iovas > count && num_iovas <= 65536) {
        count = num_iovas;
        continue;
      }
      if (result < 0) throw systemCallError("ioctl IOMMU_IOAS_IOVA_RANGES", -result);
      this.#alignment = Math.max(4096, Number(out_iova_alignment));
      const ranges = trailingElements(array, 0, IommuIovaRange, num_iovas);
      return toExactRanges(ranges.map(({ start, last }) => ({ first: start, last })));
    }
  }

  /** iommufd tells the smallest; larger ones are used where memory and IOVA are aligned to them. */
  pageSizes(): readonly number[] {
    return [this.#alignment];
  }

  mappingsLeft(): undefined {
    return undefined;
  }

  map(memory: Pointable, size: number, iova: number, permission: DmaPermission): void {
    const request = IoasMap.bytes({
      size: IoasMap.size,
      flags: IoasMapFlag.FIXED_IOVA | mapFlags[permission],
      ioas_id: this.id,
      length: BigInt(size),
      iova: BigInt(iova),
    });
    const pointer = { at: IoasMap.offsets.user_va, memory };
    ioctl(this.fd, "IOMMU_IOAS_MAP", IommufdCall.IOAS_MAP, request, [pointer]);
  }

  unmap(iova: number, size: number): void {
    const request = IoasUnmap.bytes({
      size: IoasUnmap.size,
      ioas_id: this.id,
      iova: BigInt(iova),
      length: BigInt(size),
    });
    ioctl(this.fd, "IOMMU_IOAS_UNMAP", IommufdCall.IOAS_UNMAP, request);
  }

  unmapEverything(): boolean {
    const request = IoasUnmap.bytes({ size: IoasUnmap.size, ioas_id: this.id, iova: 0n, length: 2n ** 64n - 1n });
    const result = tryIoctl(this.fd, IommufdCall.IOAS_UNMAP, request, [], "IOMMU_IOAS_UNMAP");
    return result >= 0;
  }

  /** What a device is attached to: the space itself, or a page table with dirty tracking made for `device`. */
  attachmentFor(device: number, trackDirtyPages: boolean): number {
    if (!trackDirtyPages) return this.id;
    if (this.#hardwareTable !== undefined) return this.#hardwareTable;
    if (!this.tracksDirtyPages(device)) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "the IOMMU of this machine cannot track dirty pages; open without trackDirtyPages",
      );
    }
    const request = HwptAlloc.bytes({
      size: HwptAlloc.size,
      flags: HwptAllocFlag.DIRTY_TRACKING,
      dev_id: device,
      pt_id: this.id,
    });
    ioctl(this.fd, "IOMMU_HWPT_ALLOC", IommufdCall.HWPT_ALLOC, request);
    this.#hardwareTable = HwptAlloc.from(request).out_hwpt_id;
    return this.#hardwareTable;
  }

  /** Whether the IOMMU behind `device` can track dirty pages. */
  tracksDirtyPages(device: number): boolean {
    const request = HardwareInfo.bytes({ size: HardwareInfo.size, dev_id: device });
    if (tryIoctl(this.fd, IommufdCall.GET_HW_INFO, request, [], "IOMMU_GET_HW_INFO") < 0) return false;
    return (HardwareInfo.from(request).out_capabilities & HardwareCapability.DIRTY_TRACKING) !== 0n;
  }

  get dirtyPages(): DirtyPages | undefined {
    const table = this.#hardwareTable;
    if (table === undefined) return undefined;
    const pageSize = this.#alignment;
    const track = (flags: number): void => {
      const request = HwptSetDirtyTracking.bytes({ size: HwptSetDirtyTracking.size, flags, hwpt_id: table });
      ioctl(this.fd, "IOMMU_HWPT_SET_DIRTY_TRACKING", IommufdCall.HWPT_SET_DIRTY_TRACKING, request);
    };
    return {
      pageSize,
      start: () => track(1),
      stop: () => track(0),
      read: (iova, size) => {
        const bitmap = new Uint8Array(Math.ceil(size / pageSize / 64) * 8);
        const request = HwptGetDirtyBitmap.bytes({
          size: HwptGetDirtyBitmap.size,
          hwpt_id: table,
          iova: BigInt(iova),
          length: BigInt(size),
          page_size: BigInt(pageSize),
        });
        const pointer = { at: HwptGetDirtyBitmap.offsets.data, memory: bitmap };
        ioctl(this.fd, "IOMMU_HWPT_GET_DIRTY_BITMAP", IommufdCall.HWPT_GET_DIRTY_BITMAP, request, [pointer]);
        return bitmap;
      },
    };
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

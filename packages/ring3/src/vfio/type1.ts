// The type1 IOMMU of a container (`/dev/vfio/vfio`): version 2 only, whose mappings are unmapped as they were mapped.
// It exists once a group is attached; before that every call says EINVAL.
import { Ring3Error } from "../binary/error.ts";
import { systemCallError } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { ioctl, tryIoctl } from "../linux/ioctl.ts";
import type { Pointable } from "../linux/pointers.ts";
import type { IovaRange } from "../memory/iova-allocator.ts";
import type { DmaPermission } from "../pci/function.ts";
import {
  growingCall,
  type InfoCapability,
  infoCapabilities,
  infoCapability,
  trailingElements,
} from "./capability-chain.ts";
import { type DirtyPages, type Iommu, pageSizesOf, toExactRanges } from "./iommu.ts";
import {
  ContainerCall,
  DirtyPagesFlag,
  DmaMapFlag,
  DmaUnmapFlag,
  Extension,
  IommuCapability,
  IommuFlag,
} from "./uapi.ts";
import {
  DmaAvailCapability,
  IovaRangeCapability,
  IovaRange as IovaRangeStruct,
  MigrationCapability,
  Type1DirtyBitmap,
  Type1Info,
  Type1Map,
  Type1Unmap,
} from "./uapi-structs.ts";

const mapFlags: Readonly<Record<DmaPermission, number>> = {
  read: DmaMapFlag.READ,
  write: DmaMapFlag.WRITE,
  "read-write": DmaMapFlag.READ | DmaMapFlag.WRITE,
};

/** Kernels before 5.4 name no ranges: all but the message window of x86, within 39 bits, is right everywhere. */
const fallbackRanges: readonly IovaRange[] = [
  { first: 0, last: 0xfedf_ffff },
  { first: 0xfef0_0000, last: 2 ** 39 - 1 },
];

export class Type1 implements Iommu {
  readonly backend = "group";
  readonly lockedCounter = "VmLck";
  readonly #container: FileDescriptor;
  readonly #dirty: DirtyPages | undefined;

  /** `container` has a group and its IOMMU is set. */
  constructor(container: FileDescriptor) {
    this.#container = container;
    this.#dirty = this.#dirtyPages();
  }

  ranges(): readonly IovaRange[] {
    const capability = infoCapability(this.#info().capabilities, IommuCapability.IOVA_RANGE)?.bytes;
    if (capability === undefined || capability.length < IovaRangeCapability.size) return fallbackRanges;
    const { nr_iovas } = IovaRangeCapability.from(capability);
    const ranges = trailingElements(capability, IovaRangeCapability.size, IovaRangeStruct, nr_iovas);
    return toExactRanges(ranges.map(({ start, end }) => ({ first: start, last: end })));
  }

  pageSizes(): readonly number[] {
    return this.#info().pageSizes;
  }

  mappingsLeft(): number | undefined {
    const capability = infoCapability(this.#info().capabilities, IommuCapability.DMA_AVAIL)?.bytes;
    return capability === undefined || capability.length < DmaAvailCapability.size
      ? undefined
      : DmaAvailCapability.from(capability).avail;
  }

  map(memory: Pointable, size: number, iova: number, permission: DmaPermission): void {
    const request = { argsz: Type1Map.size, flags: mapFlags[permission], iova: BigInt(iova), size: BigInt(size) };
    const pointer = { at: Type1Map.offsets.vaddr, memory };
    ioctl(this.#container, "VFIO_IOMMU_MAP_DMA", ContainerCall.IOMMU_MAP_DMA, Type1Map.bytes(request), [pointer]);
  }

  unmap(iova: number, size: number): void {
    const request = Type1Unmap.bytes({ argsz: Type1Unmap.size, iova: BigInt(iova), size: BigInt(size) });
    ioctl(this.#container, "VFIO_IOMMU_UNMAP_DMA", ContainerCall.IOMMU_UNMAP_DMA, request);
    const { size: unmapped } = Type1Unmap.from(request);
    if (unmapped !== BigInt(size)) {
      throw new Ring3Error(
        "DMA_UNMAP_FAILED",
        `unmapping ${size} bytes at IOVA 0x${iova.toString(16)} removed ${unmapped}; somebody else unmapped a part`,
      );
    }
  }

  unmapEverything(): boolean {
    if (ioctl(this.#container, "VFIO_CHECK_EXTENSION", ContainerCall.CHECK_EXTENSION, Extension.UNMAP_ALL) === 0)
      return false;
    const request = Type1Unmap.bytes({ argsz: Type1Unmap.size, flags: DmaUnmapFlag.ALL });
    ioctl(this.#container, "VFIO_IOMMU_UNMAP_DMA", ContainerCall.IOMMU_UNMAP_DMA, request);
    return true;
  }

  get dirtyPages(): DirtyPages | undefined {
    return this.#dirty;
  }

  [Symbol.dispose](): void {
    this.#container.close();
  }

  #info(): { readonly pageSizes: number[]; readonly capabilities: readonly InfoCapability[] } {
    const answer = growingCall(
      Type1Info.bytes({}),
      (buffer) => void ioctl(this.#container, "VFIO_IOMMU_GET_INFO", ContainerCall.IOMMU_GET_INFO, buffer),
    );
    const { flags, iova_pgsizes, cap_offset } = Type1Info.from(answer);
    return {
      pageSizes: (flags & IommuFlag.PGSIZES) !== 0 ? pageSizesOf(iova_pgsizes) : [4096],
      capabilities: (flags & IommuFlag.CAPS) !== 0 ? infoCapabilities(answer, cap_offset) : [],
    };
  }

  #dirtyPages(): DirtyPages | undefined {
    const capability = infoCapability(this.#info().capabilities, IommuCapability.MIGRATION)?.bytes;
    if (capability === undefined || capability.length < MigrationCapability.size) return undefined;
    const { pgsize_bitmap, max_dirty_bitmap_size } = MigrationCapability.from(capability);
    const pageSize = pageSizesOf(pgsize_bitmap)[0];
    if (pageSize === undefined) return undefined;
    const mark = (flags: number, name: string): void => {
      const request = Type1DirtyBitmap.bytes({ argsz: 8, flags }).slice(0, 8);
      ioctl(this.#container, `VFIO_IOMMU_DIRTY_PAGES ${name}`, ContainerCall.IOMMU_DIRTY_PAGES, request);
    };
    return {
      pageSize,
      start: () => mark(DirtyPagesFlag.START, "START"),
      stop: () => mark(DirtyPagesFlag.STOP, "STOP"),
      read: (iova, size) => {
        const bitmap = new Uint8Array(Math.ceil(size / pageSize / 64) * 8);
        if (BigInt(bitmap.length) > max_dirty_bitmap_size) {
          throw new Ring3Error("DMA_INVALID", `at most ${max_dirty_bitmap_size * 8n} pages can be asked for at once`);
        }
        const request = Type1DirtyBitmap.bytes({
          // The size of the bitmap itself does not count.
          argsz: Type1DirtyBitmap.size,
          flags: DirtyPagesFlag.GET_BITMAP,
          iova: BigInt(iova),
          size: BigInt(size),
          pgsize: BigInt(pageSize),
          bitmapSize: BigInt(bitmap.length),
        });
        const pointer = { at: Type1DirtyBitmap.offsets.data, memory: bitmap };
        const result = tryIoctl(
          this.#container,
          ContainerCall.IOMMU_DIRTY_PAGES,
          request,
          [pointer],
          "VFIO_IOMMU_DIRTY_PAGES",
        );
        if (result < 0) throw systemCallError("ioctl VFIO_IOMMU_DIRTY_PAGES GET_BITMAP", -result);
        return bitmap;
      },
    };
  }
}

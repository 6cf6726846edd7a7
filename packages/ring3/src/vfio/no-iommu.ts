// A container without an IOMMU: nothing can be mapped, since the device would need physical addresses.
import { Ring3Error } from "../binary/error.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { IovaRange } from "../memory/iova-allocator.ts";
import type { Iommu } from "./iommu.ts";

/** What every attempt to use DMA memory behind no IOMMU gets. */
export function noIommuError(): Ring3Error {
  return new Ring3Error(
    "NO_IOMMU",
    "without an IOMMU the device uses physical addresses, which this library does not hand out; DMA needs an IOMMU",
  );
}

export class NoIommu implements Iommu {
  readonly backend = "group";
  readonly lockedCounter = "VmLck";
  readonly dirtyPages: undefined = undefined;
  readonly #container: FileDescriptor;

  constructor(container: FileDescriptor) {
    this.#container = container;
  }

  ranges(): readonly IovaRange[] {
    return [];
  }

  pageSizes(): readonly number[] {
    return [4096];
  }

  mappingsLeft(): number {
    return 0;
  }

  map(): void {
    throw noIommuError();
  }

  unmap(): void {
    throw noIommuError();
  }

  unmapEverything(): boolean {
    return false;
  }

  [Symbol.dispose](): void {
    this.#container.close();
  }
}

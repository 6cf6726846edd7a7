// What both kernel interfaces offer to map memory for devices, so that everything above is written once.
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { Pointable } from "../linux/pointers.ts";
import type { IovaRange } from "../memory/iova-allocator.ts";
import type { DmaPermission } from "../pci/function.ts";

/** What a function's file is attached to, and detached from when it closes. */
export interface AttachedDevice {
  readonly file: FileDescriptor;
  /** The function's number inside iommufd; `undefined` on the group path. */
  readonly iommufdDevice: number | undefined;
  /** The group's file, on the group path. */
  readonly group: FileDescriptor | undefined;
  /** Lets go of group and address space, after `file` was closed. */
  readonly detach: () => void;
}

/** A container or an IOAS: one set of mappings for all attached devices. */
export interface Iommu extends Disposable {
  readonly backend: "group" | "iommufd";
  /** Which of the counters of `/proc/self/status` its pinned memory is counted in. */
  readonly lockedCounter: "VmLck" | "VmPin";
  /** Inclusive, ascending, clamped below 2^53. They can become narrower with each attached device. */
  ranges(): readonly IovaRange[];
  pageSizes(): readonly number[];
  /** `undefined` where there is no limit that the kernel tells. */
  mappingsLeft(): number | undefined;
  map(memory: Pointable, size: number, iova: number, permission: DmaPermission): void;
  unmap(iova: number, size: number): void;
  /** Removes every mapping by one call, where the kernel can. */
  unmapEverything(): boolean;
  /** Tracking of the pages that devices write; `undefined` where neither IOMMU nor kernel offer it. */
  readonly dirtyPages: DirtyPages | undefined;
}

/** Which pages devices wrote. */
export interface DirtyPages {
  /** Bytes that one bit stands for. */
  readonly pageSize: number;
  start(): void;
  stop(): void;
  /** One bit for each page from `iova` on, lowest bit first; reading clears it. Only mapped ranges can be asked for. */
  read(iova: number, size: number): Uint8Array;
}

/** Clamps what a kernel says (up to 2^64 - 1) to exact numbers. */
export function toExactRanges(ranges: Iterable<{ readonly first: bigint; readonly last: bigint }>): IovaRange[] {
  const limit = 2n ** 53n - 1n;
  const exact: IovaRange[] = [];
  for (const { first, last } of ranges) {
    if (first > limit || last < first) continue;
    exact.push({ first: Number(first), last: Number(last > limit ? limit : last) });
  }
  return exact.sort((a, b) => a.first - b.first);
}

/** The page sizes that a bit mask names, ascending. */
export function pageSizesOf(mask: bigint): number[] {
  const sizes: number[] = [];
  for (let shift = 12n; shift < 53n; shift++) if ((mask >> shift) & 1n) sizes.push(2 ** Number(shift));
  return sizes;
}

// What the kernel says of a region: size, place in the device's file, and which parts may be mapped.
import type { ByteRange } from "../pci/function.ts";
import { infoCapabilities, infoCapability, trailingElements } from "./capability-chain.ts";
import { RegionCapability, RegionFlag } from "./uapi.ts";
import { RegionInfo, RegionType, SparseMmap, SparseMmapArea } from "./uapi-structs.ts";

export interface Region {
  readonly index: number;
  /** Bytes; 0 where the region does not exist. */
  readonly size: number;
  /** Where the region begins in the device's file. */
  readonly fileOffset: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Whether the kernel lets any of it be mapped. */
  readonly mmap: boolean;
  /** The only parts that may be mapped, where the kernel names such. */
  readonly sparse: readonly ByteRange[] | undefined;
  /** The page of the MSI-X table may be mapped too. */
  readonly msixMappable: boolean;
  /** What an index beyond the fixed ones holds: vendor type bit 31, or a class such as graphics. */
  readonly type: { readonly type: number; readonly subtype: number } | undefined;
}

const pageBytes = 4096;

/** Decodes the answer to `GET_REGION_INFO`. Sizes and offsets beyond 2^53 count as absent: no access could name them. */
export function decodeRegion(answer: Uint8Array): Region {
  const info = RegionInfo.from(answer);
  const usable = info.size <= 2n ** 53n && info.offset <= 2n ** 53n;
  const hasCapabilities = (info.flags & RegionFlag.CAPS) !== 0;
  const capabilities = hasCapabilities ? infoCapabilities(answer, info.cap_offset) : [];
  const sparse = infoCapability(capabilities, RegionCapability.SPARSE_MMAP)?.bytes;
  const type = infoCapability(capabilities, RegionCapability.TYPE)?.bytes;
  return {
    index: info.index,
    size: usable ? Number(info.size) : 0,
    fileOffset: Number(info.offset),
    readable: (info.flags & RegionFlag.READ) !== 0,
    writable: (info.flags & RegionFlag.WRITE) !== 0,
    mmap: (info.flags & RegionFlag.MMAP) !== 0,
    sparse:
      sparse === undefined || sparse.length < SparseMmap.size ? undefined : sparseAreas(sparse, Number(info.size)),
    msixMappable: infoCapability(capabilities, RegionCapability.MSIX_MAPPABLE) !== undefined,
    type: type === undefined || type.length < RegionType.size ? undefined : RegionType.from(type),
  };
}

/** Page-aligned areas inside the region, ascending and disjoint, whatever the kernel's order was. */
function sparseAreas(capability: Uint8Array, regionSize: number): ByteRange[] {
  const { nr_areas } = SparseMmap.from(capability);
  const areas = trailingElements(capability, SparseMmap.size, SparseMmapArea, nr_areas)
    .map(({ offset, size }) => ({ offset: Number(offset), size: Number(size) }))
    .filter(({ offset, size }) => size > 0 && offset % pageBytes === 0 && offset + size <= regionSize)
    .sort((a, b) => a.offset - b.offset);
  const disjoint: ByteRange[] = [];
  for (const area of areas) {
    const last = disjoint.at(-1);
    if (last === undefined || area.offset >= last.offset + last.size) disjoint.push(area);
  }
  return disjoint;
}

/**
 * The areas of a BAR that a driver may map, ascending. `forbidden` is the MSI-X table where it lies in this BAR: its
 * pages are left out unless the kernel says that they may be mapped.
 */
export function mappableAreas(region: Region, forbidden: ByteRange | undefined): ByteRange[] {
  if (!region.mmap || region.size === 0) return [];
  const areas = region.sparse ?? [{ offset: 0, size: region.size }];
  if (forbidden === undefined || region.msixMappable) return [...areas];
  const hole = {
    start: Math.floor(forbidden.offset / pageBytes) * pageBytes,
    end: Math.ceil((forbidden.offset + forbidden.size) / pageBytes) * pageBytes,
  };
  return areas.flatMap(({ offset, size }) => {
    const end = offset + size;
    const before = { offset, size: Math.min(end, hole.start) - offset };
    const start = Math.max(offset, hole.end);
    return [before, { offset: start, size: end - start }].filter((area) => area.size > 0);
  });
}

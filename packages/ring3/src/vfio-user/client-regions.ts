// What a server says of its regions: size, what may be mapped and by which descriptor, and eventfds that stand for writes.
// None of it is believed: areas outside the region, capability chains that loop, descriptors that are missing or too many.
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { ByteRange } from "../pci/function.ts";
import {
  IoEventFdFlag,
  IoFdType,
  RegionCapability,
  RegionCapabilityHeader,
  RegionFlag,
  RegionInfo,
  RegionIoFds,
  SparseMmap,
  SparseMmapArea,
  SubRegionIoEventFd,
} from "./messages.ts";

const PAGE = 4096;
/** No BAR is larger than what an arena can hold of it; what is larger counts as not there. */
const LARGEST_REGION = 2 ** 52;

/** A part of a region that can be mapped. */
export interface RegionArea extends ByteRange {
  /** Belongs to the region; several areas may share it. */
  readonly fd: FileDescriptor;
  readonly fileOffset: number;
}

export interface RegionDescription {
  readonly index: number;
  /** Bytes; 0 where the region does not exist. */
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Ascending and disjoint, in whole pages. */
  readonly areas: readonly RegionArea[];
}

/** Decodes the answer to REGION_INFO, which has at least its fixed part. `unused`: descriptors that stand for nothing. */
export function decodeRegion(
  index: number,
  answer: Uint8Array,
  fds: readonly FileDescriptor[],
): { readonly region: RegionDescription; readonly unused: readonly FileDescriptor[] } {
  const info = RegionInfo.from(answer);
  const size = info.size <= BigInt(LARGEST_REGION) ? Number(info.size) : 0;
  const base = info.offset <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(info.offset) : -1;
  const mappable = (info.flags & RegionFlag.MMAP) !== 0 && size > 0 && base >= 0 && fds.length > 0;
  const areas = mappable ? areasOf(answer, info, size, base, fds) : [];
  return {
    region: {
      index,
      size,
      readable: (info.flags & RegionFlag.READ) !== 0,
      writable: (info.flags & RegionFlag.WRITE) !== 0,
      areas,
    },
    unused: fds.filter((fd) => !areas.some((area) => area.fd === fd)),
  };
}

function areasOf(
  answer: Uint8Array,
  info: { readonly flags: number; readonly cap_offset: number },
  size: number,
  base: number,
  fds: readonly FileDescriptor[],
): RegionArea[] {
  const sparse = (info.flags & RegionFlag.CAPS) !== 0 ? sparseAreas(answer, info.cap_offset) : undefined;
  const wanted = sparse ?? [{ offset: 0, size: Math.ceil(size / PAGE) * PAGE }];
  const end = Math.ceil(size / PAGE) * PAGE;
  const areas: RegionArea[] = [];
  for (const [i, area] of wanted.entries()) {
    // One descriptor for all areas, as the specification has it, or one for each, as libvfio-user sends them.
    const fd = fds.length === wanted.length ? fds[i] : fds[0];
    const whole = area.offset % PAGE === 0 && area.size > 0 && area.size % PAGE === 0 && area.offset + area.size <= end;
    if (fd !== undefined && whole) areas.push({ ...area, fd, fileOffset: base + area.offset });
  }
  areas.sort((a, b) => a.offset - b.offset);
  return areas.filter((area, i) => i === 0 || area.offset >= endOf(areas[i - 1]));
}

function endOf(area: ByteRange | undefined): number {
  return area === undefined ? 0 : area.offset + area.size;
}

/** The areas of the sparse capability; `undefined` where the chain has none. */
function sparseAreas(answer: Uint8Array, first: number): ByteRange[] | undefined {
  const seen = new Set<number>();
  let at = first;
  while (at >= RegionInfo.size && at % 4 === 0 && at + RegionCapabilityHeader.size <= answer.length && !seen.has(at)) {
    seen.add(at);
    const { id, next } = RegionCapabilityHeader.from(answer, at);
    if (id === RegionCapability.SPARSE_MMAP) {
      if (at + SparseMmap.size > answer.length) return [];
      const room = Math.floor((answer.length - at - SparseMmap.size) / SparseMmapArea.size);
      const count = Math.min(SparseMmap.from(answer, at).nr_areas, room);
      return Array.from({ length: count }, (_, i) => {
        const { offset, size } = SparseMmapArea.from(answer, at + SparseMmap.size + i * SparseMmapArea.size);
        return { offset: Number(offset), size: Number(size) };
      });
    }
    at = next;
  }
  return undefined;
}

/** A register whose write is a signal. `size` 0: of any width; `data`: only this value. */
export interface DoorbellFd {
  readonly offset: number;
  readonly size: number;
  readonly data: bigint | undefined;
  /** Of its own, though the server may have sent one for several. */
  readonly fd: FileDescriptor;
}

/** Decodes the answer to REGION_IO_FDS and takes `fds` over. What is of another type, or stands for no descriptor, is left out. */
export function decodeIoEventFds(answer: Uint8Array, fds: readonly FileDescriptor[]): DoorbellFd[] {
  const found: DoorbellFd[] = [];
  const { argsz, count } = RegionIoFds.from(answer);
  const there = answer.length - RegionIoFds.size;
  // An element's size follows from the sizes, as the specification demands.
  const stride = count > 0 ? Math.floor((Math.min(argsz, answer.length) - RegionIoFds.size) / count) : 0;
  if (stride >= SubRegionIoEventFd.size && stride * count <= there) {
    for (let i = 0; i < count; i++) {
      const entry = SubRegionIoEventFd.from(answer, RegionIoFds.size + i * stride);
      const fd = fds[entry.fd_index];
      const sane = entry.offset <= BigInt(LARGEST_REGION) && [0n, 1n, 2n, 4n, 8n].includes(entry.size);
      if (entry.type !== IoFdType.IOEVENTFD || fd === undefined || !sane) continue;
      found.push({
        offset: Number(entry.offset),
        size: Number(entry.size),
        data: (entry.flags & IoEventFdFlag.DATAMATCH) === 0 ? undefined : entry.datamatch,
        fd: fd.duplicate(),
      });
    }
  }
  for (const fd of fds) fd.close();
  return found;
}

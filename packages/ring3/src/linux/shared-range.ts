// DMA memory with a file descriptor: a range of the arena over a memfd, so that another process can map the same bytes, or
// over 2 MiB pages of the system's pool.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { Arena, ArenaRange } from "../memory/arena.ts";
import { RangeTable } from "../memory/range-table.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import { createMemoryFile } from "./memory-file.ts";
import { checkMappable, type MapOptions, mapAnonymousOver, mapFlags, mapOver, pageSize } from "./memory-map.ts";
import { addressInArena } from "./pointers.ts";
import { type SharedInPlace, shareInPlace } from "./shared-in-place.ts";

const HUGE_PAGE = 2 ** 21;

/** A range of the arena whose bytes are a file's. `fd` belongs to the range and closes with it. */
export interface SharedRange extends Disposable {
  readonly range: ArenaRange;
  readonly fd: FileDescriptor;
  /** Where the range's first byte lies in the file. */
  readonly fileOffset: number;
}

/** A file and where a range's first byte lies in it. Disposal lets go of it. */
export interface SharedFile extends Disposable {
  readonly fd: FileDescriptor;
  readonly fileOffset: number;
}

/** Ranges over files: whatever lies inside one of them is that file's, by whatever range it is named. */
const overFiles = new WeakMap<Arena, RangeTable<SharedRange>>();
/** Ranges that were given a file. */
const inPlace = new WeakMap<ArenaRange, { readonly shared: SharedInPlace; count: number }>();

/** Reserves `size` bytes (rounded up to pages) over a new memfd. Throws `HUGE_PAGES_MISSING` where `huge` fails. */
export function reserveShared(
  arena: Arena,
  size: number,
  { huge = false }: { readonly huge?: boolean } = {},
): SharedRange {
  const unit = huge ? HUGE_PAGE : pageSize;
  const bytes = Math.ceil(size / unit) * unit;
  const fd = createMemoryFile(bytes, { huge });
  try {
    return mapShared(arena, fd, 0, bytes, {}, unit);
  } catch (error) {
    fd.close();
    if (!(huge && isRing3Error(error) && error.errno === "ENOMEM")) throw error;
    throw new Ring3Error(
      "HUGE_PAGES_MISSING",
      `the system's pool has no ${bytes / HUGE_PAGE} free pages of 2 MiB: raise it (sysctl vm.nr_hugepages), or do without`,
      { errno: "ENOMEM", call: "mmap", cause: error },
    );
  }
}

/** Maps memory that another process shares into the arena, and takes `fd` over. Throws `NOT_MAPPABLE`. */
export function mapShared(
  arena: Arena,
  fd: FileDescriptor,
  fileOffset: number,
  size: number,
  options: MapOptions = {},
  alignment: number = pageSize,
): SharedRange {
  checkMappable(fd, fileOffset, size, options);
  const range = arena.reserve(size, alignment);
  const address = addressInArena(arena, range.offset);
  try {
    mapOver(address, fd.number, fileOffset, size, mapFlags(options));
  } catch (error) {
    range[Symbol.dispose]();
    throw error;
  }
  const shared = { range, fd, fileOffset, [Symbol.dispose]: () => range[Symbol.dispose]() };
  const table = overFiles.get(arena) ?? new RangeTable();
  overFiles.set(arena, table);
  table.insert(range.offset, range.size, shared);
  range.beforeRelease(() => {
    table.removeBetween(range.offset, range.offset + 1);
    mapAnonymousOver(address, size);
    fd.close();
  });
  return shared;
}

/**
 * The file behind a range, or behind what it is a part of. One that is plain memory gets one in its place, so views and other
 * threads see the same bytes as before; nobody may write to it meanwhile. Disposal lets go of it; with the last user the range
 * is plain memory again.
 * Throws `RANGE_BUSY` where somebody holds the very pages (an IOMMU mapping).
 */
export function shareRange(range: ArenaRange): SharedFile {
  const known = fileBehind(range);
  if (known !== undefined) return { ...known, [Symbol.dispose]: () => undefined };
  let user = inPlace.get(range);
  if (user === undefined) {
    if (range.held) {
      throw new Ring3Error(
        "RANGE_BUSY",
        "the memory is mapped for a device already, by its pages: reserve it with reserveShared, or map it here first",
      );
    }
    user = { shared: shareInPlace([{ range, fileOffset: 0, size: range.size }], range.size, "ring3-dma"), count: 0 };
    inPlace.set(range, user);
  }
  const { shared } = user;
  user.count++;
  let using = true;
  const dispose = (): void => {
    if (!using) return;
    using = false;
    if (--user.count > 0) return;
    inPlace.delete(range);
    shared[Symbol.dispose]();
  };
  return { fd: shared.fd, fileOffset: 0, [Symbol.dispose]: dispose };
}

/** Another process's memory, say, in a part of which a device is to work. */
function fileBehind({ arena, offset, size }: ArenaRange): Omit<SharedFile, keyof Disposable> | undefined {
  const found = overFiles.get(arena)?.at(offset);
  if (found === undefined) return undefined;
  const at = offset - found.range.offset;
  return at + size > found.range.size ? undefined : { fd: found.fd, fileOffset: found.fileOffset + at };
}

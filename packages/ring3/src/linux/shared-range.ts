// DMA memory with a file descriptor: a range of the arena over a memfd, so that another process can map the same bytes, or
// over 2 MiB pages of the system's pool.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { Arena, ArenaRange } from "../memory/arena.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import { createMemoryFile } from "./memory-file.ts";
import { checkMappable, type MapOptions, mapAnonymousOver, mapFlags, mapOver, pageSize } from "./memory-map.ts";
import { addressInArena } from "./pointers.ts";

const HUGE_PAGE = 2 ** 21;

/** A range of the arena whose bytes are a file's. `fd` belongs to the range and closes with it. */
export interface SharedRange extends Disposable {
  readonly range: ArenaRange;
  readonly fd: FileDescriptor;
  /** Where the range's first byte lies in the file. */
  readonly fileOffset: number;
}

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
  range.beforeRelease(() => {
    mapAnonymousOver(address, size);
    fd.close();
  });
  return { range, fd, fileOffset, [Symbol.dispose]: () => range[Symbol.dispose]() };
}

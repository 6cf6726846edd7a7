// Memory of the client, as it comes with DMA_MAP. Hard about it: a client may truncate the file behind a mapping, which
// would kill this process, and may send any descriptor at all. So a file is mapped only where it cannot shrink, else read
// and written by system calls; each file is mapped once, whatever number of maps it serves.
import {
  adoptArena,
  examinePeerFile,
  type FileDescriptor,
  MappedMemory,
  mapShared,
  type PeerFile,
  pageSize,
  readAt,
  type SharedRange,
  writeAt,
} from "../linux/index.ts";
import type { Arena } from "../memory/arena.ts";
import type { DmaPermission } from "../pci/function.ts";
import type { MapBacking } from "../virtual/guest-memory.ts";
import { refusal } from "./server-refusal.ts";

/** Files that are open at a time, and pieces of large ones that are mapped. */
const MAXIMUM_FILES = 128;
const MAXIMUM_PIECES = 1024;
/** A file up to this size is mapped as a whole. */
const WHOLE_FILE_BYTES = 2 ** 37;
/** Files up to this size lie in the arena, where emitted loops reach them, as long as that leaves it some room. */
const ARENA_FILE_BYTES = 2 ** 30;
const ARENA_FULL_BYTES = 3 * 2 ** 30;

interface Mapping extends Disposable {
  readonly bytes: Uint8Array;
  readonly arenaOffset: number | undefined;
}

/** A file of the client: mapped as a whole, or open for system calls, while anything uses it. */
interface ClientFile {
  readonly key: string;
  readonly fd: FileDescriptor;
  readonly about: PeerFile;
  /** Bytes from the file's start that are mapped. */
  mapping: Mapping | undefined;
  mappedBytes: number;
  uses: number;
}

export interface ClientMemoryOptions {
  readonly arena: Arena;
  readonly trustUnsealed: boolean;
}

/** The files behind one client's maps. Disposal lets go of all of them, whatever still uses them. */
export class ClientMemory implements Disposable {
  readonly #options: ClientMemoryOptions;
  /** The arena, where files can be mapped into it. */
  readonly #arena: Arena | undefined;
  readonly #files = new Map<string, ClientFile>();
  #pieces = 0;

  constructor(options: ClientMemoryOptions) {
    this.#options = options;
    this.#arena = adoptArena(options.arena) ? options.arena : undefined;
  }

  /**
   * What stands behind `size` bytes from `offset` of the file. Takes `fd` over, also where it throws (with an errno for the
   * client).
   */
  backing(fd: FileDescriptor, offset: number, size: number, permission: DmaPermission): MapBacking {
    let kept = false;
    try {
      const about = this.#examine(fd, offset, size, permission);
      const file = this.#files.get(about.identity) ?? this.#open(fd, about);
      kept = file.fd === fd;
      file.uses++;
      try {
        return this.#backing(file, about, offset, size);
      } catch (error) {
        this.#leave(file);
        throw error;
      }
    } finally {
      if (!kept) fd.close();
    }
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.values()) {
      file.mapping?.[Symbol.dispose]();
      file.fd.close();
    }
    this.#files.clear();
  }

  #examine(fd: FileDescriptor, offset: number, size: number, permission: DmaPermission): PeerFile {
    const about = examinePeerFile(fd);
    if (about === undefined) throw refusal("EINVAL", "only regular files and memfds can be mapped");
    if (offset + size > about.sizeBytes) {
      throw refusal(
        "EINVAL",
        `${size} bytes at ${offset} pass the end of a file of ${about.sizeBytes} bytes: touching them would be fatal`,
      );
    }
    if (!about.readable || (permission !== "read" && !about.writable)) {
      throw refusal(
        "EACCES",
        "the descriptor was not opened for what the map permits; open it for reading and writing",
      );
    }
    if (!(about.sealed || about.local || this.#options.trustUnsealed)) {
      throw refusal(
        "EACCES",
        "the file is on a file system where another process decides how long an access takes; share a memfd, or serve with trustUnsealedMemory",
      );
    }
    return about;
  }

  #open(fd: FileDescriptor, about: PeerFile): ClientFile {
    if (this.#files.size >= MAXIMUM_FILES) {
      throw refusal("ENOSPC", `the client shares ${MAXIMUM_FILES} files already; put its memory into fewer`);
    }
    const file: ClientFile = { key: about.identity, fd, about, mapping: undefined, mappedBytes: 0, uses: 0 };
    this.#files.set(file.key, file);
    return file;
  }

  #leave(file: ClientFile): void {
    file.uses--;
    if (file.uses > 0 || this.#files.get(file.key) !== file) return;
    this.#files.delete(file.key);
    file.mapping?.[Symbol.dispose]();
    file.fd.close();
  }

  #backing(file: ClientFile, about: PeerFile, offset: number, size: number): MapBacking {
    const leave = once(() => this.#leave(file));
    // A private mapping of huge pages takes some of its own, and there may be none left.
    const safe = (about.sealed || this.#options.trustUnsealed) && (about.writable || !about.hugePages);
    if (!safe) return copying(file.fd, offset, leave);
    const mapping = this.#whole(file, about, offset + size);
    if (mapping !== undefined) {
      return {
        bytes: mapping.bytes.subarray(offset, offset + size),
        ...(mapping.arenaOffset === undefined ? {} : { arenaOffset: mapping.arenaOffset + offset }),
        release: leave,
      };
    }
    if (this.#pieces >= MAXIMUM_PIECES || offset % pageSize !== 0 || size % pageSize !== 0) {
      return copying(file.fd, offset, leave);
    }
    const piece = this.#map(file.fd, about, offset, size);
    this.#pieces++;
    return {
      bytes: piece.bytes,
      ...(piece.arenaOffset === undefined ? {} : { arenaOffset: piece.arenaOffset }),
      release: once(() => {
        piece[Symbol.dispose]();
        this.#pieces--;
        leave();
      }),
    };
  }

  /** The file's one mapping, where it reaches `end`. A file that grew since, or is too large, is mapped piece by piece. */
  #whole(file: ClientFile, about: PeerFile, end: number): Mapping | undefined {
    if (file.mapping === undefined) {
      const size = Math.floor(about.sizeBytes / pageSize) * pageSize;
      if (size > WHOLE_FILE_BYTES || size < end) return undefined;
      file.mapping = this.#map(file.fd, about, 0, size);
      file.mappedBytes = size;
    }
    return end <= file.mappedBytes ? file.mapping : undefined;
  }

  #map(fd: FileDescriptor, about: PeerFile, offset: number, size: number): Mapping {
    // A descriptor that cannot be written is mapped privately: what a model stores by mistake stays in this process.
    const options = { shared: about.writable, mayShrink: "accept" } as const;
    const arena = this.#arena;
    if (arena !== undefined && size <= ARENA_FILE_BYTES && arena.size + size <= ARENA_FULL_BYTES) {
      const duplicate = fd.duplicate();
      try {
        return inArena(mapShared(arena, duplicate, offset, size, options));
      } catch {
        duplicate.close();
      }
    }
    const memory = MappedMemory.file(fd, offset, size, options);
    return { bytes: memory.bytes, arenaOffset: undefined, [Symbol.dispose]: () => memory[Symbol.dispose]() };
  }
}

function inArena(shared: SharedRange): Mapping {
  const { range } = shared;
  return { bytes: range.bytes, arenaOffset: range.offset, [Symbol.dispose]: () => shared[Symbol.dispose]() };
}

function copying(fd: FileDescriptor, base: number, release: () => void): MapBacking {
  return {
    transfer: {
      read: (offset, target) => readAt(fd, base + offset, target),
      write: (offset, source) => writeAt(fd, base + offset, source),
    },
    release,
  };
}

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    act();
  };
}

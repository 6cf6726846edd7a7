// DMA memory with descriptors, in quantity: small pieces come from few large files, since each file takes a descriptor and
// each mapping one of the system's 65,530 for a process. Whoever gets a piece's descriptor can reach the whole file, so a
// pool serves one peer only.
import type { Arena } from "../memory/arena.ts";
import { FreeRanges } from "../memory/free-ranges.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import { pageSize } from "./memory-map.ts";
import { reserveShared, type SharedRange } from "./shared-range.ts";

/** Pieces from this size on get a file of their own. */
const OWN_FILE_BYTES = 2 ** 20;
const FIRST_CHUNK_BYTES = 2 ** 20;
const LARGEST_CHUNK_BYTES = 2 ** 24;

/** Memory of the arena, all zero, with its place in a file. Disposal gives it back. */
export interface SharedPiece extends Disposable {
  readonly arenaOffset: number;
  readonly size: number;
  /** Belongs to the pool; open as long as the piece is. */
  readonly fd: FileDescriptor;
  readonly fileOffset: number;
}

export class SharedMemoryPool implements Disposable {
  readonly #arena: Arena;
  /** Each with its own free ranges: a piece must not lie across two files. */
  readonly #chunks: { readonly shared: SharedRange; readonly free: FreeRanges }[] = [];
  readonly #own: Set<SharedRange> = new Set();
  #nextChunkBytes = FIRST_CHUNK_BYTES;
  #disposed = false;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** Takes `size` bytes, rounded up to pages. Throws `ARENA_FULL` or `SYSTEM_CALL`. */
  reserve(size: number): SharedPiece {
    const bytes = Math.ceil(size / pageSize) * pageSize;
    return bytes >= OWN_FILE_BYTES ? this.#reserveFile(bytes) : this.#reservePart(bytes);
  }

  /** Closes the files. Pieces that are left must not be touched any more. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const { shared } of this.#chunks.splice(0)) shared[Symbol.dispose]();
    for (const shared of this.#own) shared[Symbol.dispose]();
    this.#own.clear();
  }

  #reserveFile(bytes: number): SharedPiece {
    const shared = reserveShared(this.#arena, bytes);
    this.#own.add(shared);
    const { range, fd, fileOffset } = shared;
    const dispose = (): void => {
      if (this.#own.delete(shared)) shared[Symbol.dispose]();
    };
    return { arenaOffset: range.offset, size: bytes, fd, fileOffset, [Symbol.dispose]: dispose };
  }

  #reservePart(bytes: number): SharedPiece {
    const placement = { alignment: pageSize, low: 0, high: 2 ** 53 };
    let start: number | undefined;
    let chunk = this.#chunks.find(({ free }) => {
      if (free.longest >= bytes) start = free.take(bytes, placement);
      return start !== undefined;
    });
    if (chunk === undefined || start === undefined) {
      chunk = this.#newChunk();
      start = chunk.free.take(bytes, placement) as number;
    }
    const { shared, free } = chunk;
    const arenaOffset = start;
    let held = true;
    const dispose = (): void => {
      if (!held || this.#disposed) return;
      held = false;
      this.#arena.bytes(arenaOffset, bytes).fill(0);
      free.give(arenaOffset, bytes);
    };
    const fileOffset = shared.fileOffset + arenaOffset - shared.range.offset;
    return { arenaOffset, size: bytes, fd: shared.fd, fileOffset, [Symbol.dispose]: dispose };
  }

  /** Larger than any piece from a chunk. */
  #newChunk(): { readonly shared: SharedRange; readonly free: FreeRanges } {
    const shared = reserveShared(this.#arena, this.#nextChunkBytes);
    this.#nextChunkBytes = Math.min(2 * this.#nextChunkBytes, LARGEST_CHUNK_BYTES);
    const free = new FreeRanges();
    free.give(shared.range.offset, shared.range.size);
    const chunk = { shared, free };
    this.#chunks.push(chunk);
    return chunk;
  }
}

// Windows: regions of a file (a BAR behind a VFIO descriptor) mapped over pages of the arena. A window that goes away is
// replaced by a tombstone, plain memory that reads all ones as a lost device does, so a late access never faults; the
// pages serve something else only after that.
import { Ring3Error } from "../binary/error.ts";
import type { Arena, ArenaRange } from "../memory/arena.ts";
import { OwnedWindow } from "../memory/window.ts";
import { readAt, writeAt } from "./file-access.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import { createMemoryFile, sealAgainstWriting } from "./memory-file.ts";
import { checkMappable, MAP, type MapOptions, mapAnonymousOver, mapFlags, mapOver, pageSize } from "./memory-map.ts";
import * as native from "./native.ts";
import { addressInArena } from "./pointers.ts";

const LARGE_PAGE = 2 ** 21;
/** One file of ones serves all tombstones. Windows larger than so many of it read zero behind them. */
const ONES_BYTES = 2 ** 18;
const ONES_MAPPINGS = 64;

let onesFile: FileDescriptor | undefined;

/** Registers of a mapped region. Disposal revokes; so does closing the descriptor. */
export class DeviceWindow extends OwnedWindow {
  readonly #range: ArenaRange;
  readonly #flags: number;
  #fd: FileDescriptor;
  #fileOffset: number;
  #forget: () => void;

  private constructor(fd: FileDescriptor, fileOffset: number, range: ArenaRange, size: number, flags: number) {
    super(range.arena, range.offset, size);
    this.#fd = fd;
    this.#fileOffset = fileOffset;
    this.#range = range;
    this.#flags = flags;
    this.#forget = fd.closesAfter(this);
  }

  /**
   * Maps `size` bytes from `offset` of `fd` into `arena`. Both are multiples of the page size; `offset` may be up to
   * 2^53. Throws `NOT_MAPPABLE`, `SYSTEM_CALL` or `ARENA_FULL`.
   */
  static map(arena: Arena, fd: FileDescriptor, offset: number, size: number, options: MapOptions = {}): DeviceWindow {
    checkMappable(fd, offset, size, options);
    if (arena.attached) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "map the window in the thread that made the arena, and attach to its handle here",
      );
    }
    // Where both sides are aligned the kernel can map 2 MiB at once.
    const range = arena.reserve(size, size >= LARGE_PAGE && offset % LARGE_PAGE === 0 ? LARGE_PAGE : pageSize);
    const flags = mapFlags(options);
    try {
      mapOver(addressInArena(arena, range.offset), fd.number, offset, size, flags);
      return new DeviceWindow(fd, offset, range, size, flags);
    } catch (error) {
      mapAnonymousOver(addressInArena(arena, range.offset), size);
      range[Symbol.dispose]();
      throw error;
    }
  }

  /** Call before memory decoding goes off or the device to D3: from then on touching the region would be fatal. */
  override suspend(): void {
    if (this.state !== "live") return;
    super.suspend();
    bury(this.arena, this.#range.offset, this.size);
  }

  /** Call when the device answers again. Throws `SYSTEM_CALL`, and stays suspended, where it cannot be mapped. */
  override resume(): void {
    if (this.state !== "suspended") return;
    mapOver(addressInArena(this.arena, this.#range.offset), this.#fd.number, this.#fileOffset, this.size, this.#flags);
    super.resume();
  }

  /**
   * Shows another file's bytes from now on, of a peer that came back; the former descriptor may be closed then. With
   * `keepBytes` the other file holds what this one held.
   */
  rebind(fd: FileDescriptor, offset: number, options: MapOptions & { readonly keepBytes?: boolean } = {}): void {
    if (this.state === "revoked") return;
    checkMappable(fd, offset, this.size, options);
    if (options.keepBytes === true) {
      const bytes = new Uint8Array(this.size);
      readAt(this.#fd, this.#fileOffset, bytes);
      writeAt(fd, offset, bytes);
    }
    if (this.state === "live") {
      mapOver(addressInArena(this.arena, this.#range.offset), fd.number, offset, this.size, this.#flags);
    }
    this.#forget();
    this.#fd = fd;
    this.#fileOffset = offset;
    this.#forget = fd.closesAfter(this);
  }

  override revoke(): void {
    if (this.state === "revoked") return;
    super.revoke();
    this.#forget();
    bury(this.arena, this.#range.offset, this.size);
    this.#range.beforeRelease(() => mapAnonymousOver(addressInArena(this.arena, this.#range.offset), this.size));
    this.arena.retire(() => this.#range[Symbol.dispose]());
  }
}

/** Replaces a window's pages. All ones first and foremost: that is how a device that left looks to its driver. */
function bury(arena: Arena, offset: number, size: number): void {
  const address = addressInArena(arena, offset);
  const ones = Math.min(size, ONES_BYTES * ONES_MAPPINGS);
  try {
    onesFile ??= createOnes();
    for (let at = 0; at < ones; at += ONES_BYTES) {
      const flags = MAP.PRIVATE | MAP.NORESERVE;
      mapOver(address + at, onesFile.number, 0, Math.min(ONES_BYTES, ones - at), flags);
    }
    if (ones < size) mapAnonymousOver(address + ones, size - ones);
  } catch {
    // No descriptor or mapping left for the ones: zeros are as safe, and the device must not stay mapped.
    mapAnonymousOver(address, size);
  }
}

function createOnes(): FileDescriptor {
  const file = createMemoryFile(ONES_BYTES, { name: "ring3-gone" });
  const ones = new Uint8Array(ONES_BYTES).fill(0xff);
  native.systemCall("pwrite", () => native.pwrite(file.number, ones, ones.length, 0));
  sealAgainstWriting(file);
  return file;
}

// A function's DMA memory: arena memory, mapped in the function's address space. Only what this function mapped is
// unmapped with it; the order is always unmap first, then give the memory back.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { adviseHugePages } from "../linux/arena-memory.ts";
import type { Arena, ArenaRange } from "../memory/arena.ts";
import { MappedBuffer } from "../pci/dma-buffer.ts";
import type { DmaBuffer, DmaLimits, DmaMapOptions, DmaSpace } from "../pci/function.ts";
import type { AddressSpace } from "./address-space.ts";
import { noIommuError } from "./no-iommu.ts";

const pageBytes = 4096;
const hugeBytes = 2 ** 21;

export class VfioDmaSpace implements DmaSpace {
  readonly arena: Arena;
  readonly #space: AddressSpace;
  readonly #buffers: Set<MappedBuffer> = new Set();
  /** Mappings of memory outside the arena. */
  readonly #foreign: Set<Disposable> = new Set();
  readonly #noIommu: boolean;
  #ended: Ring3Error | undefined;

  constructor(space: AddressSpace, noIommu: boolean) {
    this.#space = space;
    this.arena = space.arena;
    this.#noIommu = noIommu;
  }

  limits(): DmaLimits {
    this.#checkOpen();
    return this.#space.limits();
  }

  allocate(size: number, options: DmaMapOptions = {}): DmaBuffer {
    this.#checkOpen();
    if (!(Number.isSafeInteger(size) && size > 0)) throw new Ring3Error("DMA_INVALID", `not a size in bytes: ${size}`);
    const bytes = Math.ceil(size / pageBytes) * pageBytes;
    this.#space.checkRoom(bytes);
    const huge = bytes >= hugeBytes;
    const range = this.arena.reserve(bytes, huge ? hugeBytes : pageBytes);
    if (huge) adviseHugePages(range);
    try {
      return this.#map(range, huge ? largePagesPreferred(options) : [options], () => range[Symbol.dispose]());
    } catch (error) {
      range[Symbol.dispose]();
      throw error;
    }
  }

  map(range: ArenaRange, options: DmaMapOptions = {}): DmaBuffer {
    this.#checkOpen();
    if (range.arena !== this.arena) {
      throw new Ring3Error(
        "DMA_INVALID",
        "the range lies in another arena than the function's; open the function with that arena",
      );
    }
    if (range.offset % pageBytes !== 0 || range.size % pageBytes !== 0) {
      throw new Ring3Error("DMA_INVALID", `only whole pages can be mapped, not ${range.size} bytes at ${range.offset}`);
    }
    this.#space.checkRoom(range.size);
    const hold = range.hold();
    try {
      return this.#map(range, [options], () => hold[Symbol.dispose]());
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }

  /** Maps memory of this process outside the arena, at `iova`. */
  mapBytes(bytes: Uint8Array, options: DmaMapOptions & { readonly iova: number }): Disposable {
    this.#checkOpen();
    this.#space.checkRoom(bytes.length);
    const { permission = "read-write" } = options;
    const iova = this.#space.takeIova(bytes.length, options);
    try {
      this.#space.map(bytes, bytes.length, iova, permission);
    } catch (error) {
      this.#space.releaseIova(iova);
      throw error;
    }
    const mapping: Disposable = {
      [Symbol.dispose]: () => {
        if (!this.#foreign.delete(mapping)) return;
        this.#space.unmap(iova);
        this.#space.releaseIova(iova);
      },
    };
    this.#foreign.add(mapping);
    return mapping;
  }

  unmapAll(): void {
    // One call removes everything, unless other functions have mappings here too.
    if (this.#buffers.size > 64 && this.#space.functions === 1) this.#space.unmapEverything();
    for (const buffer of Array.from(this.#buffers)) buffer[Symbol.dispose]();
    for (const mapping of Array.from(this.#foreign)) mapping[Symbol.dispose]();
  }

  /** Where each live buffer lies, for workers. */
  mappings(): { iova: number; size: number; arenaOffset: number; permission: DmaBuffer["permission"] }[] {
    return Array.from(this.#buffers, ({ iova, size, arenaOffset, permission }) => ({
      iova,
      size,
      arenaOffset,
      permission,
    }));
  }

  /** Unmaps everything; later calls throw `reason`. */
  end(reason: Ring3Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.unmapAll();
  }

  #map(range: ArenaRange, placements: readonly DmaMapOptions[], release: () => void): DmaBuffer {
    const { size, offset } = range;
    const iova = this.#takeIova(size, placements);
    const permission = placements[0]?.permission ?? "read-write";
    try {
      this.#space.map({ arena: this.arena, offset }, size, iova, permission);
    } catch (error) {
      this.#space.releaseIova(iova);
      throw error;
    }
    const parts = { iova, size, permission, arena: this.arena, arenaOffset: offset };
    const buffer: MappedBuffer = new MappedBuffer(parts, () => {
      this.#buffers.delete(buffer);
      this.#space.unmap(iova);
      this.#space.releaseIova(iova);
      release();
    });
    this.#buffers.add(buffer);
    return buffer;
  }

  /** The first placement that there is room for. */
  #takeIova(size: number, placements: readonly DmaMapOptions[]): number {
    for (const [i, options] of placements.entries()) {
      try {
        return this.#space.takeIova(size, options);
      } catch (error) {
        if (!isRing3Error(error, "IOVA_EXHAUSTED") || i === placements.length - 1) throw error;
      }
    }
    throw new Ring3Error("DMA_INVALID", "no placement was asked for");
  }

  #checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#noIommu) throw noIommuError();
  }
}

/** The IOMMU maps 2 MiB at once where IOVA and memory are aligned to it; where there is no room, pages do. */
function largePagesPreferred(options: DmaMapOptions): DmaMapOptions[] {
  if (options.iova !== undefined || options.alignment !== undefined) return [options];
  return [{ ...options, alignment: hugeBytes }, options];
}

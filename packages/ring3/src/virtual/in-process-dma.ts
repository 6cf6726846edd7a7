// DMA memory of a function in process: memory of the arena that device and driver share, mapped for the device under an
// IOVA. The order is always unmap first, then give the memory back.
import { Ring3Error } from "../binary/error.ts";
import type { Arena, ArenaRange } from "../memory/arena.ts";
import { IovaAllocator, type IovaRange } from "../memory/iova-allocator.ts";
import { MappedBuffer } from "../pci/dma-buffer.ts";
import type { DmaBuffer, DmaLimits, DmaMapOptions, DmaPermission, DmaSpace } from "../pci/function.ts";
import type { GuestMemory } from "./guest-memory.ts";

const PAGE = 4096;
/** As behind an IOMMU on a PC: 48 bits, without the window of interrupt messages. */
const anywhere: readonly IovaRange[] = [
  { first: 0, last: 0xfedf_ffff },
  { first: 0xfef0_0000, last: 2 ** 48 - 1 },
];

/** Where a live buffer lies, for workers. */
export interface InProcessMapping {
  readonly iova: number;
  readonly size: number;
  readonly arenaOffset: number;
  readonly permission: DmaPermission;
}

export class InProcessDma implements DmaSpace {
  readonly arena: Arena;
  readonly #memory: GuestMemory;
  readonly #iovas: IovaAllocator;
  readonly #buffers: Set<MappedBuffer> = new Set();
  #ended: Ring3Error | undefined;

  /** `ranges` is where IOVAs may lie. */
  constructor(arena: Arena, memory: GuestMemory, ranges: readonly IovaRange[] = anywhere) {
    this.arena = arena;
    this.#iovas = new IovaAllocator(ranges);
    this.#memory = memory;
  }

  limits(): DmaLimits {
    this.#checkOpen();
    return {
      ranges: this.#iovas.ranges,
      pageSizes: [PAGE, 2 ** 21],
      mappingsLeft: this.#memory.maximum - this.#memory.count,
      lockableBytes: undefined,
    };
  }

  /** Bytes that are mapped now. */
  get mappedBytes(): number {
    return this.#memory.mappedBytes;
  }

  allocate(size: number, options: DmaMapOptions = {}): DmaBuffer {
    this.#checkOpen();
    if (!(Number.isSafeInteger(size) && size > 0)) throw new Ring3Error("DMA_INVALID", `not a size in bytes: ${size}`);
    const range = this.arena.reserve(Math.ceil(size / PAGE) * PAGE);
    try {
      return this.#map(range, options, () => range[Symbol.dispose]());
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
        "the range lies in another arena than the device's; declare the device with that arena",
      );
    }
    if (range.offset % PAGE !== 0 || range.size % PAGE !== 0) {
      throw new Ring3Error("DMA_INVALID", `only whole pages can be mapped, not ${range.size} bytes at ${range.offset}`);
    }
    const hold = range.hold();
    try {
      return this.#map(range, options, () => hold[Symbol.dispose]());
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }

  unmapAll(): void {
    for (const buffer of Array.from(this.#buffers)) buffer[Symbol.dispose]();
  }

  /** Where each live buffer lies. */
  mappings(): InProcessMapping[] {
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

  #map(range: ArenaRange, options: DmaMapOptions, release: () => void): DmaBuffer {
    const { iova: fixed, permission = "read-write", ...placement } = options;
    const { size, offset } = range;
    if (fixed !== undefined) this.#iovas.reserve(fixed, size);
    const iova = fixed ?? this.#iovas.allocate(size, placement);
    try {
      const backing = { bytes: this.arena.bytes(offset, size), arenaOffset: offset };
      this.#memory.map(iova, size, permission, backing);
    } catch (error) {
      this.#iovas.release(iova);
      throw error;
    }
    const parts = { iova, size, permission, arena: this.arena, arenaOffset: offset };
    const buffer: MappedBuffer = new MappedBuffer(parts, () => {
      this.#buffers.delete(buffer);
      this.#memory.unmap(iova, size);
      this.#iovas.release(iova);
      release();
    });
    this.#buffers.add(buffer);
    return buffer;
  }

  #checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }
}

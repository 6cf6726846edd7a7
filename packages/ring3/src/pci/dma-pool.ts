// Many small DMA buffers in few mappings. A mapping costs the kernel an entry (65,535 by default), a system call and a
// page at least; a pool maps slabs and hands out parts of them. The price: a part that was given back stays reachable for
// the device until its whole slab is free, so a late DMA hits the pool's memory (never anybody else's). Where that
// matters, `dma.allocate` gives each buffer a mapping of its own.
import { Ring3Error } from "../binary/error.ts";
import { FreeRanges } from "../memory/free-ranges.ts";
import { MappedBuffer } from "./dma-buffer.ts";
import type { DmaBuffer, DmaMapOptions, DmaSpace } from "./function.ts";

export interface DmaPoolOptions extends Pick<DmaMapOptions, "permission" | "below"> {
  /** Bytes of a slab, 2 MiB by default; larger requests get a slab of their own. */
  readonly slabBytes?: number;
}

interface Slab {
  readonly buffer: DmaBuffer;
  readonly free: FreeRanges;
}

/** Sub-allocates DMA memory from slabs. All buffers of a pool share permission and `below`. */
export class DmaPool implements Disposable {
  readonly #dma: DmaSpace;
  readonly #options: DmaPoolOptions;
  readonly #slabBytes: number;
  readonly #slabs: Set<Slab> = new Set();
  readonly #buffers: Set<MappedBuffer> = new Set();
  #disposed = false;

  constructor(dma: DmaSpace, options: DmaPoolOptions = {}) {
    this.#dma = dma;
    this.#options = options;
    this.#slabBytes = options.slabBytes ?? 2 ** 21;
  }

  /** How many mappings the pool holds. */
  get slabCount(): number {
    return this.#slabs.size;
  }

  /**
   * Takes `size` zeroed bytes (rounded up to 64, a cache line) whose IOVA is a multiple of `alignment`, a power of two
   * from 64 (default) to 4096. Throws what `dma.allocate` throws.
   */
  allocate(size: number, alignment = 64): DmaBuffer {
    if (this.#disposed) throw new Ring3Error("DMA_UNMAPPED", "the pool was disposed");
    if (!(Number.isSafeInteger(size) && size > 0)) throw new Ring3Error("DMA_INVALID", `not a size in bytes: ${size}`);
    if (!(alignment >= 64 && alignment <= 4096 && Number.isInteger(Math.log2(alignment)))) {
      throw new Ring3Error("DMA_INVALID", `a pool aligns to a power of two from 64 to 4096, not ${alignment}`);
    }
    const bytes = Math.ceil(size / 64) * 64;
    for (const slab of this.#slabs) {
      const buffer = this.#take(slab, bytes, alignment);
      if (buffer !== undefined) return buffer;
    }
    const mapping = this.#dma.allocate(Math.max(bytes, this.#slabBytes), this.#options);
    const slab: Slab = { buffer: mapping, free: new FreeRanges() };
    slab.free.give(0, mapping.size);
    this.#slabs.add(slab);
    return this.#take(slab, bytes, alignment) as DmaBuffer;
  }

  /** Unmaps all slabs, and with them every buffer of the pool. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const buffer of Array.from(this.#buffers)) buffer[Symbol.dispose]();
    for (const { buffer } of this.#slabs) buffer[Symbol.dispose]();
    this.#slabs.clear();
  }

  #take(slab: Slab, size: number, alignment: number): DmaBuffer | undefined {
    const at = slab.free.take(size, { alignment, low: 0, high: slab.buffer.size });
    if (at === undefined) return undefined;
    const { iova, arenaOffset, arena, permission } = slab.buffer;
    const range = { iova: iova + at, size, permission, arena, arenaOffset: arenaOffset + at };
    const buffer: MappedBuffer = new MappedBuffer(range, () => {
      this.#buffers.delete(buffer);
      arena.bytes(range.arenaOffset, size).fill(0);
      slab.free.give(at, size);
      // The last slab is kept, so that a driver that takes and gives one buffer does not map each time.
      if (slab.free.bytes === slab.buffer.size && this.#slabs.size > 1) {
        this.#slabs.delete(slab);
        slab.buffer[Symbol.dispose]();
      }
    });
    this.#buffers.add(buffer);
    return buffer;
  }
}

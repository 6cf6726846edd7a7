// DMA of a fake function: arena memory under an IOVA map. The device's side reaches what is mapped, as far as permissions
// and bus mastering allow, and nothing else.
import { Ring3Error } from "../../packages/ring3/src/binary/error.ts";
import type { Arena, ArenaRange } from "../../packages/ring3/src/memory/arena.ts";
import { IovaAllocator } from "../../packages/ring3/src/memory/iova-allocator.ts";
import { MappedBuffer } from "../../packages/ring3/src/pci/dma-buffer.ts";
import type { DmaBuffer, DmaLimits, DmaMapOptions, DmaSpace } from "../../packages/ring3/src/pci/function.ts";

const RANGES = [
  { first: 0, last: 0xfedf_ffff },
  { first: 0xfef0_0000, last: 2 ** 48 - 1 },
];

export class FakeDma implements DmaSpace {
  readonly arena: Arena;
  readonly #check: () => void;
  readonly #mayMaster: () => boolean;
  readonly #iovas: IovaAllocator = new IovaAllocator(RANGES);
  readonly #buffers: Set<MappedBuffer> = new Set();
  /** DMA accesses that found nothing mapped. */
  faults = 0;

  constructor(arena: Arena, check: () => void, mayMaster: () => boolean) {
    this.arena = arena;
    this.#check = check;
    this.#mayMaster = mayMaster;
  }

  /** Bytes that are mapped now. */
  get mappedBytes(): number {
    let sum = 0;
    for (const { size } of this.#buffers) sum += size;
    return sum;
  }

  limits(): DmaLimits {
    return {
      ranges: this.#iovas.ranges,
      pageSizes: [4096, 2 ** 21],
      mappingsLeft: undefined,
      lockableBytes: undefined,
    };
  }

  allocate(size: number, options: DmaMapOptions = {}): DmaBuffer {
    this.#check();
    if (!(Number.isSafeInteger(size) && size > 0)) throw new Ring3Error("DMA_INVALID", `not a size in bytes: ${size}`);
    const range = this.arena.reserve(size);
    try {
      return this.#map(range, options, () => range[Symbol.dispose]());
    } catch (error) {
      range[Symbol.dispose]();
      throw error;
    }
  }

  map(range: ArenaRange, options: DmaMapOptions = {}): DmaBuffer {
    this.#check();
    const hold = range.hold();
    try {
      return this.#map(range, options, () => hold[Symbol.dispose]());
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }

  unmapAll(): void {
    for (const buffer of [...this.#buffers]) buffer[Symbol.dispose]();
  }

  #map(range: ArenaRange, options: DmaMapOptions, release: () => void): DmaBuffer {
    const { iova: fixed, permission = "read-write", ...placement } = options;
    if (fixed !== undefined) this.#iovas.reserve(fixed, range.size);
    const iova = fixed ?? this.#iovas.allocate(range.size, placement);
    const parts = { iova, size: range.size, permission, arena: this.arena, arenaOffset: range.offset };
    const buffer: MappedBuffer = new MappedBuffer(parts, () => {
      this.#buffers.delete(buffer);
      this.#iovas.release(iova);
      release();
    });
    this.#buffers.add(buffer);
    return buffer;
  }

  /** The device's side: reads memory; `undefined` where any of it cannot be read. */
  read(iova: number, size: number): Uint8Array | undefined {
    const target = new Uint8Array(size);
    const done = this.#each(iova, size, "write", (bytes, at) => target.set(bytes, at));
    return done ? target : undefined;
  }

  /** The device's side: writes memory; false where any of it cannot be written (what comes before it is). */
  write(iova: number, source: Uint8Array): boolean {
    return this.#each(iova, source.length, "read", (bytes, at) => bytes.set(source.subarray(at, at + bytes.length)));
  }

  /** The device's side: one 32-bit store, so that whoever looks sees all of it or nothing. */
  write32(iova: number, value: number): boolean {
    return this.#each(iova, 4, "read", (bytes) => {
      Atomics.store(new Uint32Array(bytes.buffer, bytes.byteOffset, 1), 0, value);
    });
  }

  #each(
    iova: number,
    size: number,
    forbidden: "read" | "write",
    use: (bytes: Uint8Array, at: number) => void,
  ): boolean {
    for (let at = 0; at < size; ) {
      const place = iova + at;
      const buffer = [...this.#buffers].find((one) => place >= one.iova && place < one.iova + one.size);
      if (buffer === undefined || buffer.permission === forbidden || !this.#mayMaster()) {
        this.faults++;
        return false;
      }
      const offset = place - buffer.iova;
      const part = Math.min(size - at, buffer.size - offset);
      use(buffer.bytes.subarray(offset, offset + part), at);
      at += part;
    }
    return true;
  }
}

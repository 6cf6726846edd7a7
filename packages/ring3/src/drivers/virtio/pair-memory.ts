// The rings of one pair of queues in one run of DMA memory.
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import type { BufferRing } from "./buffer-ring.ts";
import { PackedRing, packedRingBytes } from "./packed-ring.ts";
import { SplitRing, splitRingBytes } from "./split-ring.ts";

const PAGE = 4096;

export class PairMemory implements Disposable {
  readonly #buffer: DmaBuffer;
  readonly #size: number;
  readonly #packed: boolean;
  readonly #step: number;

  constructor(fn: PciFunction, size: number, packed: boolean) {
    this.#size = size;
    this.#packed = packed;
    this.#step = Math.ceil((packed ? packedRingBytes(size) : splitRingBytes(size)) / PAGE) * PAGE;
    this.#buffer = fn.dma.allocate(2 * this.#step);
  }

  /** Two empty rings, to receive and to transmit. */
  rings(eventIndex: boolean): { readonly receive: BufferRing; readonly transmit: BufferRing } {
    this.#buffer.bytes.fill(0);
    return { receive: this.#ring(0, eventIndex), transmit: this.#ring(this.#step, eventIndex) };
  }

  #ring(at: number, eventIndex: boolean): BufferRing {
    const { arena, arenaOffset, iova } = this.#buffer;
    const place = {
      size: this.#size,
      words: arena.words(arenaOffset + at, this.#step / 4),
      halfwords: arena.halfwords(arenaOffset + at, this.#step / 2),
      iova: iova + at,
      eventIndex,
    };
    return this.#packed ? new PackedRing(place) : new SplitRing(place);
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

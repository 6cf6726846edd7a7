// One mapping as its owner sees it. After disposal its views throw; views taken before still show the memory, which stays
// the arena's, but the device cannot reach it any more.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "../memory/arena.ts";
import type { DmaBuffer, DmaPermission } from "./function.ts";

interface MappedRange {
  readonly iova: number;
  readonly size: number;
  readonly permission: DmaPermission;
  readonly arena: Arena;
  readonly arenaOffset: number;
}

export class MappedBuffer implements DmaBuffer {
  readonly iova: number;
  readonly size: number;
  readonly permission: DmaPermission;
  readonly arena: Arena;
  readonly arenaOffset: number;
  #bytes: Uint8Array | undefined;
  #words: Uint32Array | undefined;
  #unmap: (() => void) | undefined;

  /** `unmap` takes the range away from the device and gives back what belongs to it; it is called once. */
  constructor(range: MappedRange, unmap: () => void) {
    this.iova = range.iova;
    this.size = range.size;
    this.permission = range.permission;
    this.arena = range.arena;
    this.arenaOffset = range.arenaOffset;
    this.#unmap = unmap;
  }

  get bytes(): Uint8Array {
    this.#checkMapped();
    this.#bytes ??= this.arena.bytes(this.arenaOffset, this.size);
    return this.#bytes;
  }

  get words(): Uint32Array {
    this.#checkMapped();
    this.#words ??= this.arena.words(this.arenaOffset, this.size >>> 2);
    return this.#words;
  }

  get mapped(): boolean {
    return this.#unmap !== undefined;
  }

  [Symbol.dispose](): void {
    const unmap = this.#unmap;
    this.#unmap = undefined;
    this.#bytes = undefined;
    this.#words = undefined;
    unmap?.();
  }

  #checkMapped(): void {
    if (this.#unmap === undefined) {
      throw new Ring3Error("DMA_UNMAPPED", `the ${this.size} bytes at IOVA 0x${this.iova.toString(16)} were unmapped`);
    }
  }
}

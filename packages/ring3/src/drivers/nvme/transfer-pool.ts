// Payload memory for the operations that copy. Pieces are made as they are needed, up to a limit, and kept; whoever finds
// none free waits in line.
import type { DataSegment } from "./data-pointer.ts";

/** A borrowed piece of memory: give it back with {@link TransferPool.give}. */
export interface Transfer {
  readonly iova: number;
  readonly bytes: Uint8Array;
  readonly large: boolean;
  /** The first `size` bytes as the data of a command. */
  segment(size: number): readonly DataSegment[];
}

/** Makes a run of memory that the device reaches. Its owner frees it. */
export type TransferSource = (size: number) => { readonly iova: number; readonly bytes: Uint8Array };

class Shelf {
  readonly free: Transfer[] = [];
  readonly waiting: ((transfer: Transfer) => void)[] = [];
  made = 0;
}

const SMALL_SLAB = 16;

export class TransferPool {
  readonly #source: TransferSource;
  readonly #smallBytes: number;
  readonly #largeBytes: number;
  readonly #limits: { readonly small: number; readonly large: number };
  readonly #small: Shelf = new Shelf();
  readonly #large: Shelf = new Shelf();

  constructor(
    source: TransferSource,
    sizes: { readonly smallBytes: number; readonly largeBytes: number },
    limits: { readonly small: number; readonly large: number } = { small: 64, large: 8 },
  ) {
    this.#source = source;
    this.#smallBytes = sizes.smallBytes;
    this.#largeBytes = sizes.largeBytes;
    this.#limits = limits;
  }

  /** Largest piece in bytes. */
  get maxBytes(): number {
    return this.#largeBytes;
  }

  /** A piece of at least `size` bytes, which is at most {@link maxBytes}; a promise only where it must wait. */
  take(size: number): Transfer | Promise<Transfer> {
    const large = size > this.#smallBytes;
    const shelf = large ? this.#large : this.#small;
    const transfer = shelf.free.pop() ?? this.#make(shelf, large);
    return transfer ?? new Promise((resolve) => shelf.waiting.push(resolve));
  }

  /** Gives a piece back, to the first that waits. */
  give(transfer: Transfer): void {
    const shelf = transfer.large ? this.#large : this.#small;
    const next = shelf.waiting.shift();
    if (next === undefined) shelf.free.push(transfer);
    else next(transfer);
  }

  #make(shelf: Shelf, large: boolean): Transfer | undefined {
    const limit = large ? this.#limits.large : this.#limits.small;
    if (shelf.made >= limit) return undefined;
    const size = large ? this.#largeBytes : this.#smallBytes;
    const count = large ? 1 : Math.min(SMALL_SLAB, limit - shelf.made);
    let memory: ReturnType<TransferSource>;
    try {
      memory = this.#source(size * count);
    } catch (error) {
      // With pieces in use it is enough to wait for one of them.
      if (shelf.made > 0) return undefined;
      throw error;
    }
    shelf.made += count;
    for (let i = 0; i < count; i++) {
      const iova = memory.iova + i * size;
      const bytes = memory.bytes.subarray(i * size, (i + 1) * size);
      shelf.free.push({ iova, bytes, large, segment: (used) => [{ iova, size: used }] });
    }
    return shelf.free.pop();
  }
}

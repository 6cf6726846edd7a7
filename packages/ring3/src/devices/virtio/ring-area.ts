// One area of a virtqueue in guest memory. Where the guest shares its memory the typed arrays lie over it; where it does
// not they are a copy, fetched before and published after each use by messages. Rings are written once for both.
import type { ChainMemory } from "./descriptor-chain.ts";
import { ringViolation } from "./descriptor-chain.ts";

/** An area of a ring: `halfwords` and `words` from its first byte on. */
export class RingArea {
  readonly iova: number;
  readonly size: number;
  readonly halfwords: Uint16Array;
  /** Empty where the area is aligned to 2 bytes only. */
  readonly words: Uint32Array;
  /** Whether the arrays are a copy. */
  readonly remote: boolean;
  readonly #memory: ChainMemory;
  readonly #copy: Uint8Array;

  /** Throws `DMA_FAULT` where the area is not mapped. */
  constructor(memory: ChainMemory, iova: number, size: number, access: "read" | "write" | "read-write") {
    this.#memory = memory;
    this.iova = iova;
    this.size = size;
    const readable = access === "write" ? undefined : memory.view(iova, size, "read");
    const writable = access === "read" ? undefined : memory.view(iova, size, "write");
    const view = access === "read" ? readable : access === "write" ? writable : readable && writable;
    this.remote = view === undefined || view.byteOffset % (iova % 4 === 0 ? 4 : 2) !== 0;
    this.#copy = this.remote ? new Uint8Array(Math.ceil(size / 4) * 4) : new Uint8Array(0);
    if (this.remote && access !== "write") memory.read(iova, this.#copy.subarray(0, size));
    const bytes = view === undefined || this.remote ? this.#copy : view;
    this.halfwords = new Uint16Array(bytes.buffer, bytes.byteOffset, Math.floor(size / 2));
    this.words =
      bytes.byteOffset % 4 === 0
        ? new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(size / 4))
        : new Uint32Array(0);
  }

  /** Brings `size` bytes from `offset` on up to date, where the arrays are a copy. */
  fetch(offset: number, size: number): void {
    if (this.remote) this.#memory.read(this.iova + offset, this.#copy.subarray(offset, offset + size));
  }

  /** Makes `size` bytes from `offset` on visible to the driver, or tells that they were written. */
  publish(offset: number, size: number): void {
    if (this.remote) this.#memory.write(this.iova + offset, this.#copy.subarray(offset, offset + size));
    else this.#memory.written(this.iova + offset, size);
  }

  overlaps(iova: number, size: number): boolean {
    return this.iova < iova + size && iova < this.iova + this.size;
  }
}

/** Where a virtqueue lies and which features shape it. */
export interface QueueSettings {
  readonly size: number;
  /** IOVAs of the three areas, section 2.6. */
  readonly descriptor: number;
  readonly driver: number;
  readonly device: number;
  readonly indirect: boolean;
  readonly eventIndex: boolean;
}

/** Throws `VIRTIO_RING` where an area of `settings` is not aligned as its kind of ring asks. */
export function checkAlignment(
  settings: QueueSettings,
  alignment: { readonly descriptor: number; readonly driver: number; readonly device: number },
): void {
  for (const name of ["descriptor", "driver", "device"] as const) {
    const iova = settings[name];
    if (iova >= 2 ** 53) throw ringViolation(`its ${name} area lies above 2^53`);
    if (iova % alignment[name] !== 0) {
      throw ringViolation(`its ${name} area at 0x${iova.toString(16)} is not aligned to ${alignment[name]} bytes`);
    }
  }
}

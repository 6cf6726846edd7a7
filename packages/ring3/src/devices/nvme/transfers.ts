// Data between guest memory and everything else, by segments. Bounce buffers are reused: a file that is not read straight
// into the guest would otherwise cost an allocation for each command.
import type { GuestMemory } from "../../virtual/guest-memory.ts";
import { NOWHERE, type Segments } from "./segments.ts";

/** Buffers kept for reuse, and the smallest that is made. */
const KEPT_BUFFERS = 16;
const SMALLEST_BUFFER = 4096;
const PAGE = 4096;

export class Transfers {
  readonly #memory: GuestMemory;
  readonly #buffers: Uint8Array[] = [];

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Throws `DMA_FAULT` unless the device may access all of it in that direction; moves nothing where it may. */
  check(segments: Segments, access: "read" | "write"): void {
    for (let i = 0; i < segments.count; i++) {
      const iova = segments.iovas[i] as number;
      const size = segments.sizes[i] as number;
      if (iova !== NOWHERE && this.#memory.find(iova, size, access) === undefined) this.#checkParts(iova, size, access);
    }
  }

  /** A piece that lies in several maps, page by page: the access to one that is not there reports the fault. */
  #checkParts(iova: number, size: number, access: "read" | "write"): void {
    for (let at = 0; at < size; ) {
      const part = Math.min(size - at, PAGE - ((iova + at) % PAGE));
      if (this.#memory.find(iova + at, part, access) === undefined) {
        if (access === "read") this.#memory.read(iova + at, new Uint8Array(part));
        else this.#memory.write(iova + at, new Uint8Array(part));
      }
      at += part;
    }
  }

  /** Writes as much of `source`, from byte `from` on, as the segments hold. Throws `DMA_FAULT`. */
  toGuest(segments: Segments, source: Uint8Array, from = 0): void {
    let at = from;
    for (let i = 0; i < segments.count; i++) {
      const iova = segments.iovas[i] as number;
      const size = segments.sizes[i] as number;
      if (iova !== NOWHERE) this.#memory.write(iova, source.subarray(at, at + size));
      at += size;
    }
  }

  /** Fills `target`, from byte `to` on, with what the segments hold. Throws `DMA_FAULT`. */
  fromGuest(segments: Segments, target: Uint8Array, to = 0): void {
    let at = to;
    for (let i = 0; i < segments.count; i++) {
      const size = segments.sizes[i] as number;
      this.#memory.read(segments.iovas[i] as number, target.subarray(at, at + size));
      at += size;
    }
  }

  /** A buffer of exactly `size` bytes with any content; give it back. */
  take(size: number): Uint8Array {
    for (let i = this.#buffers.length - 1; i >= 0; i--) {
      const buffer = this.#buffers[i] as Uint8Array;
      if (buffer.length < size) continue;
      this.#buffers.splice(i, 1);
      return buffer.length === size ? buffer : buffer.subarray(0, size);
    }
    let capacity = SMALLEST_BUFFER;
    while (capacity < size) capacity *= 2;
    return new Uint8Array(capacity).subarray(0, size);
  }

  give(buffer: Uint8Array): void {
    if (this.#buffers.length < KEPT_BUFFERS) this.#buffers.push(new Uint8Array(buffer.buffer));
  }
}

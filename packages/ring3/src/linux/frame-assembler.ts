// Takes a stream apart into frames, each behind its length: 32 bits, big endian, as QEMU's `-netdev stream` sends them.
// Frames that lie whole in a chunk are not copied; nothing is kept but the one frame that is not there yet.

const LENGTH_BYTES = 4;

export class FrameAssembler {
  readonly #limit: number;
  readonly #partial: Uint8Array;
  #filled = 0;

  /** Frames of more than `limit` bytes mean that the stream is out of step. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#partial = new Uint8Array(LENGTH_BYTES + limit);
  }

  /** Calls `take` for each frame that `chunk` completes; its bytes are valid during the call. `false`: out of step. */
  push(chunk: Uint8Array, take: (frame: Uint8Array) => void): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#filled === 0 && chunk.length - at >= LENGTH_BYTES) {
        const size = lengthAt(chunk, at);
        if (size > this.#limit) return false;
        const end = at + LENGTH_BYTES + size;
        if (end <= chunk.length) {
          take(chunk.subarray(at + LENGTH_BYTES, end));
          at = end;
          continue;
        }
      }
      const wanted = this.#filled < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + lengthAt(this.#partial, 0);
      const part = Math.min(wanted - this.#filled, chunk.length - at);
      this.#partial.set(chunk.subarray(at, at + part), this.#filled);
      this.#filled += part;
      at += part;
      if (this.#filled < LENGTH_BYTES) return true;
      const size = lengthAt(this.#partial, 0);
      if (size > this.#limit) return false;
      if (this.#filled < LENGTH_BYTES + size) continue;
      this.#filled = 0;
      take(this.#partial.subarray(LENGTH_BYTES, LENGTH_BYTES + size));
    }
    return true;
  }
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

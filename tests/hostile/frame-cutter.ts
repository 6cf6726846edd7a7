// Cuts what a client sends into messages, with the kinds of the descriptors that came along.
import type { RecordedFd } from "./recording.ts";

const HEADER_BYTES = 16;
const SIZE_AT = 4;

export class FrameCutter {
  readonly #found: (bytes: Uint8Array, fds: readonly RecordedFd[]) => void;
  #bytes = Buffer.alloc(0);
  #fds: RecordedFd[] = [];

  constructor(found: (bytes: Uint8Array, fds: readonly RecordedFd[]) => void) {
    this.#found = found;
  }

  /** Descriptors belong to the last message that starts in `bytes`. */
  add(bytes: Uint8Array, fds: readonly RecordedFd[]): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    this.#fds.push(...fds);
    while (this.#bytes.length >= HEADER_BYTES) {
      const size = this.#bytes.readUInt32LE(SIZE_AT);
      if (size < HEADER_BYTES || this.#bytes.length < size) return;
      const frame = Uint8Array.from(this.#bytes.subarray(0, size));
      this.#bytes = this.#bytes.subarray(size);
      this.#found(frame, this.#bytes.length === 0 ? this.#fds.splice(0) : []);
    }
  }
}

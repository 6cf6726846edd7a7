// DMA memory in two places: the driver works on one, the device on the other, and what either wrote is copied at moments
// that are known. So it is certain who wrote what and when, and what the device wrote can be seen, or changed, before the
// driver sees it. Hard about it: both write at any time, the same page, so what is copied is what changed since the last
// look, byte by byte, and never a byte more.

/** Words compared at once before bytes are looked at. */
const CHUNK_WORDS = 1024;
/** Looks at a run that is still changing, before it is taken as it is. */
const SETTLING_LOOKS = 16;

/** Told of each run of bytes that was copied. */
export type Copied = (by: "driver" | "device", offset: number, bytes: Uint8Array) => void;

/** One of the two places, and what it held at the last look. */
class Side {
  readonly bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #seen: Int32Array;
  readonly #seenBytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    this.#seen = new Int32Array(bytes.length / 4);
    this.#seenBytes = new Uint8Array(this.#seen.buffer);
  }

  /** Calls `found` with each run that changed since the last look. */
  changes(found: (offset: number, bytes: Uint8Array) => void): boolean {
    const words = this.#words;
    const seen = this.#seen;
    let any = false;
    for (let at = 0; at < words.length; at += CHUNK_WORDS) {
      const end = Math.min(at + CHUNK_WORDS, words.length);
      let i = at;
      while (i < end && words[i] === seen[i]) i++;
      if (i === end) continue;
      any = true;
      this.#runs(at * 4, end * 4, found);
    }
    return any;
  }

  /** What the other side wrote. */
  take(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
    this.#seenBytes.set(bytes, offset);
  }

  #runs(start: number, end: number, found: (offset: number, bytes: Uint8Array) => void): void {
    const now = this.#settled(start, end);
    const seen = this.#seenBytes;
    const size = end - start;
    for (let at = 0; at < size; ) {
      if (now[at] === seen[start + at]) {
        at++;
        continue;
      }
      const first = at;
      while (at < size && now[at] !== seen[start + at]) at++;
      const bytes = now.subarray(first, at);
      seen.set(bytes, start + first);
      found(start + first, bytes);
    }
  }

  /** The bytes once they do not change between two looks: a device may be in the middle of an entry. */
  #settled(start: number, end: number): Uint8Array {
    let now = this.bytes.slice(start, end);
    for (let look = 0; look < SETTLING_LOOKS; look++) {
      const next = this.bytes.slice(start, end);
      if (next.every((byte, i) => byte === now[i])) break;
      now = next;
    }
    return now;
  }
}

/** Memory that is bounced between its two places. Both begin with the same content, which need not be zero. */
export class BouncedMemory {
  readonly #driver: Side;
  readonly #device: Side;
  readonly #copied: Copied;

  /** Whole words, aligned. */
  constructor(driver: Uint8Array, device: Uint8Array, copied: Copied) {
    this.#driver = new Side(driver);
    this.#device = new Side(device);
    this.#copied = copied;
  }

  /** Hands what the driver wrote to the device. */
  toDevice(): void {
    this.#driver.changes((offset, bytes) => {
      this.#device.take(offset, bytes);
      this.#copied("driver", offset, bytes);
    });
  }

  /** Changes what the driver sees, as if the device had written it; the device's own memory stays. */
  patch(offset: number, bytes: Uint8Array): void {
    this.#driver.take(offset, bytes);
  }

  /** Hands what the device wrote to the driver; whether there was anything. */
  toDriver(): boolean {
    return this.#device.changes((offset, bytes) => {
      this.#driver.take(offset, bytes);
      this.#copied("device", offset, bytes);
    });
  }
}

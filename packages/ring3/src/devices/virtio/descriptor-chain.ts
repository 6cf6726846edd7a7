// One buffer of a virtqueue as the device sees it: segments that it may read, then segments that it may write. A chain is
// filled again for each buffer, so that taking one allocates nothing. Hard about it: every number comes from the driver,
// is read once, and is bounded here before anything is done with it.
import { Ring3Error } from "../../binary/error.ts";

/** Segments that a chain may have, whatever the ring's size: also the limit of an indirect table. */
export const CHAIN_LIMIT = 1024;

/** What chains and rings need of guest memory: `GuestMemory` of `virtual/`, or a test's own. */
export interface ChainMemory {
  read(iova: number, target: Uint8Array): void;
  write(iova: number, source: Uint8Array): void;
  view(iova: number, size: number, access: "read" | "write"): Uint8Array | undefined;
  written(iova: number, size: number): void;
}

/** The error of a ring that breaks the rules; the device answers it with DEVICE_NEEDS_RESET. */
export function ringViolation(reason: string): Ring3Error {
  return new Ring3Error(
    "VIRTIO_RING",
    `the driver broke a rule of its virtqueue: ${reason}; it has to reset the device`,
  );
}

/** A chain of descriptors: device-readable segments first, device-writable ones after them. */
export class DescriptorChain {
  /** Split: index of the head. Packed: buffer id. */
  head = 0;
  /** Slots of the ring that it takes: 1 in split rings. */
  span = 1;
  /** Segments in all. */
  count = 0;
  /** Segments that the device may read: the first ones. */
  readableCount = 0;
  readableBytes = 0;
  writableBytes = 0;
  /** IOVA of each segment. */
  addresses: Float64Array = new Float64Array(8);
  lengths: Uint32Array = new Uint32Array(8);

  clear(): void {
    this.count = 0;
    this.readableCount = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
    this.span = 1;
  }

  copy(other: DescriptorChain): void {
    this.head = other.head;
    this.span = other.span;
    this.count = other.count;
    this.readableCount = other.readableCount;
    this.readableBytes = other.readableBytes;
    this.writableBytes = other.writableBytes;
    this.addresses = other.addresses.slice();
    this.lengths = other.lengths.slice();
  }

  /** Adds a segment. Throws `VIRTIO_RING` where a readable one follows a writable one or the address is out of range. */
  append(low: number, high: number, length: number, writable: boolean): void {
    if (length === 0) return;
    if (high >= 2 ** 21) throw ringViolation(`a descriptor's address, 0x${high.toString(16)}_xxxxxxxx, is above 2^53`);
    if (this.count === CHAIN_LIMIT) throw ringViolation(`a chain has more than ${CHAIN_LIMIT} segments`);
    if (this.count === this.lengths.length) this.#grow();
    this.addresses[this.count] = high * 2 ** 32 + low;
    this.lengths[this.count] = length;
    this.count++;
    if (writable) {
      this.writableBytes += length;
    } else {
      if (this.writableBytes > 0) throw ringViolation("a readable descriptor follows a writable one");
      this.readableCount++;
      this.readableBytes += length;
    }
  }

  /** Copies `target.length` readable bytes from byte `from` on. The caller has checked that they are there. */
  readInto(memory: ChainMemory, from: number, target: Uint8Array): void {
    const first = this.lengths[0] as number;
    if (from + target.length <= first) {
      memory.read((this.addresses[0] as number) + from, target);
      return;
    }
    this.#each(0, this.readableCount, from, target.length, (iova, size, done) =>
      memory.read(iova, target.subarray(done, done + size)),
    );
  }

  /** Copies `source` into the writable bytes from byte `from` on. The caller has checked that they are there. */
  writeFrom(memory: ChainMemory, from: number, source: Uint8Array): void {
    const segment = this.readableCount;
    if (from + source.length <= (this.lengths[segment] as number)) {
      memory.write((this.addresses[segment] as number) + from, source);
      return;
    }
    this.#each(segment, this.count, from, source.length, (iova, size, done) =>
      memory.write(iova, source.subarray(done, done + size)),
    );
  }

  /**
   * Views of `length` readable or writable bytes from byte `from` on, one a segment, put into `views`. Returns `false`
   * where some of them lie in no memory of this process, or across two maps.
   */
  views(memory: ChainMemory, access: "read" | "write", from: number, length: number, views: Uint8Array[]): boolean {
    views.length = 0;
    let complete = true;
    const [first, end] = access === "read" ? [0, this.readableCount] : [this.readableCount, this.count];
    this.#each(first, end, from, length, (iova, size) => {
      const view = complete ? memory.view(iova, size, access) : undefined;
      if (view === undefined) complete = false;
      else views.push(view);
    });
    return complete;
  }

  /** Tells that the device wrote `length` writable bytes from byte `from` on through views. */
  written(memory: ChainMemory, from: number, length: number): void {
    this.#each(this.readableCount, this.count, from, length, (iova, size) => memory.written(iova, size));
  }

  #each(
    first: number,
    end: number,
    from: number,
    length: number,
    act: (iova: number, size: number, done: number) => void,
  ): void {
    let skip = from;
    let done = 0;
    for (let i = first; i < end && done < length; i++) {
      const size = this.lengths[i] as number;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const part = Math.min(size - skip, length - done);
      act((this.addresses[i] as number) + skip, part, done);
      skip = 0;
      done += part;
    }
  }

  #grow(): void {
    const addresses = new Float64Array(this.lengths.length * 4);
    const lengths = new Uint32Array(this.lengths.length * 4);
    addresses.set(this.addresses);
    lengths.set(this.lengths);
    this.addresses = addresses;
    this.lengths = lengths;
  }
}

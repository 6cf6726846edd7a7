// Descriptors outside the ring: indirect tables of both kinds of queue, virtio 1.3, sections 2.7.5.3 and 2.8.7. The words
// are read where they lie, from the map's own array, or from a copy where the guest shares no memory.
import { DESCRIPTOR_BYTES } from "../../specs/virtio/rings.ts";
import { CHAIN_LIMIT, ringViolation } from "./descriptor-chain.ts";
import type { RingMemory } from "./virtqueue.ts";

/** Finds the words of an indirect table, without allocating where the guest's memory is shared. */
export class DescriptorTable {
  /** Words that hold the table, from word `first` on. */
  words: Uint32Array = new Uint32Array(0);
  first = 0;
  /** Descriptors in the table. */
  count = 0;
  #copy: Uint8Array | undefined;

  /** Looks up the table that an indirect descriptor names. Throws `VIRTIO_RING` or `DMA_FAULT`. */
  open(memory: RingMemory, low: number, high: number, bytes: number): void {
    if (bytes === 0 || bytes % DESCRIPTOR_BYTES !== 0) {
      throw ringViolation(`an indirect table has ${bytes} bytes, which is no number of descriptors`);
    }
    this.count = bytes / DESCRIPTOR_BYTES;
    if (this.count > CHAIN_LIMIT) throw ringViolation(`an indirect table has more than ${CHAIN_LIMIT} descriptors`);
    if (high >= 2 ** 21) throw ringViolation("an indirect table lies above 2^53");
    const iova = high * 2 ** 32 + low;
    const map = memory.find(iova, bytes, "read");
    const words = map?.words;
    if (map !== undefined && words !== undefined && (iova - map.iova) % 4 === 0) {
      this.words = words;
      this.first = (iova - map.iova) / 4;
      return;
    }
    this.#copy ??= new Uint8Array(CHAIN_LIMIT * DESCRIPTOR_BYTES);
    memory.read(iova, this.#copy.subarray(0, bytes));
    this.words = new Uint32Array(this.#copy.buffer);
    this.first = 0;
  }

  /** Lets go of the guest's memory. */
  close(): void {
    this.words = new Uint32Array(0);
  }
}

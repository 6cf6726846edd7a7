// Frames on their way to a device's queue, in bursts: what is written while packets are handled goes with one call at the
// end, and what the ring had no room for goes first the next time.
import type { NetQueue } from "./device.ts";
import { PACKET_WORDS, Packets, PacketWord } from "./packets.ts";

const BURST = 64;

export class TransmitQueue implements Disposable {
  readonly #queue: NetQueue;
  readonly #packets: Packets;
  #count = 0;
  #dropped = 0;

  constructor(queue: NetQueue) {
    this.#queue = queue;
    this.#packets = new Packets(queue.pool.arena, BURST);
  }

  /** Frames that were dropped because the ring stayed full. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Frames that wait. */
  get waiting(): number {
    return this.#count;
  }

  /** Takes a frame, whose buffer is the queue's from now on; `false` where it was dropped. */
  add(place: number, length: number, flags: number, offload: number): boolean {
    if (this.#count === BURST) {
      this.flush();
      if (this.#count === BURST) {
        this.#queue.pool.give(place);
        this.#dropped++;
        return false;
      }
    }
    const { words } = this.#packets;
    const at = this.#count * PACKET_WORDS;
    words[at + PacketWord.PLACE] = place;
    words[at + PacketWord.LENGTH] = length;
    words[at + PacketWord.FLAGS] = flags;
    words[at + PacketWord.OFFLOAD] = offload;
    this.#count++;
    return true;
  }

  /** Hands over what the ring takes. */
  flush(): void {
    if (this.#count === 0) return;
    const taken = this.#queue.txBurst(this.#packets, this.#count);
    const left = this.#count - taken;
    if (left > 0 && taken > 0) this.#packets.move(taken, left);
    this.#count = left;
  }

  /** Gives back what waits. */
  [Symbol.dispose](): void {
    const { pool } = this.#queue;
    // A device that ends takes its own pool along.
    if (!pool.disposed) pool.giveAll(this.#packets, this.#count);
    this.#count = 0;
    this.#packets[Symbol.dispose]();
  }
}

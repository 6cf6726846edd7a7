// Packets from one queue to another with a program between, all in one emitted function: what costs least for a packet. Hard about
// it: the program is written with the emitter and runs inside the loop, so nothing checks what it does to memory.
import { Ring3Error } from "../../binary/error.ts";
import type { ArenaRange } from "../../memory/arena.ts";
import type { Body } from "../../memory/emitter.ts";
import { emittedForward, type PassingPacket } from "./burst-emitted.ts";
import type { NetQueue } from "./device.ts";
import { Packets } from "./packets.ts";
import { RingQueue } from "./ring-queue.ts";

/**
 * Receives from one queue, runs a program over each packet, and sends to another; none is dropped here.
 *
 * @example
 * import { Forwarder, openNetDevice } from "ring3/net";
 * await using device = await openNetDevice(fn);
 * const [queue] = device.queues;
 * if (queue === undefined) throw new Error("no queue");
 * // Sends everything back with the sender's first byte changed.
 * using echo = new Forwarder(queue, queue, 32, (body, { address }) => body.store8(address, 2, 6));
 * for (;;) if (echo.forward() === 0) await device.receivable(0);
 */
export class Forwarder implements Disposable {
  readonly #from: RingQueue;
  readonly #to: RingQueue;
  readonly #packets: Packets;
  readonly #left: Int32Array;
  readonly #range: ArenaRange;
  #received = 0;
  readonly #forward: (max: number) => number;

  /**
   * `burst`: packets at most in one call. `each` writes the program for one packet: `address` is where its first byte lies in
   * the arena. Throws `NOT_SUPPORTED` where loops cannot be emitted, `NET_INVALID` where the two queues have different pools.
   */
  constructor(from: NetQueue, to: NetQueue, burst: number, each: (body: Body, packet: PassingPacket) => void) {
    const rings = from instanceof RingQueue && to instanceof RingQueue;
    if (!(rings && from.code !== undefined && to.code !== undefined)) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "packets are forwarded in one loop only between queues of this thread whose loops are emitted; use rxBurst and txBurst",
      );
    }
    if (from.pool !== to.pool) {
      throw new Ring3Error(
        "NET_INVALID",
        "the two queues have different packet pools: start both drivers with one pool",
      );
    }
    this.#from = from;
    this.#to = to;
    const { arena } = from.pool;
    this.#packets = new Packets(arena, burst);
    this.#range = arena.reserve(64, 64);
    this.#left = new Int32Array(arena.buffer, this.#range.offset, 1);
    const place = {
      from: from.code,
      to: to.code,
      packets: this.#packets.arenaOffset,
      left: this.#range.offset,
    };
    this.#forward = emittedForward(arena, place, each);
  }

  /**
   * Moves up to `max` packets and returns how many were received; those that there was no room for go first in the next call.
   * 0 while a device is being reset; throws as the queues' bursts do.
   */
  forward(max: number = this.#packets.capacity): number {
    if (!(this.#from.usable && this.#to.usable)) return 0;
    if (this.#left[0] !== 0 && !this.#sendRest()) return 0;
    const most = max < this.#packets.capacity ? max : this.#packets.capacity;
    if (!(most > 0)) return 0;
    this.#received = this.#forward(most);
    this.#from.settle();
    this.#to.settle();
    return this.#received;
  }

  #sendRest(): boolean {
    const left = this.#left[0] as number;
    this.#left[0] = left - this.#to.txBurst(this.#packets, left, this.#received - left);
    return this.#left[0] === 0;
  }

  /** Gives what was not sent back to the pool. */
  [Symbol.dispose](): void {
    const left = this.#left[0] as number;
    if (!this.#from.ended) this.#from.pool.giveAll(this.#packets, left, this.#received - left);
    this.#packets[Symbol.dispose]();
    this.#range[Symbol.dispose]();
  }
}

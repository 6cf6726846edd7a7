// Packet buffers of one size, in memory that every device of a thread can reach, and the stack of those that are free.
// Hard about it: emitted loops take from the same stack, so it lies in the arena; it knows no lock, so a pool belongs to
// one thread, and each queue works with one pool.
//
//   state: [free count, 0 ... ] [place][place][place] ...     a place is the offset of a buffer's start in the pool
//                                              ^ free count
import { Ring3Error } from "../../binary/error.ts";
import type { Arena, ArenaRange } from "../../memory/arena.ts";
import type { DmaBuffer, DmaSpace } from "../../pci/function.ts";
import { PACKET_WORDS, type Packets, PacketWord } from "./packets.ts";

export interface PacketPoolOptions {
  /** How many buffers; 4096 by default. A queue keeps as many as its receive ring has entries. */
  readonly buffers?: number;
  /** Bytes of a buffer, a power of two from 256 to 65536; 2048 by default, which is enough for an MTU of 1500. */
  readonly bufferBytes?: number;
  /** Bytes kept free before a received frame, for headers to be put there; 64 by default. */
  readonly headroom?: number;
}

/** Where a pool lies, in a shared arena; structured-cloneable. */
export interface PacketPoolHandle {
  readonly offset: number;
  readonly stateOffset: number;
  readonly buffers: number;
  readonly bufferBytes: number;
  readonly headroom: number;
}

/** Words of the state before the stack, so that count and stack do not share a cache line. */
export const POOL_STACK_WORD = 16;

/**
 * Buffers for packets. Whoever holds a place owns its buffer: a queue that receives hands it over, a queue that sends takes
 * it, `give` returns it.
 *
 * @example
 * import { PacketPool } from "ring3/net";
 * using pool = PacketPool.create(fn.dma.arena, { buffers: 1024 });
 * const place = pool.take();
 * pool.bytes.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff], place);
 * pool.give(place);
 */
export class PacketPool implements Disposable {
  readonly arena: Arena;
  /** Where the first buffer lies in the arena. */
  readonly arenaOffset: number;
  /** Where the state lies in the arena. */
  readonly stateOffset: number;
  readonly buffers: number;
  readonly bufferBytes: number;
  readonly headroom: number;
  /** All buffers; a packet's place is an index into it. */
  readonly bytes: Uint8Array;
  #state: Int32Array;
  /** Buffers that can be free: none after disposal. */
  #most: number;
  readonly #startMask: number;
  readonly #ranges: readonly ArenaRange[];
  readonly #mapped: Map<DmaSpace, { readonly buffer: DmaBuffer; users: number }> = new Map();

  private constructor(arena: Arena, handle: PacketPoolHandle, ranges: readonly ArenaRange[]) {
    this.arena = arena;
    this.arenaOffset = handle.offset;
    this.stateOffset = handle.stateOffset;
    this.buffers = handle.buffers;
    this.bufferBytes = handle.bufferBytes;
    this.headroom = handle.headroom;
    this.bytes = arena.bytes(handle.offset, handle.buffers * handle.bufferBytes);
    this.#state = new Int32Array(arena.buffer, handle.stateOffset, POOL_STACK_WORD + handle.buffers);
    this.#most = handle.buffers;
    this.#startMask = -handle.bufferBytes;
    this.#ranges = ranges;
  }

  /** A pool with all buffers free. Throws `ARENA_FULL`, `NET_INVALID`. */
  static create(arena: Arena, options: PacketPoolOptions = {}): PacketPool {
    const { buffers = 4096, bufferBytes = 2048, headroom = 64 } = options;
    const whole = Number.isInteger(buffers) && Number.isInteger(headroom) && Number.isInteger(Math.log2(bufferBytes));
    const fits = bufferBytes >= 256 && bufferBytes <= 65536 && headroom >= 0 && headroom <= bufferBytes / 2;
    if (!(whole && fits && buffers >= 1 && buffers * bufferBytes <= 2 ** 31 - 1)) {
      throw new Ring3Error(
        "NET_INVALID",
        `a packet pool takes buffers of 256 to 65536 bytes, a power of two, with a headroom of half of that at most, ` +
          `below 2 GiB together; not ${buffers} of ${bufferBytes} with ${headroom}`,
      );
    }
    const memory = arena.reserve(Math.ceil((buffers * bufferBytes) / 4096) * 4096);
    let state: ArenaRange;
    try {
      state = arena.reserve(4 * (POOL_STACK_WORD + buffers), 64);
    } catch (error) {
      memory[Symbol.dispose]();
      throw error;
    }
    const handle = { offset: memory.offset, stateOffset: state.offset, buffers, bufferBytes, headroom };
    const pool = new PacketPool(arena, handle, [memory, state]);
    pool.#state[0] = buffers;
    // The lowest buffers on top: a pool that is hardly used stays small in the cache.
    for (let i = 0; i < buffers; i++) pool.#state[POOL_STACK_WORD + i] = (buffers - 1 - i) * bufferBytes;
    return pool;
  }

  /** The pool of a handle in the thread that owns it from now on. */
  static attach(arena: Arena, handle: PacketPoolHandle): PacketPool {
    return new PacketPool(arena, handle, []);
  }

  /** Buffers that can be taken. */
  get free(): number {
    return this.#state[0] as number;
  }

  /** Whether its memory was given back: there is nothing to take, and nothing to give back to. */
  get disposed(): boolean {
    return this.#most === 0;
  }

  /** Most bytes of a frame behind the headroom. */
  get room(): number {
    return this.bufferBytes - this.headroom;
  }

  /** A free buffer's place, behind the headroom; -1 where none is free. */
  take(): number {
    const count = (this.#state[0] as number) - 1;
    if (count < 0) return -1;
    this.#state[0] = count;
    return (this.#state[POOL_STACK_WORD + count] as number) + this.headroom;
  }

  /** Gives back the buffer in which `place` lies. Throws `NET_INVALID` for a place outside, or if all are free already. */
  give(place: number): void {
    const count = this.#state[0] as number;
    if (place < 0 || place >= this.bytes.length || count >= this.#most) this.#refuse(place);
    this.#state[POOL_STACK_WORD + count] = place & this.#startMask;
    this.#state[0] = count + 1;
  }

  /** Puts fresh places into the first `count` packets and returns how many there were. Lengths and flags are 0. */
  takeAll(packets: Packets, count: number): number {
    const { words } = packets;
    const taken = Math.min(count, packets.capacity, this.free);
    for (let i = 0, at = 0; i < taken; i++, at += PACKET_WORDS) {
      words[at + PacketWord.PLACE] = this.take();
      words[at + PacketWord.LENGTH] = 0;
      words[at + PacketWord.FLAGS] = 0;
      words[at + PacketWord.OFFLOAD] = 0;
    }
    return taken;
  }

  /** Gives back the buffers of `count` packets from `first` on. */
  giveAll(packets: Packets, count: number, first = 0): void {
    const { words } = packets;
    for (let i = 0, at = first * PACKET_WORDS; i < count; i++, at += PACKET_WORDS) {
      this.give(words[at + PacketWord.PLACE] as number);
    }
  }

  /** The frame of packet `index`, without a copy. It makes an object: in hot loops index `bytes`. */
  frame(packets: Packets, index: number): Uint8Array {
    const at = index * PACKET_WORDS;
    const place = packets.words[at + PacketWord.PLACE] as number;
    return this.bytes.subarray(place, place + (packets.words[at + PacketWord.LENGTH] as number));
  }

  /**
   * Lets a device reach the buffers, and says where: a place's IOVA is `iova + place`. Queues of one device share the mapping;
   * the last disposal unmaps.
   */
  map(dma: DmaSpace): { readonly iova: number } & Disposable {
    const memory = this.#ranges[0];
    if (memory === undefined) {
      throw new Ring3Error("NET_INVALID", "a pool is mapped for devices in the thread that created it");
    }
    const entry = this.#mapped.get(dma) ?? { buffer: dma.map(memory), users: 0 };
    this.#mapped.set(dma, entry);
    entry.users++;
    let open = true;
    return {
      iova: entry.buffer.iova,
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        if (--entry.users > 0) return;
        this.#mapped.delete(dma);
        entry.buffer[Symbol.dispose]();
      },
    };
  }

  /** What another thread needs to take the pool over, besides the arena. */
  handle(): PacketPoolHandle {
    const { arenaOffset: offset, stateOffset, buffers, bufferBytes, headroom } = this;
    return { offset, stateOffset, buffers, bufferBytes, headroom };
  }

  #refuse(place: number): never {
    const reason =
      this.#most === 0
        ? "the pool was disposed"
        : this.free >= this.buffers
          ? "all buffers are free: one was given back twice"
          : `a place lies below ${this.bytes.length}`;
    throw new Ring3Error("NET_INVALID", `cannot give back the buffer at ${place}: ${reason}`);
  }

  /** Gives the memory back once no device has it mapped. Nothing can be taken or given back any more. */
  [Symbol.dispose](): void {
    this.#most = 0;
    this.#state = new Int32Array(1);
    for (const range of this.#ranges) range[Symbol.dispose]();
  }
}

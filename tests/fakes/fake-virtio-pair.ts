// A pair of virtqueues of packets between a driver's queue and a device in the test's hands.
import { PACKET_WORDS, Packets, PacketWord } from "../../packages/ring3/src/drivers/net/packets.ts";
import { PacketPool } from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { QUEUE_WORDS, QueueControl } from "../../packages/ring3/src/drivers/net/queue-state.ts";
import { VirtioNetQueue } from "../../packages/ring3/src/drivers/virtio/net-queue.ts";
import {
  NET_HEADER_BYTES,
  PairWord,
  type RingKind,
  type VirtioQueuePlace,
} from "../../packages/ring3/src/drivers/virtio/queue-place.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { OwnedWindow } from "../../packages/ring3/src/memory/window.ts";
import { type AvailableBuffer, FakeVirtqueue } from "./fake-virtqueue.ts";

const [RECEIVE_NOTIFY, TRANSMIT_NOTIFY] = [0x10, 0x20];
/** What no notification writes. */
const SILENCE = 0xffff;

export interface FakeVirtioPairOptions {
  readonly kind: RingKind;
  readonly size?: number;
  readonly buffers?: number;
  readonly headroom?: number;
  readonly emit: boolean;
  /** Bits of `PairFeature`. */
  readonly features?: number;
  readonly frameBytes?: number;
}

export class FakeVirtioPair implements Disposable {
  readonly arena: Arena;
  readonly pool: PacketPool;
  readonly packets: Packets;
  readonly queue: VirtioNetQueue;
  readonly receive: FakeVirtqueue;
  readonly transmit: FakeVirtqueue;
  readonly #place: VirtioQueuePlace;
  readonly #window: OwnedWindow;
  readonly #state: Int32Array;
  /** Buffers that the device holds: to receive into, and to be sent. */
  #empty: AvailableBuffer[] = [];
  #full: AvailableBuffer[] = [];
  readonly #release: (() => void)[] = [];

  constructor(arena: Arena, options: FakeVirtioPairOptions) {
    const { kind, size = 8, buffers = 40, headroom = 32, emit, features = 0, frameBytes = 200 } = options;
    this.arena = arena;
    this.pool = PacketPool.create(arena, { buffers, bufferBytes: 256, headroom });
    this.packets = new Packets(arena, 64);
    this.receive = new FakeVirtqueue(arena, kind, size);
    this.transmit = new FakeVirtqueue(arena, kind, size);
    const state = arena.reserve(4 * QUEUE_WORDS, 64);
    const registers = arena.reserve(4096);
    this.#window = OwnedWindow.over(arena, registers.offset, 4096);
    this.#state = new Int32Array(arena.buffer, state.offset, QUEUE_WORDS);
    this.#state[PairWord.FEATURES] = features;
    this.#state[PairWord.FRAME_BYTES] = frameBytes;
    this.#state[PairWord.PAIR] = 3;
    this.#state[PairWord.RX_NOTIFY_AT] = RECEIVE_NOTIFY;
    this.#state[PairWord.TX_NOTIFY_AT] = TRANSMIT_NOTIFY;
    this.#place = {
      index: 0,
      receive: this.receive.place,
      transmit: this.transmit.place,
      state: state.offset,
      pool: this.pool.handle(),
      // A place where the upper half changes within the pool.
      poolIova: 2 ** 40 + 2 ** 32 - 4096,
    };
    const ended = (): Error => new Error("ended");
    this.queue = new VirtioNetQueue(this.pool, this.#place, this.#window, { emit, ended });
    this.notifications();
    this.#release.push(
      () => this.packets[Symbol.dispose](),
      () => this.pool[Symbol.dispose](),
      () => this.receive[Symbol.dispose](),
      () => this.transmit[Symbol.dispose](),
      () => state[Symbol.dispose](),
      () => registers[Symbol.dispose](),
    );
  }

  /** Resets the device; the queue starts anew. */
  reset(): boolean {
    this.queue.control(QueueControl.STOPPED);
    this.receive.reset();
    this.transmit.reset();
    [this.#empty, this.#full] = [[], []];
    return this.queue.renew();
  }

  /** What was written to the two registers since the last look; `undefined`: nothing. */
  notifications(): readonly (number | undefined)[] {
    return [RECEIVE_NOTIFY, TRANSMIT_NOTIFY].map((offset) => {
      const value = this.#window.read16(offset);
      this.#window.write16(offset, SILENCE);
      return value === SILENCE ? undefined : value;
    });
  }

  #bytesAt({ iova, length }: AvailableBuffer): Uint8Array | undefined {
    const place = iova - this.#place.poolIova;
    return place >= 0 && place + length <= this.pool.bytes.length
      ? this.pool.bytes.subarray(place, place + length)
      : undefined;
  }

  /** Buffers that the device can receive into. */
  get receivable(): number {
    this.#empty.push(...this.receive.see());
    return this.#empty.length;
  }

  /**
   * Writes a frame with its header into one of the buffers and gives that back, or says another length or identifier.
   * False where the device has no buffer.
   */
  put(
    frame: Uint8Array,
    options: { flags?: number; buffers?: number; pick?: number; length?: number; id?: number } = {},
  ): boolean {
    if (this.receivable === 0) return false;
    const { flags = 0, buffers = 1, pick = 0, length = NET_HEADER_BYTES + frame.length } = options;
    const [buffer] = this.#empty.splice(pick % this.#empty.length, 1) as [AvailableBuffer];
    const bytes = this.#bytesAt(buffer);
    bytes?.set([flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, buffers & 0xff, buffers >>> 8]);
    bytes?.set(frame.subarray(0, buffer.length - NET_HEADER_BYTES), NET_HEADER_BYTES);
    this.receive.use(options.id ?? buffer.id, length);
    return true;
  }

  /** Sends up to `max` buffers, those at `pick` first; gives what lies in them, header and frame. */
  send(max: number = Number.POSITIVE_INFINITY, pick = 0): Uint8Array[] {
    this.#full.push(...this.transmit.see());
    const sent: Uint8Array[] = [];
    for (let count = 0; count < max && this.#full.length > 0; count++) {
      const [buffer] = this.#full.splice(pick % this.#full.length, 1) as [AvailableBuffer];
      sent.push(this.#bytesAt(buffer)?.slice() ?? new Uint8Array(0));
      // Of what it only reads the device may say any length.
      this.transmit.use(buffer.id, pick * 1_000_003);
    }
    return sent;
  }

  /** Fills `count` packets with fresh buffers of `size` bytes each. */
  fill(count: number, write: (index: number) => Uint8Array): number {
    const taken = this.pool.takeAll(this.packets, count);
    for (let i = 0; i < taken; i++) {
      const bytes = write(i);
      this.pool.bytes.set(bytes, this.word(i, PacketWord.PLACE));
      this.packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = bytes.length;
    }
    return taken;
  }

  word(packet: number, index: number): number {
    return this.packets.words[packet * PACKET_WORDS + index] as number;
  }

  set(packet: number, place: number, length: number, flags = 0, offload = 0): void {
    this.packets.words.set([place, length, flags, offload], packet * PACKET_WORDS);
  }

  /** Everything that driver and device keep, to be compared. */
  snapshot(): number[] {
    const { pool } = this;
    return [
      ...this.#state,
      ...this.receive.snapshot(),
      ...this.transmit.snapshot(),
      ...this.arena.words(pool.stateOffset, 16 + pool.buffers),
      ...pool.bytes,
    ];
  }

  [Symbol.dispose](): void {
    for (const release of this.#release) release();
  }
}

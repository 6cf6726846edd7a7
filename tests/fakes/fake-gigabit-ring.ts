// A gigabit controller's side of one queue, in the test's hands: it receives into and sends from the descriptors that the
// driver has given it, as the datasheets say, or as the test makes it lie.
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { OwnedWindow } from "../../packages/ring3/src/memory/window.ts";
import { PacketPool } from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import {
  type DescriptorFormat,
  descriptorBytes,
  privateBytes,
  type QueuePlace,
} from "../../packages/ring3/src/drivers/gigabit/queue-place.ts";

const [RECEIVE_TAIL, TRANSMIT_TAIL] = [0x18, 0x58];
const DD = 1;
const EOP = 2;
const RS = 0x0800_0000;
const DEXT = 0x2000_0000;

export interface SentPacket {
  readonly bytes: Uint8Array;
  readonly command: number;
  readonly status: number;
}

export class FakeGigabitRing implements Disposable {
  readonly arena: Arena;
  readonly pool: PacketPool;
  readonly place: QueuePlace;
  readonly window: OwnedWindow;
  readonly receiveWords: Uint32Array;
  readonly transmitWords: Uint32Array;
  /** Context descriptors seen, as four words each. */
  readonly contexts: number[][] = [];
  receiveHead = 0;
  transmitHead = 0;
  readonly #release: (() => void)[] = [];

  constructor(arena: Arena, format: DescriptorFormat, options: { entries?: number; buffers?: number } = {}) {
    const { entries = 16, buffers = 64 } = options;
    this.arena = arena;
    this.pool = PacketPool.create(arena, { buffers, bufferBytes: 256, headroom: 32 });
    const descriptors = arena.reserve(descriptorBytes(entries));
    const state = arena.reserve(privateBytes(entries), 64);
    const registers = arena.reserve(4096);
    this.window = OwnedWindow.over(arena, registers.offset, 4096);
    this.place = {
      index: 0,
      format,
      entries,
      receive: descriptors.offset,
      transmit: descriptors.offset + descriptorBytes(entries) / 2,
      state: state.offset,
      pool: this.pool.handle(),
      // A place where the upper half changes within the pool.
      poolIova: 2 ** 40 + 2 ** 32 - 4096,
      receiveBytes: 200,
      frameBytes: 200,
      receiveTail: RECEIVE_TAIL,
      transmitTail: TRANSMIT_TAIL,
    };
    this.receiveWords = arena.words(this.place.receive, entries * 4);
    this.transmitWords = arena.words(this.place.transmit, entries * 4);
    this.#release.push(
      () => this.pool[Symbol.dispose](),
      () => descriptors[Symbol.dispose](),
      () => state[Symbol.dispose](),
      () => registers[Symbol.dispose](),
    );
  }

  /** Words of the driver's state. */
  get state(): Uint32Array {
    return this.arena.words(this.place.state, 32);
  }

  /** Everything that the driver keeps, to be compared. */
  snapshot(): number[] {
    const { place, pool } = this;
    return [
      ...this.arena.words(place.state, privateBytes(place.entries) / 4),
      ...this.arena.words(place.receive, descriptorBytes(place.entries) / 4),
      ...this.arena.words(pool.stateOffset, 16 + pool.buffers),
      this.window.read32(RECEIVE_TAIL),
      this.window.read32(TRANSMIT_TAIL),
    ];
  }

  /** Descriptors that the device may fill. */
  get receivable(): number {
    const { entries } = this.place;
    return (this.window.read32(RECEIVE_TAIL) - this.receiveHead + entries) % entries;
  }

  /** The place in the pool that a descriptor's address names. */
  placeOf(words: Uint32Array, index: number): number {
    const address = (words[index * 4] as number) + (words[index * 4 + 1] as number) * 2 ** 32;
    return address - this.place.poolIova;
  }

  /** Receives a frame; false where the driver has given no descriptor. */
  receive(bytes: Uint8Array, status: number = DD | EOP, vlan = 0, length: number = bytes.length): boolean {
    if (this.receivable === 0) return false;
    this.report(this.receiveHead, bytes, status, vlan, length);
    this.receiveHead = (this.receiveHead + 1) % this.place.entries;
    return true;
  }

  /** Writes a descriptor back, whether the driver has given it or not. */
  report(index: number, bytes: Uint8Array, status: number, vlan = 0, length: number = bytes.length): void {
    const words = this.receiveWords;
    this.pool.bytes.set(bytes, this.placeOf(words, index));
    words[index * 4] = 0;
    words[index * 4 + 1] = 0x1234_5678;
    words[index * 4 + 3] = (length | (vlan << 16)) >>> 0;
    words[index * 4 + 2] = status >>> 0;
  }

  /** Sends up to `max` descriptors and reports those that ask for it, unless `silent`. */
  send(max: number = Number.POSITIVE_INFINITY, silent = false): SentPacket[] {
    const { entries } = this.place;
    const words = this.transmitWords;
    const sent: SentPacket[] = [];
    const tail = this.window.read32(TRANSMIT_TAIL);
    for (let count = 0; this.transmitHead !== tail && count < max; count++) {
      const at = this.transmitHead * 4;
      const command = words[at + 2] as number;
      const isData = ((command >>> 20) & 0xf) === (this.place.format === "igb" ? 3 : 1);
      if ((command & DEXT) !== 0 && !isData) {
        this.contexts.push([...words.subarray(at, at + 4)]);
      } else {
        const place = this.placeOf(words, this.transmitHead);
        const bytes = this.pool.bytes.slice(place, place + (command & 0xffff));
        sent.push({ bytes, command, status: words[at + 3] as number });
        if ((command & RS) !== 0 && !silent) words[at + 3] = ((words[at + 3] as number) | DD) >>> 0;
      }
      this.transmitHead = (this.transmitHead + 1) % entries;
    }
    return sent;
  }

  [Symbol.dispose](): void {
    for (const release of this.#release) release();
  }
}

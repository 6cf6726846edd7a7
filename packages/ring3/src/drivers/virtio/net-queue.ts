// A receive and a transmit virtqueue of packets. Every frame lies in one buffer with its virtio header before it, in the pool's
// headroom, so that a packet is one descriptor either way. Hard about it: the device may say anything, so a length counts only
// after it was compared, and what is wrong is counted and dropped.
import { isRing3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import { ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { NetHeader, NetHeaderFlag } from "../../specs/virtio/structs.ts";
import type { PacketPool } from "../net/packet-pool.ts";
import { PACKET_WORDS, PacketFlag, type Packets, PacketWord, TRANSMIT_FLAGS } from "../net/packets.ts";
import { addBytes, addCount, QueueWord } from "../net/queue-state.ts";
import { RingQueue } from "../net/ring-queue.ts";
import { type BufferRing, ringProblem } from "./buffer-ring.ts";
import { virtioBurstCode } from "./burst-code.ts";
import { PackedRing } from "./packed-ring.ts";
import {
  NET_HEADER_BYTES,
  PairFeature,
  PairWord,
  type RingPlace,
  RingWord,
  ringWords,
  type VirtioQueuePlace,
} from "./queue-place.ts";
import { ChecksumOffset, computeIpv4Checksum, computeL4Checksum, insertTag } from "./software-offload.ts";
import { SplitRing } from "./split-ring.ts";

const { NEEDS_CSUM, DATA_VALID } = NetHeaderFlag;
const HEADER = NET_HEADER_BYTES;
const LEAST = ETHERNET_HEADER_BYTES;
const FLAGS_AT = NetHeader.offsets.flags;
const BUFFERS_AT = NetHeader.offsets.num_buffers;
const { PLACE, LENGTH, FLAGS, OFFLOAD } = PacketWord;
const WORDS = PACKET_WORDS;
const { RX_PACKETS, RX_LENGTH_ERRORS, RX_NO_BUFFER, TX_PACKETS, TX_ERRORS } = QueueWord;
const { RX_SKIP, FEATURES, FRAME_BYTES, PAIR, RX_NOTIFY_AT, TX_NOTIFY_AT } = PairWord;
const { NOTIFY } = RingWord;

export class VirtioNetQueue extends RingQueue {
  readonly place: VirtioQueuePlace;
  readonly #bytes: Uint8Array;
  readonly #poolWords: Int32Array;
  readonly #notify: Registers;
  readonly #receive: BufferRing;
  readonly #transmit: BufferRing;
  readonly #receiveWords: Int32Array;
  readonly #transmitWords: Int32Array;

  /** `notify`: the registers for notifications. `ended` gives what bursts throw once the driver has ended. */
  constructor(
    pool: PacketPool,
    place: VirtioQueuePlace,
    notify: Registers,
    options: { readonly emit: boolean; readonly ended: () => Error },
  ) {
    const { arena } = pool;
    const { index, state } = place;
    super({ index, pool, state, code: options.emit ? virtioBurstCode(place) : undefined, ended: options.ended });
    this.place = place;
    this.#bytes = pool.bytes;
    this.#poolWords = new Int32Array(arena.buffer, pool.arenaOffset, pool.bytes.length / 4);
    this.#notify = notify;
    this.#receive = ringOver(arena, place.receive);
    this.#transmit = ringOver(arena, place.transmit);
    this.#receiveWords = ringWords(arena, place.receive);
    this.#transmitWords = ringWords(arena, place.transmit);
  }

  protected override fill(): boolean {
    const { pool, state } = this;
    const receive = this.#receive;
    if (pool.free < receive.size) return false;
    const eventIndex = ((state[FEATURES] as number) & PairFeature.EVENT_INDEX) !== 0;
    receive.start(eventIndex, HEADER + Math.min(state[FRAME_BYTES] as number, pool.room));
    this.#transmit.start(eventIndex, 0);
    receive.disarm();
    this.#transmit.disarm();
    state[RX_SKIP] = 0;
    this.#refill();
    return true;
  }

  protected override show(): void {
    if (this.#receive.publish()) this.#tell(RX_NOTIFY_AT, 0);
  }

  protected override drain(): void {
    const give = (place: number): void => this.pool.give(place);
    this.#receive.drain(give);
    this.#transmit.drain(give);
  }

  protected override get received(): boolean {
    return this.#receive.ready;
  }

  /** Asks for an interrupt for the next packet. */
  arm(): void {
    if (this.running) this.#receive.arm();
  }

  quiet(): void {
    if (this.running) this.#receive.disarm();
  }

  protected override receive(packets: Packets, max: number): number {
    const receive = this.#receive;
    const { state } = this;
    const { words } = packets;
    const bytes = this.#bytes;
    const mergeable = ((state[FEATURES] as number) & PairFeature.MERGEABLE) !== 0;
    let taken = 0;
    let sum = 0;
    // A device that sends nothing but what is dropped does not hold us: it gets no buffers meanwhile.
    while (taken < max) {
      const place = receive.take();
      if (place < 0) break;
      const length = receive.length - HEADER;
      const at = place - HEADER;
      const buffers = mergeable
        ? (bytes[at + BUFFERS_AT] as number) | ((bytes[at + BUFFERS_AT + 1] as number) << 8)
        : 1;
      if (state[RX_SKIP] !== 0 || buffers !== 1 || length < LEAST) {
        this.#drop(place, buffers);
        continue;
      }
      const flags = bytes[at + FLAGS_AT] as number;
      const to = taken * WORDS;
      words[to + PLACE] = place;
      words[to + LENGTH] = length;
      words[to + FLAGS] =
        (flags & NEEDS_CSUM) !== 0
          ? PacketFlag.L4_CHECKED | PacketFlag.L4_PARTIAL
          : (flags & DATA_VALID) !== 0
            ? PacketFlag.L4_CHECKED
            : 0;
      words[to + OFFLOAD] = 0;
      sum += length;
      taken++;
    }
    addCount(state, RX_PACKETS, taken);
    addBytes(state, QueueWord.RX_BYTES_LOW, sum);
    this.#refill();
    if (receive.publish()) this.#tell(RX_NOTIFY_AT, 0);
    return taken;
  }

  /** A frame in several buffers fits in no packet, since each of the first ones is full; one shorter than a header is none. */
  #drop(place: number, buffers: number): void {
    const { state } = this;
    this.pool.give(place);
    const skip = state[RX_SKIP] as number;
    if (skip > 0) {
      state[RX_SKIP] = skip - 1;
      return;
    }
    state[RX_LENGTH_ERRORS] = (state[RX_LENGTH_ERRORS] as number) + 1;
    state[RX_SKIP] = buffers > 1 && buffers <= this.#receive.size ? buffers - 1 : 0;
  }

  /** Puts a buffer wherever there is room for one; the device does not see them yet. */
  #refill(): void {
    const { pool, state } = this;
    const { poolIova } = this.place;
    const receive = this.#receive;
    const { limit } = receive;
    for (let left = receive.free; left > 0; left--) {
      const place = pool.take();
      if (place < 0) {
        state[RX_NO_BUFFER] = (state[RX_NO_BUFFER] as number) + 1;
        return;
      }
      receive.put(poolIova + place - HEADER, limit, place);
    }
  }

  protected override transmit(packets: Packets, count: number, first: number): number {
    const transmit = this.#transmit;
    const { poolIova } = this.place;
    const { state } = this;
    const { words } = packets;
    if (transmit.free < count) this.clean();
    const poolWords = this.#poolWords;
    const frameBytes = state[FRAME_BYTES] as number;
    const checksum = ((state[FEATURES] as number) & PairFeature.CHECKSUM) !== 0;
    let taken = 0;
    let sent = 0;
    let sum = 0;
    for (; taken < count && transmit.free > 0; taken++) {
      const from = (first + taken) * WORDS;
      let place = words[from + PLACE] as number;
      let length = words[from + LENGTH] as number;
      const flags = words[from + FLAGS] as number;
      const offload = words[from + OFFLOAD] as number;
      if (
        !this.#isFrame(place, length, frameBytes) ||
        ((flags & TRANSMIT_FLAGS) !== 0 && !fits(length, flags, offload))
      ) {
        this.#refuse(place);
        continue;
      }
      let first32 = 0;
      let second32 = 0;
      if ((flags & TRANSMIT_FLAGS) !== 0) {
        if ((flags & PacketFlag.VLAN) !== 0) {
          if (!this.#isFrame(place - VLAN_TAG_BYTES, length + VLAN_TAG_BYTES, frameBytes)) {
            this.#refuse(place);
            continue;
          }
          insertTag(this.#bytes, place, offload >>> 16);
          place -= VLAN_TAG_BYTES;
          length += VLAN_TAG_BYTES;
        }
        const ethernetBytes = ((offload >>> 9) & 0x7f) + ((flags & PacketFlag.VLAN) === 0 ? 0 : VLAN_TAG_BYTES);
        const ipBytes = offload & 0x1ff;
        if ((flags & PacketFlag.IPV4_CHECKSUM) !== 0) computeIpv4Checksum(this.#bytes, place, ethernetBytes, ipBytes);
        if ((flags & (PacketFlag.UDP_CHECKSUM | PacketFlag.TCP_CHECKSUM)) !== 0) {
          const start = ethernetBytes + ipBytes;
          if (checksum) {
            // flags and gso_type; csum_start and csum_offset lie in the second and third word.
            first32 = NEEDS_CSUM;
            second32 = start << 16;
          } else computeL4Checksum(this.#bytes, place, length, start, flags);
        }
      }
      const third32 =
        first32 === 0 ? 0 : (flags & PacketFlag.TCP_CHECKSUM) === 0 ? ChecksumOffset.UDP : ChecksumOffset.TCP;
      const at = place - HEADER;
      if ((at & 3) === 0) {
        poolWords[at >>> 2] = first32;
        poolWords[(at >>> 2) + 1] = second32;
        poolWords[(at >>> 2) + 2] = third32;
      } else this.#putHeader(at, first32, second32, third32);
      transmit.put(poolIova + at, HEADER + length, place);
      sum += length;
      sent++;
    }
    addCount(state, TX_PACKETS, sent);
    addBytes(state, QueueWord.TX_BYTES_LOW, sum);
    if (transmit.publish()) this.#tell(TX_NOTIFY_AT, 1);
    return taken;
  }

  /** Whether a frame lies in one buffer with room for the header before it. */
  #isFrame(place: number, length: number, frameBytes: number): boolean {
    const { bufferBytes } = this.pool;
    const offset = place & (bufferBytes - 1);
    const inside = place >= 0 && place < this.#bytes.length && offset >= HEADER && offset + length <= bufferBytes;
    return inside && length >= LEAST && length <= frameBytes;
  }

  #refuse(place: number): void {
    this.state[TX_ERRORS] = (this.state[TX_ERRORS] as number) + 1;
    if (place >= 0 && place < this.#bytes.length) this.pool.give(place);
  }

  #putHeader(at: number, ...words: readonly [number, number, number]): void {
    for (const [i, word] of words.entries()) {
      for (let byte = 0; byte < 4; byte++) this.#bytes[at + 4 * i + byte] = word >>> (8 * byte);
    }
  }

  protected override clean(): number {
    const { pool } = this;
    const transmit = this.#transmit;
    for (let left = transmit.held; left > 0; left--) {
      const place = transmit.take();
      if (place < 0) break;
      pool.give(place);
    }
    return transmit.held;
  }

  /** Notifies the device where an emitted loop saw that it wants that. */
  override settle(): void {
    if (this.#receiveWords[NOTIFY] !== 0) {
      this.#receiveWords[NOTIFY] = 0;
      this.#tell(RX_NOTIFY_AT, 0);
    }
    if (this.#transmitWords[NOTIFY] !== 0) {
      this.#transmitWords[NOTIFY] = 0;
      this.#tell(TX_NOTIFY_AT, 1);
    }
  }

  #tell(offsetWord: number, ofPair: 0 | 1): void {
    const { state } = this;
    try {
      this.#notify.write16(state[offsetWord] as number, 2 * (state[PAIR] as number) + ofPair);
    } catch (error) {
      // The registers are gone or off: an event says so.
      if (!isRing3Error(error)) throw error;
    }
  }
}

function ringOver(arena: Arena, place: RingPlace): BufferRing {
  return place.kind === "packed" ? new PackedRing(arena, place) : new SplitRing(arena, place);
}

/** What the device did with a pair that it must not, in words; any thread may ask. */
export function pairProblem(arena: Arena, { receive, transmit }: VirtioQueuePlace): string | undefined {
  return ringProblem(arena, receive) ?? ringProblem(arena, transmit);
}

/** Whether the headers that the packet names, with the checksum field, lie inside of it. */
function fits(length: number, flags: number, offload: number): boolean {
  const headers = ((offload >>> 9) & 0x7f) + (offload & 0x1ff);
  if ((flags & PacketFlag.TCP_CHECKSUM) !== 0) return headers + ChecksumOffset.TCP + 2 <= length;
  if ((flags & PacketFlag.UDP_CHECKSUM) !== 0) return headers + ChecksumOffset.UDP + 2 <= length;
  return (flags & PacketFlag.IPV4_CHECKSUM) === 0 || ((offload & 0x1ff) >= 20 && headers <= length);
}

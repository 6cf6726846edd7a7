// A receive and a transmit virtqueue of packets. Every frame lies in one buffer with its virtio header before it, in the pool's
// headroom, so that a packet is one descriptor either way. Hard about it: the device may say anything, so a length counts only
// after it was compared, and what is wrong is counted and dropped.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import { ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { NetHeader, NetHeaderFlag } from "../../specs/virtio/structs.ts";
import type { NetQueue, NetQueueStatistics } from "../net/device.ts";
import type { PacketPool } from "../net/packet-pool.ts";
import { PACKET_WORDS, PacketFlag, type Packets, PacketWord, TRANSMIT_FLAGS } from "../net/packets.ts";
import type { BufferRing } from "./buffer-ring.ts";
import { ChecksumOffset, computeIpv4Checksum, computeL4Checksum, insertTag } from "./software-offload.ts";

/** Bytes of the header before each frame. */
export const NET_HEADER_BYTES: number = NetHeader.size;
const { NEEDS_CSUM, DATA_VALID } = NetHeaderFlag;
const HEADER = NET_HEADER_BYTES;
const LEAST = ETHERNET_HEADER_BYTES;
const FLAGS_AT = NetHeader.offsets.flags;
const BUFFERS_AT = NetHeader.offsets.num_buffers;
const { PLACE, LENGTH, FLAGS, OFFLOAD } = PacketWord;
const WORDS = PACKET_WORDS;

/** What a queue is made of. */
export interface NetQueueParts {
  readonly index: number;
  readonly pool: PacketPool;
  /** The pool's first byte as the device sees it. */
  readonly poolIova: number;
  readonly receive: BufferRing;
  readonly transmit: BufferRing;
  readonly notify: Registers;
  readonly receiveNotify: number;
  readonly transmitNotify: number;
  /** MRG_RXBUF was negotiated: a frame may take several buffers. */
  readonly mergeable: boolean;
  /** CSUM was negotiated. */
  readonly checksum: boolean;
  /** Most bytes of a frame. */
  readonly frameBytes: number;
}

/** `stopped`: the device is being reset, and bursts find nothing. */
export type QueueState = "running" | "stopped" | "ended";

export class VirtioNetQueue implements NetQueue {
  readonly index: number;
  readonly pool: PacketPool;
  readonly #bytes: Uint8Array;
  readonly #poolWords: Uint32Array;
  readonly #ended: () => Error;
  #parts: NetQueueParts | undefined;
  #state: QueueState = "stopped";
  #receiveBytes = 0;
  /** Buffers of a frame that is being dropped. */
  #skip = 0;
  #rxPackets = 0;
  #rxBytes = 0;
  #txPackets = 0;
  #txBytes = 0;
  #lengthErrors = 0;
  #noBuffer = 0;
  #txErrors = 0;

  /** `ended` gives what bursts throw once the driver has ended. */
  constructor(index: number, pool: PacketPool, ended: () => Error) {
    this.index = index;
    this.pool = pool;
    this.#bytes = pool.bytes;
    this.#poolWords = pool.arena.words(pool.arenaOffset, pool.bytes.length / 4);
    this.#ended = ended;
  }

  /** The device has empty queues: fills the one to receive. Throws `NET_INVALID` where the pool has too few buffers. */
  start(parts: NetQueueParts): void {
    this.#parts = parts;
    this.#receiveBytes = Math.min(parts.frameBytes, this.pool.room);
    this.#skip = 0;
    this.#state = "running";
    if (this.pool.free < parts.receive.size) {
      throw new Ring3Error(
        "NET_INVALID",
        `the packet pool has ${this.pool.free} free buffers, and a ring of ${parts.receive.size} needs one for each entry; ` +
          "make the pool larger or the rings smaller",
      );
    }
    parts.transmit.disarm();
    parts.receive.disarm();
    this.#fill(parts);
  }

  /** Bursts find nothing from now on, and throw where it is for good. */
  stop(state: "stopped" | "ended"): void {
    this.#state = state;
  }

  /** Gives all buffers back to the pool; the device does not use them any more. */
  empty(): void {
    const parts = this.#parts;
    this.#parts = undefined;
    parts?.receive.drain((place) => this.pool.give(place));
    parts?.transmit.drain((place) => this.pool.give(place));
  }

  /** What the device did that it must not. */
  get problem(): string | undefined {
    const parts = this.#parts;
    return parts?.receive.problem ?? parts?.transmit.problem;
  }

  get ready(): boolean {
    return this.#state === "running" && this.#parts?.receive.ready === true;
  }

  /** Asks for an interrupt for the next packet. */
  arm(): void {
    if (this.#state === "running") this.#parts?.receive.arm();
  }

  quiet(): void {
    if (this.#state === "running") this.#parts?.receive.disarm();
  }

  #mayRun(packets: Packets | undefined): NetQueueParts | undefined {
    if (this.#state === "ended") throw this.#ended();
    if (packets !== undefined && packets.arena !== this.pool.arena) throw foreignPackets();
    return this.#state === "running" ? this.#parts : undefined;
  }

  rxBurst(packets: Packets, max: number = packets.capacity): number {
    const parts = this.#mayRun(packets);
    if (parts === undefined) return 0;
    const { receive, mergeable } = parts;
    const { words } = packets;
    const bytes = this.#bytes;
    const most = max < packets.capacity ? max : packets.capacity;
    let taken = 0;
    let sum = 0;
    // What is dropped counts too, so that a device that sends nothing else does not hold us.
    for (let looks = receive.size; taken < most && looks > 0; looks--) {
      const place = receive.take();
      if (place < 0) break;
      const length = receive.length - HEADER;
      const at = place - HEADER;
      const buffers = mergeable
        ? (bytes[at + BUFFERS_AT] as number) | ((bytes[at + BUFFERS_AT + 1] as number) << 8)
        : 1;
      if (this.#skip > 0 || buffers !== 1 || length < LEAST) {
        this.#drop(place, buffers, receive.size);
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
    this.#rxPackets += taken;
    this.#rxBytes += sum;
    if (receive.free > 0) this.#fill(parts);
    return taken;
  }

  /** A frame in several buffers fits in no packet, since each of the first ones is full; one shorter than a header is none. */
  #drop(place: number, buffers: number, size: number): void {
    this.pool.give(place);
    if (this.#skip > 0) {
      this.#skip--;
      return;
    }
    this.#lengthErrors++;
    this.#skip = buffers > 1 && buffers <= size ? buffers - 1 : 0;
  }

  #fill(parts: NetQueueParts): void {
    const { receive, poolIova } = parts;
    const { pool } = this;
    const size = HEADER + this.#receiveBytes;
    for (let left = receive.free; left > 0; left--) {
      const place = pool.take();
      if (place < 0) {
        this.#noBuffer++;
        break;
      }
      receive.put(poolIova + place - HEADER, size, true, place);
    }
    if (receive.publish()) this.#notify(parts.notify, parts.receiveNotify, 2 * parts.index);
  }

  txBurst(packets: Packets, count: number, first = 0): number {
    const parts = this.#mayRun(packets);
    if (parts === undefined) return 0;
    const { transmit, poolIova, checksum, frameBytes } = parts;
    const { words } = packets;
    const most = first + count <= packets.capacity ? count : packets.capacity - first;
    if (!(most > 0 && first >= 0)) return 0;
    if (transmit.free < most) this.#reclaim(transmit);
    const poolWords = this.#poolWords;
    let taken = 0;
    let sent = 0;
    let sum = 0;
    for (; taken < most && transmit.free > 0; taken++) {
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
      transmit.put(poolIova + at, HEADER + length, false, place);
      sum += length;
      sent++;
    }
    this.#txPackets += sent;
    this.#txBytes += sum;
    if (transmit.publish()) this.#notify(parts.notify, parts.transmitNotify, 2 * parts.index + 1);
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
    this.#txErrors++;
    if (place >= 0 && place < this.#bytes.length) this.pool.give(place);
  }

  #putHeader(at: number, ...words: readonly [number, number, number]): void {
    for (const [i, word] of words.entries()) {
      for (let byte = 0; byte < 4; byte++) this.#bytes[at + 4 * i + byte] = word >>> (8 * byte);
    }
  }

  txPending(): number {
    const parts = this.#mayRun(undefined);
    if (parts === undefined) return 0;
    this.#reclaim(parts.transmit);
    return parts.transmit.size - parts.transmit.free;
  }

  #reclaim(transmit: BufferRing): void {
    const { pool } = this;
    for (let left = transmit.size - transmit.free; left > 0; left--) {
      const place = transmit.take();
      if (place < 0) return;
      pool.give(place);
    }
  }

  #notify(registers: Registers, offset: number, queue: number): void {
    try {
      registers.write16(offset, queue);
    } catch (error) {
      // The registers are gone or off: an event says so.
      if (!isRing3Error(error)) throw error;
    }
  }

  statistics(): NetQueueStatistics {
    return {
      rx_packets: this.#rxPackets,
      rx_bytes: this.#rxBytes,
      tx_packets: this.#txPackets,
      tx_bytes: this.#txBytes,
      rx_errors: 0,
      rx_length_errors: this.#lengthErrors,
      rx_no_buffer: this.#noBuffer,
      tx_errors: this.#txErrors,
    };
  }
}

function foreignPackets(): Ring3Error {
  return new Ring3Error(
    "NET_INVALID",
    "these packets lie in another arena: make them with the arena of the queue's pool",
  );
}

/** Whether the headers that the packet names, with the checksum field, lie inside of it. */
function fits(length: number, flags: number, offload: number): boolean {
  const headers = ((offload >>> 9) & 0x7f) + (offload & 0x1ff);
  if ((flags & PacketFlag.TCP_CHECKSUM) !== 0) return headers + ChecksumOffset.TCP + 2 <= length;
  if ((flags & PacketFlag.UDP_CHECKSUM) !== 0) return headers + ChecksumOffset.UDP + 2 <= length;
  return (flags & PacketFlag.IPV4_CHECKSUM) === 0 || ((offload & 0x1ff) >= 20 && headers <= length);
}

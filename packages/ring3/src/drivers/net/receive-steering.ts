// Several threads, each a station with a queue of the same device, one address, and UDP ports of its own: what a thread receives
// for another one's ports it hands over (receive packet steering, in the kernel's words). So it does not matter which of its
// queues the device delivers to: the 82576 goes by ports, the 82574 by addresses alone, a virtual function knows one queue.
// Everything that is for no station's ports belongs to station 0, the thread that has the device: ARP, ICMP, fragments.
import { Ring3Error } from "../../binary/error.ts";
import { EtherType } from "../../specs/ethernet/index.ts";
import { get16 } from "./byte-order.ts";
import type { NetQueue, NetQueueStatistics } from "./device.ts";
import { EthernetHeader } from "./ethernet.ts";
import { HandOverRing, handOverWords, type HandedFrame } from "./hand-over-ring.ts";
import { IPV4_HEADER_BYTES, IpProtocol } from "./ipv4.ts";
import type { PacketPool } from "./packet-pool.ts";
import { PACKET_WORDS, type Packets, PacketWord } from "./packets.ts";
import { EPHEMERAL_PORTS, type PortRange } from "./udp-ports.ts";

export interface ReceiveSteeringOptions {
  /** Threads with a queue, the one that has the device among them. */
  readonly stations: number;
  /** Frames that may wait for a station, a power of two; 1024 by default. What comes beyond is lost and counted. */
  readonly slots?: number;
  /** Bytes of the longest frame; 2048 by default. */
  readonly frameBytes?: number;
}

/** What the stations share; structured-cloneable. */
export interface ReceiveSteering {
  readonly stations: number;
  readonly slots: number;
  readonly frameBytes: number;
  readonly memory: SharedArrayBuffer;
}

/** Makes what the stations share. Throws `NET_INVALID`. */
export function receiveSteering(options: ReceiveSteeringOptions): ReceiveSteering {
  const { stations, slots = 1024, frameBytes = 2048 } = options;
  const whole = Number.isInteger(stations) && Number.isInteger(Math.log2(slots)) && Number.isInteger(frameBytes);
  if (!(whole && stations >= 1 && stations <= EPHEMERAL_PORTS.count && slots >= 2 && frameBytes >= 64)) {
    throw new Ring3Error(
      "NET_INVALID",
      `steering takes 1 to ${EPHEMERAL_PORTS.count} stations, slots that are a power of two, and frames of 64 bytes or more; ` +
        `not ${stations} stations with ${slots} slots of ${frameBytes} bytes`,
    );
  }
  const words = stations * handOverWords(slots, frameBytes);
  const steering = { stations, slots, frameBytes, memory: new SharedArrayBuffer(words * 4) };
  for (const ring of ringsOf(steering)) ring.clear();
  return steering;
}

function ringsOf({ stations, slots, frameBytes, memory }: ReceiveSteering): HandOverRing[] {
  const words = handOverWords(slots, frameBytes);
  return Array.from({ length: stations }, (_, i) => new HandOverRing(memory, i * words, slots, frameBytes));
}

/** What a station's queue received for others, and others for it. */
export interface SteeringStatistics {
  /** Frames handed to other stations. */
  readonly handedOver: number;
  /** Frames that other stations handed over. */
  readonly takenOver: number;
  /** Frames for a station for whom too many waited. */
  readonly lost: number;
}

/** A queue as its station sees it: it receives what is the station's, from whichever queue, and nothing else. */
export class SteeredQueue implements NetQueue {
  readonly index: number;
  readonly pool: PacketPool;
  /** The station's UDP ports: its part of the ephemeral ones. */
  readonly ports: PortRange;
  readonly #queue: NetQueue;
  readonly #station: number;
  readonly #rings: readonly HandOverRing[];
  readonly #own: HandOverRing;
  readonly #counts = { handedOver: 0, takenOver: 0, lost: 0 };
  readonly #ethernet: EthernetHeader = new EthernetHeader();
  readonly #frame: HandedFrame = { length: 0, flags: 0, offload: 0 };

  /** For the thread that owns `queue`. Throws `NET_INVALID` where there is no such station. */
  constructor(queue: NetQueue, steering: ReceiveSteering, station: number) {
    const rings = ringsOf(steering);
    const own = rings[station];
    if (own === undefined) {
      throw new Ring3Error("NET_INVALID", `there are stations 0 to ${steering.stations - 1}, and no ${station}`);
    }
    this.index = queue.index;
    this.pool = queue.pool;
    this.#queue = queue;
    const count = Math.floor(EPHEMERAL_PORTS.count / steering.stations);
    this.ports = { first: EPHEMERAL_PORTS.first + station * count, count };
    this.#station = station;
    this.#rings = rings;
    this.#own = own;
  }

  get steered(): SteeringStatistics {
    return { ...this.#counts };
  }

  rxBurst(packets: Packets, max: number = packets.capacity): number {
    // Half for what others hand over: neither keeps the other waiting.
    const share = this.#own.ready ? Math.ceil(max / 2) : max;
    const kept = this.#sort(packets, this.#queue.rxBurst(packets, share));
    return this.#takeOver(packets, kept, max);
  }

  /** Hands over what is not ours, and returns how many are left at the front. */
  #sort(packets: Packets, count: number): number {
    const { words } = packets;
    const { bytes } = this.pool;
    let kept = 0;
    for (let i = 0, at = 0; i < count; i++, at += PACKET_WORDS) {
      const place = words[at + PacketWord.PLACE] as number;
      const length = words[at + PacketWord.LENGTH] as number;
      const station = this.#stationOf(bytes, place, length);
      if (station === this.#station) {
        if (kept !== i) packets.move(i, 1, kept);
        kept++;
        continue;
      }
      const flags = words[at + PacketWord.FLAGS] as number;
      const ring = this.#rings[station] as HandOverRing;
      if (ring.put(bytes, place, length, flags, words[at + PacketWord.OFFLOAD] as number)) this.#counts.handedOver++;
      else this.#counts.lost++;
      this.pool.give(place);
    }
    return kept;
  }

  #takeOver(packets: Packets, count: number, max: number): number {
    const { words } = packets;
    const frame = this.#frame;
    let taken = count;
    for (; taken < max && this.#own.ready; taken++) {
      const place = this.pool.take();
      // It waits until a buffer is free.
      if (place < 0) break;
      this.#own.take(this.pool.bytes, place, frame);
      const at = taken * PACKET_WORDS;
      words[at + PacketWord.PLACE] = place;
      words[at + PacketWord.LENGTH] = frame.length;
      words[at + PacketWord.FLAGS] = frame.flags;
      words[at + PacketWord.OFFLOAD] = frame.offload;
    }
    this.#counts.takenOver += taken - count;
    return taken;
  }

  /** Whose the frame is, by its UDP port. */
  #stationOf(bytes: Uint8Array, place: number, length: number): number {
    const ethernet = this.#ethernet;
    if (!ethernet.read(bytes, place, length) || ethernet.type !== EtherType.IPV4) return 0;
    const ip = place + ethernet.payloadAt;
    const end = place + length;
    if (ip + IPV4_HEADER_BYTES > end || bytes[ip + 9] !== IpProtocol.UDP) return 0;
    // Of fragments only the first says which port it is for.
    if ((get16(bytes, ip + 6) & 0x3fff) !== 0) return 0;
    const udp = ip + ((bytes[ip] as number) & 0xf) * 4;
    if (udp + 4 > end) return 0;
    const station = Math.floor((get16(bytes, udp + 2) - EPHEMERAL_PORTS.first) / this.ports.count);
    return station > 0 && station < this.#rings.length ? station : 0;
  }

  txBurst(packets: Packets, count: number, first?: number): number {
    return this.#queue.txBurst(packets, count, first);
  }

  txPending(): number {
    return this.#queue.txPending();
  }

  get ready(): boolean {
    return this.#queue.ready || this.#own.ready;
  }

  /** Of the queue itself: with what was received for others, without what they handed over. */
  statistics(): NetQueueStatistics {
    return this.#queue.statistics();
  }

  /** Calls `listener` whenever another station has handed something over, until disposed. */
  onHandedOver(listener: () => void): Disposable {
    const ring = this.#own;
    let listening = true;
    const listen = async (): Promise<void> => {
      while (listening) {
        const seen = ring.rings;
        listener();
        await ring.rung(seen);
      }
    };
    void listen();
    return {
      [Symbol.dispose]: () => {
        listening = false;
        ring.ring();
      },
    };
  }
}

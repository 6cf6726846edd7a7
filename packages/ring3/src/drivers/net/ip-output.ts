// The way out: finds the next station, writes the headers straight into a packet buffer, cuts what is larger than the MTU,
// and keeps what has to wait for a neighbour's answer.
import { Ring3Error } from "../../binary/error.ts";
import {
  BROADCAST_MAC,
  ETHERNET_HEADER_BYTES,
  EtherType,
  EthernetField,
  MAC_BYTES,
  putMac,
  VLAN_TAG_BYTES,
} from "../../specs/ethernet/index.ts";
import { ArpOperation, putArp } from "./arp.ts";
import type { NetQueue } from "./device.ts";
import { copyMac, putType } from "./ethernet.ts";
import {
  fragmentPayload,
  IPV4_HEADER_BYTES,
  IPV4_MAXIMUM_BYTES,
  IPV4_MINIMUM_MTU,
  Ipv4Outgoing,
  IpProtocol,
  putIpv4Header,
} from "./ipv4.ts";
import { ANY_ADDRESS, isMulticast, LIMITED_BROADCAST, multicastMac, prefixMask } from "./ipv4-address.ts";
import { type NeighbourLimits, Neighbours } from "./neighbours.ts";
import { offloadWord, PacketFlag } from "./packets.ts";
import type { StackCounts } from "./stack-statistics.ts";
import { TransmitQueue } from "./transmit-queue.ts";
import { putUdpHeader, UDP_HEADER_BYTES, UDP_MAXIMUM_PAYLOAD } from "./udp.ts";

/** Who we are on this network. */
export interface Configuration {
  /** 0 while there is none. */
  readonly address: number;
  readonly prefix: number;
  /** 0 where everything is on this link. */
  readonly gateway: number;
}

export interface OutputSettings {
  readonly queue: NetQueue;
  readonly counts: StackCounts;
  readonly now: () => number;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** -1 for none. */
  readonly vlan: number;
  /** Whether the device computes the checksums of UDP. */
  readonly udpChecksum: boolean;
  readonly neighbours: NeighbourLimits;
  /** Whether ARP is spoken. */
  readonly arp: boolean;
  /** Nobody answers for `address`. */
  readonly unreachable: (address: number) => void;
}

/** What a datagram says besides its payload. */
export interface DatagramShape {
  readonly protocol: number;
  readonly destination: number;
  readonly source?: number;
  readonly timeToLive?: number;
  readonly options?: Uint8Array;
}

const DEFAULT_TTL = 64;
/** RFC 1112, section 6.1. */
const MULTICAST_TTL = 1;
const NO_MAC: Uint8Array = new Uint8Array(MAC_BYTES);

export class IpOutput {
  readonly neighbours: Neighbours;
  readonly transmit: TransmitQueue;
  readonly mtu: number;
  configuration: Configuration = { address: ANY_ADDRESS, prefix: 0, gateway: 0 };
  readonly #settings: OutputSettings;
  readonly #bytes: Uint8Array;
  readonly #header: Ipv4Outgoing = new Ipv4Outgoing();
  readonly #scratch: Uint8Array = new Uint8Array(IPV4_MAXIMUM_BYTES);
  readonly #mac: Uint8Array;
  #identification: number = Math.floor(Math.random() * 0x1_0000);

  constructor(settings: OutputSettings) {
    this.#settings = settings;
    this.#bytes = settings.queue.pool.bytes;
    this.#mac = settings.mac;
    this.mtu = Math.min(settings.mtu, settings.queue.pool.room - ETHERNET_HEADER_BYTES - VLAN_TAG_BYTES);
    if (this.mtu < IPV4_MINIMUM_MTU) {
      throw new Ring3Error("NET_INVALID", `an MTU of ${this.mtu} carries no IPv4, which takes ${IPV4_MINIMUM_MTU}`);
    }
    this.transmit = new TransmitQueue(settings.queue);
    const link = {
      ask: (address: number, mac: Uint8Array | undefined) => this.#arp(ArpOperation.REQUEST, address, mac),
      release: (frame: { place: number; length: number; flags: number; offload: number }, mac: Uint8Array) => {
        copyMac(this.#bytes, frame.place + EthernetField.DESTINATION, mac, 0);
        this.#hand(frame.place, frame.length, frame.flags, frame.offload);
      },
      lose: (frame: { place: number }, address: number) => {
        // A device that ends takes its own pool along.
        if (!settings.queue.pool.disposed) settings.queue.pool.give(frame.place);
        settings.counts.unresolved++;
        settings.unreachable(address);
      },
    };
    this.neighbours = new Neighbours(link, settings.neighbours);
  }

  /** Whether `address` is on this link. */
  onLink(address: number): boolean {
    const { address: own, prefix, gateway } = this.configuration;
    return own !== ANY_ADDRESS && (((address ^ own) & prefixMask(prefix)) === 0 || address === gateway);
  }

  /** Whether everybody on this link is meant. */
  isBroadcast(address: number): boolean {
    const { address: own, prefix } = this.configuration;
    if (address === LIMITED_BROADCAST) return true;
    return own !== ANY_ADDRESS && prefix < 31 && address === (own | ~prefixMask(prefix));
  }

  /** A UDP datagram; `false` where it was dropped. Throws `NET_INVALID`. */
  udp(
    bytes: Uint8Array,
    at: number,
    length: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    source: number = this.configuration.address,
  ): boolean {
    if (!(length >= 0 && length <= UDP_MAXIMUM_PAYLOAD && at >= 0 && at + length <= bytes.length)) {
      throw new Ring3Error(
        "NET_INVALID",
        `a datagram has 0 to ${UDP_MAXIMUM_PAYLOAD} bytes of its buffer, not ${length}`,
      );
    }
    if (!(destinationPort > 0 && destinationPort <= 0xffff)) {
      throw new Ring3Error("NET_INVALID", `a port is 1 to 65535, not ${destinationPort}`);
    }
    const payloadBytes = UDP_HEADER_BYTES + length;
    if (IPV4_HEADER_BYTES + payloadBytes > this.mtu) {
      copy(this.#scratch, UDP_HEADER_BYTES, bytes, at, length);
      putUdpHeader(this.#scratch, 0, sourcePort, destinationPort, length, source, destination);
      return this.datagram(this.#scratch, payloadBytes, { protocol: IpProtocol.UDP, destination, source });
    }
    const place = this.#settings.queue.pool.take();
    if (place < 0) return this.#noBuffer();
    const memory = this.#bytes;
    const ethernetBytes = putType(memory, place, EtherType.IPV4, this.#settings.vlan);
    const header = this.#shape(IpProtocol.UDP, source, destination, payloadBytes);
    const udpAt = place + ethernetBytes + putIpv4Header(memory, place + ethernetBytes, header);
    copy(memory, udpAt + UDP_HEADER_BYTES, bytes, at, length);
    const partial = this.#settings.udpChecksum;
    putUdpHeader(memory, udpAt, sourcePort, destinationPort, length, source, destination, partial);
    const frameBytes = ethernetBytes + IPV4_HEADER_BYTES + payloadBytes;
    const offload = partial ? offloadWord(ethernetBytes, IPV4_HEADER_BYTES) : 0;
    return this.route(place, frameBytes, destination, partial ? PacketFlag.UDP_CHECKSUM : 0, offload);
  }

  /** A datagram whose payload is given whole; in fragments where it is longer than the MTU. */
  datagram(payload: Uint8Array, length: number, shape: DatagramShape): boolean {
    const { protocol, destination, source = this.configuration.address, options } = shape;
    const header = this.#shape(protocol, source, destination, length);
    if (shape.timeToLive !== undefined) header.timeToLive = shape.timeToLive;
    if (options !== undefined) header.options = options;
    const headerBytes = IPV4_HEADER_BYTES + header.options.length;
    const whole = headerBytes + length <= this.mtu;
    const step = whole ? length : fragmentPayload(this.mtu, headerBytes);
    let sent = true;
    let done = 0;
    do {
      const part = Math.min(step, length - done);
      header.payloadBytes = part;
      header.fragmentOffset = done;
      header.moreFragments = done + part < length;
      sent = this.#piece(header, payload, done, part) && sent;
      done += part;
    } while (done < length);
    header.options = NO_OPTIONS;
    header.moreFragments = false;
    header.fragmentOffset = 0;
    return sent;
  }

  #piece(header: Ipv4Outgoing, payload: Uint8Array, from: number, length: number): boolean {
    const place = this.#settings.queue.pool.take();
    if (place < 0) return this.#noBuffer();
    const ethernetBytes = putType(this.#bytes, place, EtherType.IPV4, this.#settings.vlan);
    const headerBytes = putIpv4Header(this.#bytes, place + ethernetBytes, header);
    copy(this.#bytes, place + ethernetBytes + headerBytes, payload, from, length);
    return this.route(place, ethernetBytes + headerBytes + length, header.destination, 0, 0);
  }

  #shape(protocol: number, source: number, destination: number, payloadBytes: number): Ipv4Outgoing {
    const header = this.#header;
    this.#identification = (this.#identification + 1) & 0xffff;
    header.identification = this.#identification;
    header.protocol = protocol;
    header.source = source;
    header.destination = destination;
    header.payloadBytes = payloadBytes;
    header.timeToLive = isMulticast(destination) ? MULTICAST_TTL : DEFAULT_TTL;
    return header;
  }

  /**
   * Sends the frame at `place`, whose header lacks only its addresses, on the way to `destination`. Its buffer is given away
   * in any case.
   */
  route(place: number, length: number, destination: number, flags: number, offload: number): boolean {
    const bytes = this.#bytes;
    copyMac(bytes, place + EthernetField.SOURCE, this.#mac, 0);
    if (this.isBroadcast(destination)) {
      putMac(bytes, place, BROADCAST_MAC);
      return this.#hand(place, length, flags, offload);
    }
    if (isMulticast(destination)) {
      putMac(bytes, place, multicastMac(destination));
      return this.#hand(place, length, flags, offload);
    }
    const next = this.nextHop(destination);
    if (next === ANY_ADDRESS) {
      this.#settings.counts.noRoute++;
      this.#settings.queue.pool.give(place);
      return false;
    }
    const nowMs = this.#settings.now();
    const mac = this.neighbours.find(next, nowMs);
    if (mac !== undefined) {
      copyMac(bytes, place + EthernetField.DESTINATION, mac, 0);
      return this.#hand(place, length, flags, offload);
    }
    if (this.neighbours.wait(next, { place, length, flags, offload }, nowMs)) return true;
    this.#settings.counts.unresolved++;
    this.#settings.queue.pool.give(place);
    return false;
  }

  /** The next station on the way to one `destination`: itself, or the gateway; 0 where there is no way. */
  nextHop(destination: number): number {
    const { address, gateway } = this.configuration;
    if (address === ANY_ADDRESS || destination === address) return ANY_ADDRESS;
    return this.onLink(destination) ? destination : gateway;
  }

  /** Tells the one at `mac` that we have our address. */
  answerArp(address: number, mac: Uint8Array): void {
    this.#arp(ArpOperation.REPLY, address, mac);
  }

  /** Tells everybody that we have our address: RFC 5227, section 2.3. */
  announce(): void {
    const { address } = this.configuration;
    if (address !== ANY_ADDRESS) this.#arp(ArpOperation.REQUEST, address, undefined);
  }

  /** Asks everybody whether somebody has `address`, without saying who asks: RFC 5227, section 2.1.1. */
  probe(address: number): void {
    this.#arp(ArpOperation.REQUEST, address, undefined, ANY_ADDRESS);
  }

  #arp(
    operation: number,
    targetAddress: number,
    mac: Uint8Array | undefined,
    senderAddress: number = this.configuration.address,
  ): void {
    if (!this.#settings.arp) return;
    const place = this.#settings.queue.pool.take();
    if (place < 0) {
      this.#noBuffer();
      return;
    }
    const bytes = this.#bytes;
    if (mac === undefined) putMac(bytes, place, BROADCAST_MAC);
    else copyMac(bytes, place, mac, 0);
    copyMac(bytes, place + EthernetField.SOURCE, this.#mac, 0);
    const at = putType(bytes, place, EtherType.ARP, this.#settings.vlan);
    const targetMac = operation === ArpOperation.REPLY ? (mac ?? NO_MAC) : NO_MAC;
    const length = putArp(bytes, place + at, {
      operation,
      senderMac: this.#mac,
      senderAddress,
      targetMac,
      targetAddress,
    });
    this.#hand(place, at + length, 0, 0);
  }

  #hand(place: number, length: number, flags: number, offload: number): boolean {
    const taken = this.transmit.add(place, length, flags, offload);
    if (taken) this.#settings.counts.sent++;
    return taken;
  }

  #noBuffer(): false {
    this.#settings.counts.noBuffer++;
    return false;
  }

  [Symbol.dispose](): void {
    this.neighbours.clear();
    this.transmit[Symbol.dispose]();
  }
}

const NO_OPTIONS: Uint8Array = new Uint8Array(0);

/** From this size on the engine's own copy is worth its call. */
const BULK_BYTES = 256;

function copy(to: Uint8Array, toAt: number, from: Uint8Array, fromAt: number, length: number): void {
  if (length >= BULK_BYTES) {
    to.set(from.subarray(fromAt, fromAt + length), toAt);
    return;
  }
  for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i] as number;
}

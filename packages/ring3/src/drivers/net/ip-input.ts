// The way in: one received frame at a time, checked from the outside inwards, to ARP, ICMP, IGMP or an endpoint. Hard about
// it: a frame's buffer is either given back or goes out again as the answer, and never both.
import { EtherType, EthernetField, MAC_BYTES } from "../../specs/ethernet/index.ts";
import { ArpOperation, ArpPacket } from "./arp.ts";
import { get16 } from "./byte-order.ts";
import { EthernetHeader } from "./ethernet.ts";
import {
  ICMP_HEADER_BYTES,
  IcmpMessage,
  IcmpType,
  IcmpUnreachable,
  putEcho,
  putError,
  QUOTED_BYTES,
  quoted,
} from "./icmp.ts";
import type { IgmpHost } from "./igmp.ts";
import type { IpOutput } from "./ip-output.ts";
import { IPV4_HEADER_BYTES, Ipv4Header, IpProtocol, Ipv4Outgoing, putIpv4Header } from "./ipv4.ts";
import { ANY_ADDRESS, ALL_SYSTEMS, isMulticast, ipv4Text, isUnicast } from "./ipv4-address.ts";
import { PacketFlag } from "./packets.ts";
import type { Pinger } from "./pinger.ts";
import type { Reassembler } from "./reassembly.ts";
import { RateLimit, type StackCounts } from "./stack-statistics.ts";
import { UDP_HEADER_BYTES, UdpHeader } from "./udp.ts";
import type { UdpPorts } from "./udp-ports.ts";

/** What the way in leads to. */
export interface InputSettings {
  /** The pool's bytes. */
  readonly bytes: Uint8Array;
  readonly counts: StackCounts;
  readonly output: IpOutput;
  readonly ports: UdpPorts;
  readonly groups: IgmpHost;
  readonly pinger: Pinger;
  readonly reassembler: Reassembler;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly vlan: number;
  /** Whether ARP is spoken. */
  readonly arp: boolean;
  /** Whether echo requests are answered. */
  readonly answerEcho: boolean;
}

const ERRORS_PER_SECOND = 100;
const NEW_NEIGHBOURS_PER_SECOND = 100;
/** RFC 5227, section 2.4: an address is defended once in so long. */
const DEFEND_MS = 10_000;

export class IpInput {
  /** Accepts what is sent to our Ethernet address under any address: DHCP before there is one. */
  unconfigured = false;
  /** The address that is being probed; `heard` aborts where somebody has it. */
  probing: { readonly address: number; readonly heard: AbortController } | undefined;
  readonly #settings: InputSettings;
  readonly #ethernet: EthernetHeader = new EthernetHeader();
  readonly #ipv4: Ipv4Header = new Ipv4Header();
  readonly #arp: ArpPacket = new ArpPacket();
  readonly #icmp: IcmpMessage = new IcmpMessage();
  readonly #udp: UdpHeader = new UdpHeader();
  readonly #outgoing: Ipv4Outgoing = new Ipv4Outgoing();
  readonly #errors: RateLimit = new RateLimit(ERRORS_PER_SECOND);
  readonly #newNeighbours: RateLimit = new RateLimit(NEW_NEIGHBOURS_PER_SECOND);
  #defendedMs: number = Number.NEGATIVE_INFINITY;
  /** Whether the frame was sent to all stations or a group, below IP. */
  #group = false;

  constructor(settings: InputSettings) {
    this.#settings = settings;
  }

  /** Takes a frame; `true` where its buffer went out again. */
  frame(place: number, length: number, flags: number, offload: number, nowMs: number): boolean {
    const { bytes, counts, vlan } = this.#settings;
    const ethernet = this.#ethernet;
    counts.received++;
    if (!ethernet.read(bytes, place, length)) {
      counts.drop("ethernet", "short");
      return false;
    }
    const tag = (flags & PacketFlag.VLAN) === 0 ? ethernet.vlan : (offload >>> 16) & 0xfff;
    // VLAN 0 is only a priority (IEEE 802.1Q, table 9-2).
    if ((tag > 0 ? tag : -1) !== (vlan > 0 ? vlan : -1) || !this.#forUs(place)) {
      counts.notForUs++;
      return false;
    }
    const at = place + ethernet.payloadAt;
    const available = length - ethernet.payloadAt;
    if (ethernet.type === EtherType.IPV4) return this.#datagram(place, at, available, flags, nowMs);
    if (ethernet.type === EtherType.ARP) this.#arpPacket(place, at, available, nowMs);
    else counts.unknownProtocol++;
    return false;
  }

  #forUs(place: number): boolean {
    const { bytes, mac } = this.#settings;
    this.#group = ((bytes[place] as number) & 1) === 1;
    // What we sent to everybody may come back from a switch: a probe of our own is not somebody who has the address.
    if (this.#group) return !isMac(bytes, place + EthernetField.SOURCE, mac);
    return isMac(bytes, place, mac);
  }

  #arpPacket(place: number, at: number, available: number, nowMs: number): void {
    const { bytes, counts, output } = this.#settings;
    const arp = this.#arp;
    const problem = arp.read(bytes, at, available, place + EthernetField.SOURCE);
    if (problem !== undefined) {
      counts.drop("arp", problem);
      return;
    }
    counts.arp++;
    if (!this.#settings.arp) return;
    const { senderAddress, senderMacAt, targetAddress } = arp;
    const { probing } = this;
    if (
      probing !== undefined &&
      (senderAddress === probing.address || (senderAddress === 0 && targetAddress === probing.address))
    ) {
      probing.heard.abort();
    }
    const { address } = output.configuration;
    if (address === ANY_ADDRESS) return;
    if (senderAddress === address) {
      counts.addressConflicts++;
      if (nowMs - this.#defendedMs < DEFEND_MS) return;
      this.#defendedMs = nowMs;
      output.announce();
      return;
    }
    if (senderAddress !== 0 && !output.onLink(senderAddress)) {
      counts.drop("arp", "off-link");
      return;
    }
    const asksUs = arp.operation === ArpOperation.REQUEST && targetAddress === address;
    if (senderAddress !== 0) {
      const create = output.neighbours.awaits(senderAddress) || (asksUs && this.#newNeighbours.allows(nowMs));
      output.neighbours.heard(senderAddress, bytes, senderMacAt, create, nowMs);
    }
    if (asksUs) output.answerArp(senderAddress, bytes.slice(senderMacAt, senderMacAt + MAC_BYTES));
  }

  #datagram(place: number, at: number, available: number, flags: number, nowMs: number): boolean {
    const { bytes, counts, reassembler } = this.#settings;
    const ipv4 = this.#ipv4;
    const checked = (flags & (PacketFlag.IPV4_CHECKED | PacketFlag.IPV4_BAD)) === PacketFlag.IPV4_CHECKED;
    const problem = ipv4.read(bytes, at, available, checked);
    if (problem !== undefined) {
      counts.drop("ipv4", problem);
      return false;
    }
    if (!this.#addressed(ipv4.destination)) {
      counts.notForUs++;
      return false;
    }
    const { address } = this.#settings.output.configuration;
    if (address !== ANY_ADDRESS && ipv4.source === address) {
      counts.drop("ipv4", "source");
      return false;
    }
    if (ipv4.fragment) {
      counts.fragments++;
      const whole = reassembler.add(ipv4, bytes, at + ipv4.headerBytes, nowMs);
      if (whole !== undefined) this.#payload(-1, whole, 0, whole.length, 0, nowMs);
      return false;
    }
    return this.#payload(place, bytes, at + ipv4.headerBytes, ipv4.payloadBytes, flags, nowMs);
  }

  /** Whether we take datagrams for `destination`. */
  #addressed(destination: number): boolean {
    const { output, groups } = this.#settings;
    const { address } = output.configuration;
    if (address !== ANY_ADDRESS && destination === address) return true;
    if (output.isBroadcast(destination)) return true;
    if (isMulticast(destination)) return destination === ALL_SYSTEMS || groups.has(destination);
    return this.unconfigured && address === ANY_ADDRESS && !this.#group && isUnicast(destination);
  }

  /** `place` is the frame's, and -1 where the datagram was put together. */
  #payload(place: number, bytes: Uint8Array, at: number, length: number, flags: number, nowMs: number): boolean {
    const { counts, groups } = this.#settings;
    switch (this.#ipv4.protocol) {
      case IpProtocol.UDP:
        this.#datagramUdp(place, bytes, at, length, flags, nowMs);
        return false;
      case IpProtocol.ICMP:
        return this.#message(place, bytes, at, length, nowMs);
      case IpProtocol.IGMP:
        counts.igmp++;
        groups.receive(bytes, at, length, nowMs);
        return false;
    }
    counts.unknownProtocol++;
    this.#tell(place, at, IcmpUnreachable.PROTOCOL, nowMs);
    return false;
  }

  #datagramUdp(place: number, bytes: Uint8Array, at: number, length: number, flags: number, nowMs: number): void {
    const { counts, ports } = this.#settings;
    const udp = this.#udp;
    const { source, destination } = this.#ipv4;
    const vouched = (flags & PacketFlag.L4_CHECKED) !== 0 || (flags & PacketFlag.L4_PARTIAL) !== 0;
    const trust = vouched && (flags & PacketFlag.L4_BAD) === 0 ? "trust" : "check";
    const problem = udp.read(bytes, at, length, source, destination, trust);
    if (problem !== undefined) {
      counts.drop("udp", problem);
      return;
    }
    const endpoint = ports.get(udp.destinationPort);
    if (endpoint === undefined) {
      counts.udpNoPort++;
      this.#tell(place, at, IcmpUnreachable.PORT, nowMs);
      return;
    }
    counts.udp++;
    endpoint.deliver(bytes, at + UDP_HEADER_BYTES, udp.payloadBytes, source, udp.sourcePort, destination);
  }

  #message(place: number, bytes: Uint8Array, at: number, length: number, nowMs: number): boolean {
    const { counts, pinger } = this.#settings;
    const icmp = this.#icmp;
    const { source, timeToLive } = this.#ipv4;
    const problem = icmp.read(bytes, at, length);
    if (problem !== undefined) {
      counts.drop("icmp", problem);
      return false;
    }
    counts.icmp++;
    switch (icmp.type) {
      case IcmpType.ECHO_REQUEST:
        return this.#echo(place, bytes, at, length);
      case IcmpType.ECHO_REPLY: {
        if (icmp.identifier !== pinger.identifier) return false;
        const { sequence, payloadBytes } = icmp;
        pinger.replied(bytes, at + ICMP_HEADER_BYTES, { source, sequence, payloadBytes, timeToLive }, nowMs);
        return false;
      }
      case IcmpType.UNREACHABLE:
      case IcmpType.TIME_EXCEEDED:
        this.#reported(bytes, at, length);
    }
    return false;
  }

  /** Answers in the same buffer where the datagram lies in one. */
  #echo(place: number, bytes: Uint8Array, at: number, length: number): boolean {
    const { answerEcho, output } = this.#settings;
    const { destination, source, service } = this.#ipv4;
    if (!answerEcho || destination !== output.configuration.address) return false;
    const { identifier, sequence, payloadBytes } = this.#icmp;
    putEcho(bytes, at, IcmpType.ECHO_REPLY, identifier, sequence, payloadBytes);
    if (place < 0 || this.#ipv4.headerBytes !== IPV4_HEADER_BYTES) {
      output.datagram(place < 0 ? bytes : bytes.slice(at, at + length), length, {
        protocol: IpProtocol.ICMP,
        destination: source,
      });
      return false;
    }
    const header = this.#outgoing;
    header.protocol = IpProtocol.ICMP;
    header.service = service;
    header.identification = get16(bytes, at - IPV4_HEADER_BYTES + 4);
    header.payloadBytes = length;
    header.source = destination;
    header.destination = source;
    putIpv4Header(bytes, at - IPV4_HEADER_BYTES, header);
    output.route(place, at + length - place, source, 0, 0);
    return true;
  }

  /** An error about something that we sent. */
  #reported(bytes: Uint8Array, at: number, length: number): void {
    const { counts, ports, pinger, output } = this.#settings;
    const about = quoted(bytes, at, length);
    if (about === undefined || about.source !== output.configuration.address) {
      counts.drop("icmp", "quoted");
      return;
    }
    if (about.protocol === IpProtocol.UDP) ports.get(about.first)?.report();
    else if (about.protocol === IpProtocol.ICMP && about.first === pinger.identifier) {
      const what = this.#icmp.type === IcmpType.UNREACHABLE ? "unreachable" : "time exceeded";
      const reason = `${ipv4Text(this.#ipv4.source)} says ${what}, code ${this.#icmp.code}`;
      pinger.failed(about.second, about.destination, reason);
    }
  }

  /** Tells the sender that nobody takes this, where an error may be told at all: RFC 1122, section 3.2.2. */
  #tell(place: number, at: number, code: number, nowMs: number): void {
    const { bytes, counts, output } = this.#settings;
    const { destination, source, headerBytes, payloadBytes } = this.#ipv4;
    if (place < 0 || this.#group || destination !== output.configuration.address || !isUnicast(source)) return;
    if (!this.#errors.allows(nowMs)) {
      counts.rateLimited++;
      return;
    }
    const quotedBytes = headerBytes + Math.min(QUOTED_BYTES, payloadBytes);
    const message = new Uint8Array(ICMP_HEADER_BYTES + quotedBytes);
    putError(message, 0, { type: IcmpType.UNREACHABLE, code }, bytes, at - headerBytes, quotedBytes);
    output.datagram(message, message.length, { protocol: IpProtocol.ICMP, destination: source });
  }
}

function isMac(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < MAC_BYTES; i++) if (bytes[at + i] !== mac[i]) return false;
  return true;
}

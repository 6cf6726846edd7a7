// The IPv4 header: RFC 791, section 3.1. Everything that a header says is checked before it is believed; options are
// skipped and never obeyed. Lengths are taken once, since a device could change the bytes afterwards.
import { get16, get32, put16, put32 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { isMulticast } from "./ipv4-address.ts";

/** Bytes of a header without options. */
export const IPV4_HEADER_BYTES = 20;
/** Bytes of the longest datagram, its header among them. */
export const IPV4_MAXIMUM_BYTES = 65_535;
/** Every station takes datagrams of this size, RFC 791, section 3.1 (total length). */
export const IPV4_MINIMUM_MTU = 68;
const MAXIMUM_HEADER_BYTES = 60;

/** Offsets in the header. */
const Field = {
  VERSION: 0,
  SERVICE: 1,
  TOTAL_LENGTH: 2,
  IDENTIFICATION: 4,
  FRAGMENT: 6,
  TIME_TO_LIVE: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
} as const;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;
const FRAGMENT_OFFSET = 0x1fff;

/** Protocols above, IANA's protocol numbers. */
export const IpProtocol = { ICMP: 1, IGMP: 2, TCP: 6, UDP: 17 } as const;

/** Why a datagram was dropped. */
export type Ipv4Problem = "short" | "version" | "header-length" | "total-length" | "checksum" | "source" | "fragment";

/** One read header; an object that is used again for every datagram. */
export class Ipv4Header {
  headerBytes = 0;
  /** Bytes behind the header; what pads a short frame is not among them. */
  payloadBytes = 0;
  service = 0;
  identification = 0;
  dontFragment = false;
  moreFragments = false;
  /** Bytes that lie before this fragment in the datagram. */
  fragmentOffset = 0;
  timeToLive = 0;
  protocol = 0;
  source = 0;
  destination = 0;

  /** Whether this is a part of a datagram. */
  get fragment(): boolean {
    return this.moreFragments || this.fragmentOffset !== 0;
  }

  /**
   * Reads and checks the header at `at`, of which `available` bytes were received. `checked` says that the device has
   * checked the checksum. Gives the reason where the datagram is to be dropped.
   */
  read(bytes: Uint8Array, at: number, available: number, checked = false): Ipv4Problem | undefined {
    if (available < IPV4_HEADER_BYTES) return "short";
    const first = bytes[at + Field.VERSION] as number;
    if (first >>> 4 !== 4) return "version";
    const headerBytes = (first & 0xf) * 4;
    if (headerBytes < IPV4_HEADER_BYTES || headerBytes > available) return "header-length";
    const totalBytes = get16(bytes, at + Field.TOTAL_LENGTH);
    if (totalBytes < headerBytes || totalBytes > available) return "total-length";
    if (!checked && sumBytes(bytes, at, headerBytes) !== 0xffff) return "checksum";
    const source = get32(bytes, at + Field.SOURCE);
    // RFC 1122, section 3.2.1.3: a group or everybody is nobody's address, nor is 127.0.0.0/8 on a wire.
    if (isMulticast(source) || source === -1 || source >>> 24 === 127) return "source";
    const fragment = get16(bytes, at + Field.FRAGMENT);
    const fragmentOffset = (fragment & FRAGMENT_OFFSET) * 8;
    const moreFragments = (fragment & MORE_FRAGMENTS) !== 0;
    const payloadBytes = totalBytes - headerBytes;
    if (moreFragments && (payloadBytes === 0 || payloadBytes % 8 !== 0)) return "fragment";
    if (fragmentOffset + payloadBytes > IPV4_MAXIMUM_BYTES - headerBytes) return "fragment";
    this.headerBytes = headerBytes;
    this.payloadBytes = payloadBytes;
    this.service = bytes[at + Field.SERVICE] as number;
    this.identification = get16(bytes, at + Field.IDENTIFICATION);
    this.dontFragment = (fragment & DONT_FRAGMENT) !== 0;
    this.moreFragments = moreFragments;
    this.fragmentOffset = fragmentOffset;
    this.timeToLive = bytes[at + Field.TIME_TO_LIVE] as number;
    this.protocol = bytes[at + Field.PROTOCOL] as number;
    this.source = source;
    this.destination = get32(bytes, at + Field.DESTINATION);
    return undefined;
  }
}

/** What a header to write says; an object that is used again. */
export class Ipv4Outgoing {
  payloadBytes = 0;
  service = 0;
  identification = 0;
  dontFragment = false;
  moreFragments = false;
  /** A multiple of 8. */
  fragmentOffset = 0;
  timeToLive = 64;
  protocol = 0;
  source = 0;
  destination = 0;
  /** Options as they are, a multiple of 4 bytes and 40 at most. */
  options: Uint8Array = NO_OPTIONS;
}

const NO_OPTIONS: Uint8Array = new Uint8Array(0);
/** RFC 2113: routers look at this datagram. IGMP asks for it. */
export const ROUTER_ALERT: Uint8Array = Uint8Array.of(0x94, 4, 0, 0);

/** Writes a header at `at` and returns its length. */
export function putIpv4Header(bytes: Uint8Array, at: number, header: Ipv4Outgoing): number {
  const { options } = header;
  const headerBytes = IPV4_HEADER_BYTES + options.length;
  if (options.length % 4 !== 0 || headerBytes > MAXIMUM_HEADER_BYTES) {
    throw new RangeError(`options of ${options.length} bytes do not fit in a header`);
  }
  bytes[at + Field.VERSION] = 0x40 | (headerBytes >>> 2);
  bytes[at + Field.SERVICE] = header.service;
  put16(bytes, at + Field.TOTAL_LENGTH, headerBytes + header.payloadBytes);
  put16(bytes, at + Field.IDENTIFICATION, header.identification);
  const flags = (header.dontFragment ? DONT_FRAGMENT : 0) | (header.moreFragments ? MORE_FRAGMENTS : 0);
  put16(bytes, at + Field.FRAGMENT, flags | (header.fragmentOffset >>> 3));
  bytes[at + Field.TIME_TO_LIVE] = header.timeToLive;
  bytes[at + Field.PROTOCOL] = header.protocol;
  put16(bytes, at + Field.CHECKSUM, 0);
  put32(bytes, at + Field.SOURCE, header.source);
  put32(bytes, at + Field.DESTINATION, header.destination);
  for (let i = 0; i < options.length; i++) bytes[at + IPV4_HEADER_BYTES + i] = options[i] as number;
  put16(bytes, at + Field.CHECKSUM, finishSum(sumBytes(bytes, at, headerBytes)));
  return headerBytes;
}

/** Payload bytes of each fragment but the last for an MTU: as many as fit, in units of 8. */
export function fragmentPayload(mtu: number, headerBytes: number): number {
  return Math.floor((mtu - headerBytes) / 8) * 8;
}

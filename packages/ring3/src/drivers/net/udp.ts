// UDP: RFC 768, with RFC 1122, section 4.1. A checksum of zero says that there is none.
import { get16, put16 } from "./byte-order.ts";
import { finishSum, sumBytes, sumPseudoHeader } from "./checksum.ts";
import { IPV4_HEADER_BYTES, IPV4_MAXIMUM_BYTES, IpProtocol } from "./ipv4.ts";

export const UDP_HEADER_BYTES = 8;
/** Bytes of the largest datagram that IPv4 carries. */
export const UDP_MAXIMUM_PAYLOAD: number = IPV4_MAXIMUM_BYTES - IPV4_HEADER_BYTES - UDP_HEADER_BYTES;

const Field = { SOURCE: 0, DESTINATION: 2, LENGTH: 4, CHECKSUM: 6 } as const;

export type UdpProblem = "short" | "length" | "checksum";

/** Who checks a checksum: the device has, or only the pseudo header's sum stands there (a packet of the same machine). */
export type UdpTrust = "check" | "trust";

/** One read header; an object that is used again. */
export class UdpHeader {
  sourcePort = 0;
  destinationPort = 0;
  /** Bytes behind the header. */
  payloadBytes = 0;

  /** Reads the datagram at `at` of `available` bytes, from `source` to `destination`. */
  read(
    bytes: Uint8Array,
    at: number,
    available: number,
    source: number,
    destination: number,
    trust: UdpTrust = "check",
  ): UdpProblem | undefined {
    if (available < UDP_HEADER_BYTES) return "short";
    const length = get16(bytes, at + Field.LENGTH);
    if (length < UDP_HEADER_BYTES || length > available) return "length";
    if (trust === "check" && get16(bytes, at + Field.CHECKSUM) !== 0) {
      if (sumBytes(bytes, at, length, sumPseudoHeader(source, destination, IpProtocol.UDP, length)) !== 0xffff) {
        return "checksum";
      }
    }
    this.sourcePort = get16(bytes, at + Field.SOURCE);
    this.destinationPort = get16(bytes, at + Field.DESTINATION);
    this.payloadBytes = length - UDP_HEADER_BYTES;
    return undefined;
  }
}

/**
 * Writes the header of a datagram whose payload of `payloadBytes` lies behind it already. With `partial` the checksum field
 * gets the pseudo header's sum only, for a device that adds the rest.
 */
export function putUdpHeader(
  bytes: Uint8Array,
  at: number,
  sourcePort: number,
  destinationPort: number,
  payloadBytes: number,
  source: number,
  destination: number,
  partial = false,
): void {
  const length = UDP_HEADER_BYTES + payloadBytes;
  put16(bytes, at + Field.SOURCE, sourcePort);
  put16(bytes, at + Field.DESTINATION, destinationPort);
  put16(bytes, at + Field.LENGTH, length);
  const pseudo = sumPseudoHeader(source, destination, IpProtocol.UDP, length);
  if (partial) {
    put16(bytes, at + Field.CHECKSUM, pseudo);
    return;
  }
  put16(bytes, at + Field.CHECKSUM, 0);
  // A sum of zero is sent as its other form, since zero says that there is none.
  put16(bytes, at + Field.CHECKSUM, finishSum(sumBytes(bytes, at, length, pseudo)) || 0xffff);
}

// ICMP: RFC 792, with the rules of RFC 1122, section 3.2.2: errors are told about nothing but the first fragment of what was
// meant for one station, and never about other errors.
import { get16, get32, put16, put32 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { IPV4_HEADER_BYTES, IpProtocol } from "./ipv4.ts";

/** Bytes of every message's header. */
export const ICMP_HEADER_BYTES = 8;
export const IcmpType = {
  ECHO_REPLY: 0,
  UNREACHABLE: 3,
  SOURCE_QUENCH: 4,
  REDIRECT: 5,
  ECHO_REQUEST: 8,
  TIME_EXCEEDED: 11,
  PARAMETER_PROBLEM: 12,
} as const;
/** Codes of UNREACHABLE. */
export const IcmpUnreachable = { NET: 0, HOST: 1, PROTOCOL: 2, PORT: 3, FRAGMENTATION_NEEDED: 4 } as const;

const Field = { TYPE: 0, CODE: 1, CHECKSUM: 2, IDENTIFIER: 4, SEQUENCE: 6 } as const;

export type IcmpProblem = "short" | "checksum";

/** One read message; an object that is used again. */
export class IcmpMessage {
  type = 0;
  code = 0;
  /** Of an echo; with other types what the second word of the header holds. */
  identifier = 0;
  sequence = 0;
  /** Bytes behind the header. */
  payloadBytes = 0;

  read(bytes: Uint8Array, at: number, length: number): IcmpProblem | undefined {
    if (length < ICMP_HEADER_BYTES) return "short";
    if (sumBytes(bytes, at, length) !== 0xffff) return "checksum";
    this.type = bytes[at + Field.TYPE] as number;
    this.code = bytes[at + Field.CODE] as number;
    this.identifier = get16(bytes, at + Field.IDENTIFIER);
    this.sequence = get16(bytes, at + Field.SEQUENCE);
    this.payloadBytes = length - ICMP_HEADER_BYTES;
    return undefined;
  }
}

/** Writes the header of an echo whose payload of `payloadBytes` lies behind it already. */
export function putEcho(
  bytes: Uint8Array,
  at: number,
  type: number,
  identifier: number,
  sequence: number,
  payloadBytes: number,
): void {
  bytes[at + Field.TYPE] = type;
  bytes[at + Field.CODE] = 0;
  put16(bytes, at + Field.IDENTIFIER, identifier);
  put16(bytes, at + Field.SEQUENCE, sequence);
  putChecksum(bytes, at, ICMP_HEADER_BYTES + payloadBytes);
}

/** An echo request with a copy of `payload`. */
export function echoRequest(identifier: number, sequence: number, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(ICMP_HEADER_BYTES + payload.length);
  message.set(payload, ICMP_HEADER_BYTES);
  putEcho(message, 0, IcmpType.ECHO_REQUEST, identifier, sequence, payload.length);
  return message;
}

/** Bytes of the datagram in question that an error quotes: its header and 8 bytes, RFC 792. */
export const QUOTED_BYTES = 8;

/** Writes an error about the datagram at `datagramAt` with a header of `headerBytes`; returns its length. */
export function putError(
  bytes: Uint8Array,
  at: number,
  error: { readonly type: number; readonly code: number },
  datagram: Uint8Array,
  datagramAt: number,
  quotedBytes: number,
): number {
  bytes[at + Field.TYPE] = error.type;
  bytes[at + Field.CODE] = error.code;
  put32(bytes, at + Field.IDENTIFIER, 0);
  for (let i = 0; i < quotedBytes; i++) bytes[at + ICMP_HEADER_BYTES + i] = datagram[datagramAt + i] as number;
  putChecksum(bytes, at, ICMP_HEADER_BYTES + quotedBytes);
  return ICMP_HEADER_BYTES + quotedBytes;
}

function putChecksum(bytes: Uint8Array, at: number, length: number): void {
  put16(bytes, at + Field.CHECKSUM, 0);
  put16(bytes, at + Field.CHECKSUM, finishSum(sumBytes(bytes, at, length)));
}

/** What an error quotes of a datagram that this station sent. */
export interface QuotedDatagram {
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  /** UDP: its ports. ICMP echo: identifier and sequence. */
  readonly first: number;
  readonly second: number;
}

/** Reads what the error at `at`, of `length` bytes, quotes; `undefined` where it quotes too little or nonsense. */
export function quoted(bytes: Uint8Array, at: number, length: number): QuotedDatagram | undefined {
  const start = at + ICMP_HEADER_BYTES;
  const available = length - ICMP_HEADER_BYTES;
  if (available < IPV4_HEADER_BYTES || (bytes[start] as number) >>> 4 !== 4) return undefined;
  const headerBytes = ((bytes[start] as number) & 0xf) * 4;
  if (headerBytes < IPV4_HEADER_BYTES || headerBytes + QUOTED_BYTES > available) return undefined;
  // Of a later fragment nothing is known of who sent it.
  if ((get16(bytes, start + 6) & 0x1fff) !== 0) return undefined;
  const protocol = bytes[start + 9] as number;
  const portsAt = start + headerBytes + (protocol === IpProtocol.ICMP ? 4 : 0);
  return {
    protocol,
    source: get32(bytes, start + 12),
    destination: get32(bytes, start + 16),
    first: get16(bytes, portsAt),
    second: get16(bytes, portsAt + 2),
  };
}

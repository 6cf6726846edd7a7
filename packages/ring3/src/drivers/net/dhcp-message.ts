// DHCP messages: RFC 2131, section 2, and options of RFC 2132. Hard about it: options may go on in the fields `file` and
// `sname` (option overload), and one option may come in several pieces that belong together (RFC 3396).
import { MAC_BYTES } from "../../specs/ethernet/index.ts";
import { get16, get32, put16, put32 } from "./byte-order.ts";

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;
export const DhcpType = { DISCOVER: 1, OFFER: 2, REQUEST: 3, DECLINE: 4, ACK: 5, NAK: 6, RELEASE: 7 } as const;
/** Option codes, RFC 2132. */
export const DhcpOption = {
  SUBNET_MASK: 1,
  ROUTERS: 3,
  DNS_SERVERS: 6,
  HOST_NAME: 12,
  DOMAIN_NAME: 15,
  MTU: 26,
  REQUESTED_ADDRESS: 50,
  LEASE_SECONDS: 51,
  OVERLOAD: 52,
  MESSAGE_TYPE: 53,
  SERVER: 54,
  WANTED: 55,
  MESSAGE: 56,
  MAXIMUM_SIZE: 57,
  RENEWAL_SECONDS: 58,
  REBINDING_SECONDS: 59,
  CLIENT_ID: 61,
} as const;
const PAD = 0;
const END = 255;

const Field = {
  OP: 0,
  HARDWARE: 1,
  HARDWARE_LENGTH: 2,
  TRANSACTION: 4,
  SECONDS: 8,
  FLAGS: 10,
  CLIENT_ADDRESS: 12,
  YOUR_ADDRESS: 16,
  CLIENT_MAC: 28,
  SERVER_NAME: 44,
  FILE: 108,
  COOKIE: 236,
  OPTIONS: 240,
} as const;
const OP_REQUEST = 1;
const OP_REPLY = 2;
const ETHERNET = 1;
const COOKIE = 0x6382_5363;
/** Answers are to be sent to everybody: we have no address yet. */
const BROADCAST = 0x8000;
/** RFC 951 and RFC 1542, section 2.1: some relays drop anything shorter. */
const MINIMUM_BYTES = 300;

/** An answer of a server, as far as this client wants it. */
export interface DhcpReply {
  readonly transaction: number;
  readonly type: number;
  /** `yiaddr`. */
  readonly address: number;
  readonly options: ReadonlyMap<number, Uint8Array>;
}

/** Reads an answer for the client with the address `mac`; `undefined` where it is none or malformed. */
export function readReply(bytes: Uint8Array, mac: Uint8Array): DhcpReply | undefined {
  if (bytes.length < Field.OPTIONS || bytes[Field.OP] !== OP_REPLY || bytes[Field.HARDWARE] !== ETHERNET)
    return undefined;
  if (bytes[Field.HARDWARE_LENGTH] !== MAC_BYTES || get32(bytes, Field.COOKIE) !== COOKIE) return undefined;
  for (let i = 0; i < MAC_BYTES; i++) if (bytes[Field.CLIENT_MAC + i] !== mac[i]) return undefined;
  const options = new Map<number, Uint8Array>();
  if (!readOptions(bytes.subarray(Field.OPTIONS), options)) return undefined;
  const overload = options.get(DhcpOption.OVERLOAD)?.[0] ?? 0;
  if ((overload & 1) !== 0 && !readOptions(bytes.subarray(Field.FILE, Field.COOKIE), options)) return undefined;
  if ((overload & 2) !== 0 && !readOptions(bytes.subarray(Field.SERVER_NAME, Field.FILE), options)) return undefined;
  const type = options.get(DhcpOption.MESSAGE_TYPE);
  if (type?.length !== 1) return undefined;
  return {
    transaction: get32(bytes, Field.TRANSACTION),
    type: type[0] as number,
    address: get32(bytes, Field.YOUR_ADDRESS),
    options,
  };
}

function readOptions(bytes: Uint8Array, options: Map<number, Uint8Array>): boolean {
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at] as number;
    if (code === END) return true;
    if (code === PAD) {
      at++;
      continue;
    }
    const length = bytes[at + 1];
    if (length === undefined || at + 2 + length > bytes.length) return false;
    const piece = bytes.subarray(at + 2, at + 2 + length);
    const before = options.get(code);
    options.set(code, before === undefined ? piece.slice() : Uint8Array.of(...before, ...piece));
    at += 2 + length;
  }
  // RFC 2131 wants an end; servers that pad to the last byte instead exist.
  return true;
}

/** The 32-bit integer of an option; `undefined` where there is none of that size. */
export function option32(reply: DhcpReply, code: number): number | undefined {
  const value = reply.options.get(code);
  return value?.length === 4 ? get32(value, 0) : undefined;
}

/** The 16-bit integer of an option. */
export function option16(reply: DhcpReply, code: number): number | undefined {
  const value = reply.options.get(code);
  return value?.length === 2 ? get16(value, 0) : undefined;
}

/** The addresses of an option. */
export function optionAddresses(reply: DhcpReply, code: number): readonly number[] {
  const value = reply.options.get(code) ?? new Uint8Array(0);
  return Array.from({ length: Math.floor(value.length / 4) }, (_, i) => get32(value, 4 * i));
}

/** What a client says. */
export interface DhcpRequest {
  readonly transaction: number;
  readonly mac: Uint8Array;
  readonly type: number;
  readonly seconds: number;
  /** The client's own address, where it has one that it may use. */
  readonly clientAddress?: number;
  readonly broadcast: boolean;
  readonly options: readonly (readonly [code: number, value: Uint8Array])[];
}

export function dhcpRequest(request: DhcpRequest): Uint8Array {
  const { options } = request;
  const size = Field.OPTIONS + 3 + options.reduce((sum, [, value]) => sum + 2 + value.length, 0) + 1;
  const bytes = new Uint8Array(Math.max(size, MINIMUM_BYTES));
  bytes[Field.OP] = OP_REQUEST;
  bytes[Field.HARDWARE] = ETHERNET;
  bytes[Field.HARDWARE_LENGTH] = MAC_BYTES;
  put32(bytes, Field.TRANSACTION, request.transaction);
  put16(bytes, Field.SECONDS, Math.min(request.seconds, 0xffff));
  put16(bytes, Field.FLAGS, request.broadcast ? BROADCAST : 0);
  put32(bytes, Field.CLIENT_ADDRESS, request.clientAddress ?? 0);
  bytes.set(request.mac, Field.CLIENT_MAC);
  put32(bytes, Field.COOKIE, COOKIE);
  let at: number = Field.OPTIONS;
  for (const [code, value] of [[DhcpOption.MESSAGE_TYPE, Uint8Array.of(request.type)] as const, ...options]) {
    bytes[at] = code;
    bytes[at + 1] = value.length;
    bytes.set(value, at + 2);
    at += 2 + value.length;
  }
  bytes[at] = END;
  return bytes;
}

/** Four bytes of an address or a number, for an option. */
export function bytes32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  put32(bytes, 0, value);
  return bytes;
}

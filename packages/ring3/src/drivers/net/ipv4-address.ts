// Addresses of IPv4: 32-bit integers with a sign, as `byte-order.ts` says. Text only at the edges.
import { Ring3Error } from "../../binary/error.ts";

/** 0.0.0.0: not known yet. */
export const ANY_ADDRESS = 0;
/** 255.255.255.255: all stations of this link. */
export const LIMITED_BROADCAST: number = -1;
/** 224.0.0.1: every multicast station, which is never joined or left (RFC 1112, section 4). */
export const ALL_SYSTEMS: number = 0xe000_0001 | 0;

/** An address with the length of its network's prefix. */
export interface Ipv4Network {
  readonly address: number;
  readonly prefix: number;
}

/** The number of `192.0.2.1`; `undefined` for anything else. */
export function parseIpv4(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  if (parts === undefined || parts.some((part) => Number(part) > 255 || (part.length > 1 && part.startsWith("0")))) {
    return undefined;
  }
  return parts.reduce((address, part) => (address << 8) | Number(part), 0);
}

/** The number of `192.0.2.1`, or the number itself. Throws `ADDRESS_INVALID`. */
export function ipv4(address: string | number): number {
  if (typeof address === "number") return address | 0;
  const parsed = parseIpv4(address);
  if (parsed === undefined) {
    throw new Ring3Error("ADDRESS_INVALID", `an IPv4 address is written like 192.0.2.1, not "${address}"`);
  }
  return parsed;
}

/** Parses `192.0.2.1/24`. Throws `ADDRESS_INVALID` for anything but an address that a station can have. */
export function parseNetwork(text: string): Ipv4Network {
  const [, host = "", digits = ""] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
  const address = parseIpv4(host);
  const prefix = Number(digits);
  if (address === undefined || digits === "" || prefix < 1 || prefix > 32) {
    throw new Ring3Error("ADDRESS_INVALID", `an address with its prefix is written like 192.0.2.1/24, not "${text}"`);
  }
  if (!isHostAddress(address, prefix)) {
    throw new Ring3Error("ADDRESS_INVALID", `${text} is no address of one station: it names a network or a group`);
  }
  return { address, prefix };
}

export function ipv4Text(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 0xff}.${(address >>> 8) & 0xff}.${address & 0xff}`;
}

/** The mask of a prefix of `bits` bits. */
export function prefixMask(bits: number): number {
  return bits === 0 ? 0 : -1 << (32 - bits);
}

/** The length of a mask's prefix; -1 where its ones are not all in front. */
export function prefixOfMask(mask: number): number {
  const bits = Math.clz32(~mask);
  return prefixMask(bits) === mask ? bits : -1;
}

/** Whether it names a group (RFC 5771). */
export function isMulticast(address: number): boolean {
  return address >>> 28 === 0xe;
}

/** 240.0.0.0 and above are nobody's (RFC 1112, section 4), 127.0.0.0/8 and 0.0.0.0/8 never on a wire (RFC 1122, 3.2.1.3). */
export function isUnicast(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** Whether one station may have `address` in a network with that prefix. */
export function isHostAddress(address: number, prefix: number): boolean {
  if (!isUnicast(address)) return false;
  // RFC 3021: in networks of two addresses both are stations'.
  if (prefix >= 31) return true;
  const host = address & ~prefixMask(prefix);
  return host !== 0 && host !== ~prefixMask(prefix);
}

/** The Ethernet group that carries an IPv4 group: RFC 1112, section 6.4. */
export function multicastMac(group: number): number {
  return 0x01_005e * 2 ** 24 + (group & 0x7f_ffff);
}

// The filters of ring3 capture: a part of the language of pcap-filter(7), for IPv4 and ARP. Parsed once into functions that
// look at a frame in place.
//
//   expression: and, or, not, parentheses; `and` binds no tighter than `or`, both from the left, as in pcap-filter
//   primitive:  ip arp ip6 udp tcp icmp igmp | [ip] [src|dst] host A | [src|dst] net A/P | [udp|tcp] [src|dst] port N
//               ether [src|dst] host MAC | ether proto N | [ether] broadcast | [ether] multicast | vlan [N] | less N | greater N
import { UsageError } from "../usage-error.ts";

/** Whether the frame of `length` bytes at `at` passes. */
export type CaptureFilter = (bytes: Uint8Array, at: number, length: number) => boolean;

const IPV4 = 0x0800;
const ARP = 0x0806;
const IPV6 = 0x86dd;
const VLAN = 0x8100;
const ICMP = 1;
const IGMP = 2;
const TCP = 6;
const UDP = 17;
const ADDRESSES_AT = { ip: [12, 16], arp: [14, 24] } as const;
type Direction = "src" | "dst" | undefined;

/** Parses `text`; an empty one passes everything. Throws `UsageError` that shows where it stopped to make sense. */
export function parseCaptureFilter(text: string): CaptureFilter {
  if (text.trim() === "") return () => true;
  return new Parser(text).whole();
}

class Parser {
  readonly #text: string;
  readonly #tokens: readonly { readonly word: string; readonly at: number }[];
  #next = 0;
  /** Bytes by which a `vlan` before has moved what follows. */
  #shift = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = [...text.matchAll(/[()!]|&&|\|\||[^\s()!&|]+/g)].map((match) => ({
      word: match[0],
      at: match.index,
    }));
  }

  whole(): CaptureFilter {
    const filter = this.#either();
    if (this.#next < this.#tokens.length) this.#fail("nothing more was expected");
    return filter;
  }

  #peek(): string | undefined {
    return this.#tokens[this.#next]?.word;
  }

  #accept(...words: readonly string[]): string | undefined {
    const word = this.#peek();
    if (word === undefined || !words.includes(word)) return undefined;
    this.#next++;
    return word;
  }

  #word(what: string): string {
    const word = this.#peek();
    if (word === undefined || /^[()!]$/.test(word)) return this.#fail(`${what} was expected`);
    this.#next++;
    return word;
  }

  #fail(why: string): never {
    const at = this.#tokens[this.#next]?.at ?? this.#text.length;
    const place = at < this.#text.length ? `at "${this.#text.slice(at)}"` : "at its end";
    throw new UsageError(`the filter "${this.#text}" cannot be read ${place}: ${why}; see ring3 capture --help`);
  }

  #either(): CaptureFilter {
    let left = this.#inverted();
    for (;;) {
      const first = left;
      if (this.#accept("and", "&&") !== undefined) {
        const second = this.#inverted();
        left = (bytes, at, length) => first(bytes, at, length) && second(bytes, at, length);
      } else if (this.#accept("or", "||") !== undefined) {
        const second = this.#inverted();
        left = (bytes, at, length) => first(bytes, at, length) || second(bytes, at, length);
      } else return left;
    }
  }

  #inverted(): CaptureFilter {
    if (this.#accept("not", "!") === undefined) return this.#primitive();
    const filter = this.#inverted();
    return (bytes, at, length) => !filter(bytes, at, length);
  }

  #primitive(): CaptureFilter {
    if (this.#accept("(") !== undefined) {
      const filter = this.#either();
      if (this.#accept(")") === undefined) this.#fail('")" was expected');
      return filter;
    }
    const shift = this.#shift;
    const word = this.#word("a primitive");
    switch (word) {
      case "ip":
        return this.#qualified(isType(IPV4, shift));
      case "ip6":
        return isType(IPV6, shift);
      case "arp":
        return isType(ARP, shift);
      case "icmp":
        return isProtocol(ICMP, shift);
      case "igmp":
        return isProtocol(IGMP, shift);
      case "tcp":
        return this.#ports([TCP], shift) ?? isProtocol(TCP, shift);
      case "udp":
        return this.#ports([UDP], shift) ?? isProtocol(UDP, shift);
      case "ether":
        return this.#ether(shift);
      case "broadcast":
        return isBroadcast;
      case "multicast":
        return isGroup;
      case "less":
        return this.#size((length, limit) => length <= limit);
      case "greater":
        return this.#size((length, limit) => length >= limit);
      case "vlan":
        return this.#vlan();
    }
    this.#next--;
    return this.#qualified(undefined);
  }

  /** `[src|dst] host|net|port ...`, or `alone` where none follows. */
  #qualified(alone: CaptureFilter | undefined): CaptureFilter {
    const shift = this.#shift;
    const start = this.#next;
    const direction = this.#accept("src", "dst") as Direction;
    const kind = this.#accept("host", "net", "port");
    if (kind === "port") {
      this.#next = start;
      return this.#ports([TCP, UDP], shift) as CaptureFilter;
    }
    if (kind === "host" || kind === "net" || direction !== undefined) {
      const { address, mask } = kind === "net" ? this.#network() : { address: this.#address(), mask: -1 };
      return hasAddress(address, mask, direction, alone === undefined, shift);
    }
    if (alone !== undefined) return alone;
    return this.#fail(`"${this.#peek()}" is no primitive`);
  }

  #ports(protocols: readonly number[], shift: number): CaptureFilter | undefined {
    const start = this.#next;
    const direction = this.#accept("src", "dst") as Direction;
    if (this.#accept("port") === undefined) {
      this.#next = start;
      return undefined;
    }
    const port = this.#number("a port", 65_535);
    return (bytes, at, length) => {
      const ip = at + 14 + shift;
      if (!isType(IPV4, shift)(bytes, at, length) || length < 34 + shift) return false;
      if (!protocols.includes(bytes[ip + 9] as number) || (half(bytes, ip + 6) & 0x1fff) !== 0) return false;
      const ports = ip + ((bytes[ip] as number) & 15) * 4;
      if (ports + 4 > at + length) return false;
      return (
        (direction !== "dst" && half(bytes, ports) === port) || (direction !== "src" && half(bytes, ports + 2) === port)
      );
    };
  }

  #ether(shift: number): CaptureFilter {
    const direction = this.#accept("src", "dst") as Direction;
    if (this.#accept("host") !== undefined || direction !== undefined) {
      const text = this.#word("an Ethernet address");
      if (!/^([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}$/i.test(text)) this.#back(`"${text}" is no Ethernet address`);
      const mac = text.split(":").map((part) => Number.parseInt(part, 16));
      const same = (bytes: Uint8Array, from: number): boolean => mac.every((byte, i) => bytes[from + i] === byte);
      return (bytes, at, length) =>
        length >= 14 && ((direction !== "src" && same(bytes, at)) || (direction !== "dst" && same(bytes, at + 6)));
    }
    if (this.#accept("broadcast") !== undefined) return isBroadcast;
    if (this.#accept("multicast") !== undefined) return isGroup;
    if (this.#accept("proto") !== undefined) return isType(this.#number("a type", 65_535), shift);
    return this.#fail("host, src, dst, proto, broadcast or multicast was expected");
  }

  /** What follows looks behind the tag, as in pcap-filter. */
  #vlan(): CaptureFilter {
    const shift = this.#shift;
    const next = this.#peek();
    const id = next !== undefined && /^\d+$/.test(next) ? this.#number("a VLAN", 4095) : undefined;
    this.#shift += 4;
    const tagged = isType(VLAN, shift);
    if (id === undefined) return tagged;
    return (bytes, at, length) =>
      tagged(bytes, at, length) && length >= 18 + shift && (half(bytes, at + 14 + shift) & 0xfff) === id;
  }

  #size(passes: (length: number, limit: number) => boolean): CaptureFilter {
    const limit = this.#number("a length", 2 ** 31);
    return (_bytes, _at, length) => passes(length, limit);
  }

  #number(what: string, maximum: number): number {
    const text = this.#word(what);
    const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value <= maximum)) this.#back(`"${text}" is not ${what} up to ${maximum}`);
    return value;
  }

  #address(): number {
    const text = this.#word("an IPv4 address");
    const address = parseAddress(text);
    return address ?? this.#back(`"${text}" is no IPv4 address`);
  }

  #network(): { readonly address: number; readonly mask: number } {
    const text = this.#word("a network");
    const [host = "", prefix] = text.split("/");
    const address = parseAddress(host);
    const bits = prefix === undefined ? 32 : Number(prefix);
    if (address === undefined || !(Number.isInteger(bits) && bits >= 0 && bits <= 32)) {
      return this.#back(`"${text}" is no network, as 192.0.2.0/24 is`);
    }
    const mask = bits === 0 ? 0 : -1 << (32 - bits);
    if ((address & ~mask) !== 0) this.#back(`"${text}" has bits behind its prefix`);
    return { address, mask };
  }

  #back(why: string): never {
    this.#next--;
    return this.#fail(why);
  }
}

function half(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function word(bytes: Uint8Array, at: number): number {
  return (half(bytes, at) << 16) | half(bytes, at + 2);
}

function parseAddress(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) return undefined;
  return parts.reduce((address, part) => (address << 8) | part, 0);
}

function isType(type: number, shift: number): CaptureFilter {
  return (bytes, at, length) => length >= 14 + shift && half(bytes, at + 12 + shift) === type;
}

function isProtocol(protocol: number, shift: number): CaptureFilter {
  const ip = isType(IPV4, shift);
  return (bytes, at, length) => ip(bytes, at, length) && length >= 34 + shift && bytes[at + 23 + shift] === protocol;
}

/** Addresses of IPv4, and of ARP unless only IP is asked for. */
function hasAddress(address: number, mask: number, direction: Direction, arp: boolean, shift: number): CaptureFilter {
  const [ip, inArp] = [isType(IPV4, shift), isType(ARP, shift)];
  const matches = (bytes: Uint8Array, at: number): boolean => (word(bytes, at) & mask) === address;
  return (bytes, at, length) => {
    const payload = at + 14 + shift;
    const isIp = ip(bytes, at, length) && length >= 34 + shift;
    if (!isIp && !(arp && inArp(bytes, at, length) && length >= 42 + shift)) return false;
    const [source, destination] = isIp ? ADDRESSES_AT.ip : ADDRESSES_AT.arp;
    return (
      (direction !== "dst" && matches(bytes, payload + source)) ||
      (direction !== "src" && matches(bytes, payload + destination))
    );
  };
}

const isGroup: CaptureFilter = (bytes, at, length) => length >= 14 && ((bytes[at] as number) & 1) === 1;
const isBroadcast: CaptureFilter = (bytes, at, length) => {
  for (let i = 0; i < 6; i++) if (bytes[at + i] !== 0xff) return false;
  return length >= 14;
};

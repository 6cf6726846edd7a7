// Where a function sits: domain, bus, device, function, as Linux and lspci write it.
import { Ring3Error } from "../binary/error.ts";

const pattern = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;

function part(name: string, value: number, limit: number): number {
  if (Number.isInteger(value) && value >= 0 && value < limit) return value;
  throw new Ring3Error(
    "ADDRESS_INVALID",
    `${name} ${value} of a PCI address is not in 0 to 0x${(limit - 1).toString(16)}`,
  );
}

/** The address of a function. Immutable. */
export class PciAddress {
  /** Segment group, 0 to 0xffffffff. */
  readonly domain: number;
  readonly bus: number;
  /** 0 to 31. */
  readonly device: number;
  /** 0 to 7. */
  readonly function: number;

  /** Throws `ADDRESS_INVALID` where a part is out of its range. */
  constructor(domain: number, bus: number, device: number, fn: number) {
    this.domain = part("domain", domain, 2 ** 32);
    this.bus = part("bus", bus, 256);
    this.device = part("device", device, 32);
    this.function = part("function", fn, 8);
  }

  /** Reads `0000:01:00.0` or, in domain 0, `01:00.0`; hexadecimal, domain of up to 8 digits. Throws `ADDRESS_INVALID`. */
  static parse(text: string): PciAddress {
    const match = pattern.exec(text);
    if (match === null) {
      throw new Ring3Error("ADDRESS_INVALID", `"${text}" is no PCI address; write it as 0000:01:00.0 or 01:00.0`);
    }
    const [, domain = "0", bus = "", device = "", fn = ""] = match;
    return new PciAddress(parseInt(domain, 16), parseInt(bus, 16), parseInt(device, 16), parseInt(fn, 16));
  }

  /** Whether {@link parse} would take it. */
  static accepts(text: string): boolean {
    const device = pattern.exec(text)?.[3];
    return device !== undefined && parseInt(device, 16) < 32;
  }

  /** From the 16 bits that identify a function in requests. PCIe 6.0, section 2.2.4.2. */
  static fromRoutingId(domain: number, routingId: number): PciAddress {
    const id = part("routing id", routingId, 0x10000);
    return new PciAddress(domain, id >>> 8, (id >>> 3) & 0x1f, id & 7);
  }

  /** Sorts by domain, bus, device and function. */
  static compare(a: PciAddress, b: PciAddress): number {
    return a.domain - b.domain || a.routingId - b.routingId;
  }

  /** Bus, device and function in 16 bits. */
  get routingId(): number {
    return (this.bus << 8) | (this.device << 3) | this.function;
  }

  equals(other: PciAddress): boolean {
    return PciAddress.compare(this, other) === 0;
  }

  /** `0000:01:00.0`. */
  toString(): string {
    const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
    return `${hex(this.domain, 4)}:${hex(this.bus, 2)}:${hex(this.device, 2)}.${this.function}`;
  }

  toJSON(): string {
    return this.toString();
  }
}

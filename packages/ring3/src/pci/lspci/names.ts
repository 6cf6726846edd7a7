// Names from pci.ids as lspci puts them: names, numbers (-n) or both (-nn), and its words for what the list does not know.
import type { PciIds } from "../ids.ts";
import { hex } from "./layout.ts";

/** 0: names; 1: numbers; 2: both. */
export type NumericIds = 0 | 1 | 2;

const IDE_INTERFACE: readonly (readonly [mask: number, name: string])[] = [
  [0x80, "Master"],
  [0x08, "SecP"],
  [0x04, "SecO"],
  [0x02, "PriP"],
  [0x01, "PriO"],
];
/** What fits into the buffers that lspci formats names into; of longer ones the beginning is shown. */
const NAME_LIMIT = 256;

export class IdNames {
  readonly #ids: PciIds | undefined;
  readonly #numeric: NumericIds;

  /** Without `ids` nothing has a name. */
  constructor(ids: PciIds | undefined, numeric: NumericIds = 0) {
    this.#ids = ids;
    this.#numeric = numeric;
  }

  class(classCode: number): string {
    const subclass = this.#ids?.subclass(classCode >>> 8, classCode & 0xff);
    // Of an unknown subclass the base class names only half, so that the number is shown as well.
    const base = subclass === undefined ? this.#ids?.baseClass(classCode >>> 8) : undefined;
    const both = this.#numeric === 2 || (base !== undefined && this.#numeric === 0);
    return this.#single(subclass ?? base, hex(classCode, 4), "Class", both);
  }

  vendor(vendorId: number): string {
    return this.#single(this.#ids?.vendor(vendorId), hex(vendorId, 4), "Vendor");
  }

  subsystemVendor(vendorId: number): string {
    return this.#single(this.#ids?.vendor(vendorId), hex(vendorId, 4), "Unknown vendor");
  }

  device(vendorId: number, deviceId: number): string {
    return this.#single(this.#ids?.device(vendorId, deviceId), hex(deviceId, 4), "Device");
  }

  vendorAndDevice(vendorId: number, deviceId: number): string {
    return this.#pair(
      this.#ids?.vendor(vendorId),
      this.#ids?.device(vendorId, deviceId),
      `${hex(vendorId, 4)}:${hex(deviceId, 4)}`,
    );
  }

  subsystemDevice(vendorId: number, deviceId: number, subVendorId: number, subId: number): string {
    const name = this.#subsystem(vendorId, deviceId, subVendorId, subId);
    return this.#single(name, hex(subId, 4), "Device");
  }

  subsystem(vendorId: number, deviceId: number, subVendorId: number, subId: number): string {
    const name = this.#subsystem(vendorId, deviceId, subVendorId, subId);
    const numbers = `${hex(subVendorId, 4)}:${hex(subId, 4)}`;
    return this.#pair(this.#ids?.vendor(subVendorId), name, numbers);
  }

  /** `undefined` where there is none; never a number. */
  programmingInterface(classCode: number, value: number): string | undefined {
    const known = this.#ids?.programmingInterface(classCode >>> 8, classCode & 0xff, value);
    if (known !== undefined) return known;
    if (classCode !== 0x0101 || (value & 0x70) !== 0) return undefined;
    return IDE_INTERFACE.filter(([mask]) => (value & mask) !== 0)
      .map(([, name]) => name)
      .join(" ");
  }

  #subsystem(vendorId: number, deviceId: number, subVendorId: number, subId: number): string | undefined {
    // What stands below an id of zero is never looked up.
    const isListed = vendorId > 0 && deviceId > 0;
    const own = isListed ? this.#ids?.subsystem(vendorId, deviceId, subVendorId, subId) : undefined;
    if (own !== undefined || vendorId !== subVendorId || deviceId !== subId) return own;
    return this.#ids?.device(vendorId, deviceId);
  }

  #single(name: string | undefined, number: string, unknown: string, both = this.#numeric === 2): string {
    if (this.#numeric === 1) return number;
    const text =
      name === undefined
        ? both
          ? `${unknown} [${number}]`
          : `${unknown} ${number}`
        : both
          ? `${name} [${number}]`
          : name;
    return limited(text);
  }

  #pair(vendor: string | undefined, device: string | undefined, numbers: string): string {
    if (this.#numeric === 1) return numbers;
    const shown = this.#numeric === 2 ? ` [${numbers}]` : "";
    if (vendor === undefined) return `Device ${this.#numeric === 2 ? `[${numbers}]` : numbers}`;
    if (device !== undefined) return limited(`${vendor} ${device}${shown}`);
    return limited(`${vendor} Device${shown === "" ? ` ${numbers.slice(5)}` : shown}`);
  }
}

function limited(text: string): string {
  return text.length < NAME_LIMIT ? text : `${text.slice(0, NAME_LIMIT - 4)}...`;
}

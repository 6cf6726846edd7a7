// Names of what the inventory has as numbers, from the first pci.ids that is installed; without one only classes have names.
// The file is 1.6 MB, and a machine has a handful of vendors: only the lines that are asked for are cut out and read. A file that is
// not written as the published one is, somebody's own, is read as a whole.
import { readFileSync } from "node:fs";
import { classDescription } from "../pci/class-codes.ts";
import { PciIds } from "../pci/ids.ts";

const PLACES = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"] as const;
const LINE_FEED = 0x0a;

export class FunctionNames {
  readonly #file: Buffer | undefined;
  readonly #ranges = new Map<number, Range>();
  readonly #devices = new Map<number, string | undefined>();
  #whole: PciIds | undefined;

  /** `places`: where a pci.ids may lie; those of the distributions by default. */
  constructor(places: readonly string[] = PLACES) {
    this.#file = firstOf(places);
    if (this.#file?.includes("\n8086  ") === false) this.#whole = new PciIds(this.#file.toString("utf8"));
  }

  vendor(vendorId: number): string | undefined {
    return this.#whole === undefined
      ? this.#read(this.#range(vendorId))?.vendor(vendorId)
      : this.#whole.vendor(vendorId);
  }

  device(vendorId: number, deviceId: number): string | undefined {
    if (this.#whole !== undefined) return this.#whole.device(vendorId, deviceId);
    const key = vendorId * 0x1_0000 + deviceId;
    if (!this.#devices.has(key)) this.#devices.set(key, this.#findDevice(vendorId, deviceId));
    return this.#devices.get(key);
  }

  /** For example `Non-volatile memory controller`. */
  class(classCode: number): string {
    return classDescription(classCode);
  }

  #findDevice(vendorId: number, deviceId: number): string | undefined {
    const vendor = this.#range(vendorId);
    const at = this.#file?.indexOf(`\n\t${hex(deviceId)}  `, vendor.start) ?? -1;
    if (at === -1 || at >= vendor.end) return undefined;
    const end = this.#file?.indexOf(LINE_FEED, at + 1) ?? -1;
    return this.#read(vendor, { start: at, end: end === -1 ? vendor.end : end })?.device(vendorId, deviceId);
  }

  /** The vendor's own line and another one of its block, read as any pci.ids is. */
  #read({ start, end }: Range, line?: Range): PciIds | undefined {
    const file = this.#file;
    if (file === undefined || start === end) return undefined;
    const first = file.toString("utf8", start + 1, Math.min(end, file.indexOf(LINE_FEED, start + 1) >>> 0));
    return new PciIds(line === undefined ? first : first + file.toString("utf8", line.start, line.end));
  }

  /** From the line feed before a vendor's line to that behind its block; empty where the file does not know it. */
  #range(vendorId: number): Range {
    let range = this.#ranges.get(vendorId);
    if (range === undefined) this.#ranges.set(vendorId, (range = vendorRange(this.#file, vendorId)));
    return range;
  }
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** In a file as it is published: lines `8086  Intel Corporation`, each vendor once, in lower case. */
function vendorRange(file: Buffer | undefined, vendorId: number): Range {
  const start = file?.indexOf(`\n${hex(vendorId)}  `) ?? -1;
  if (file === undefined || start === -1) return { start: 0, end: 0 };
  // One byte a character keeps offsets; the next vendor's line is the first that begins with neither tab nor remark.
  const length = /\n[^\t#\n]/.exec(file.toString("latin1", start + 1))?.index;
  return { start, end: length === undefined ? file.length : start + 1 + length };
}

function hex(id: number): string {
  return id.toString(16).padStart(4, "0");
}

function firstOf(places: readonly string[]): Buffer | undefined {
  for (const place of places) {
    try {
      return readFileSync(place);
    } catch {
      // The next place.
    }
  }
  return undefined;
}

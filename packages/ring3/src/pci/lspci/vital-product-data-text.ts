// Text of the vital product data (PCIe 6.0, section 6.27). They lie behind a pair of registers, so that only an access method
// that can read them has any; broken ones are shown up to where they break.
import { hex } from "./layout.ts";
import type { Printer } from "./printer.ts";

type Kind = "text" | "binary" | "checksum" | "free";
const ITEMS: readonly (readonly [keyword: string, kind: Kind, name: string])[] = [
  ["CP", "binary", "Extended capability"],
  ["EC", "text", "Engineering changes"],
  ["MN", "text", "Manufacture ID"],
  ["PN", "text", "Part number"],
  ["RV", "checksum", "Reserved"],
  ["RW", "free", "Read-write area"],
  ["SN", "text", "Serial number"],
  ["YA", "text", "Asset tag"],
  ["CC", "text", "CCIN"],
  ["FC", "text", "Feature code"],
  ["FN", "text", "FRU"],
  ["NA", "text", "Network address"],
  ["RM", "text", "Firmware version"],
  ["Z", "text", "Product specific"],
  ["V", "text", "Vendor specific"],
  ["Y", "text", "System specific"],
];
const LIMIT = 0x8000;

/** Reads on from where it stands, and sums what it read. */
class Reader {
  readonly #bytes: Uint8Array;
  sum = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(at: number, count: number): Uint8Array | undefined {
    if (at + count > this.#bytes.length) return undefined;
    const bytes = this.#bytes.subarray(at, at + count);
    for (const byte of bytes) this.sum = (this.sum + byte) & 0xff;
    return bytes;
  }
}

export function showVitalProductData(printer: Printer): void {
  printer.print("Vital Product Data\n");
  if (!printer.detailed) return;
  const reader = new Reader(printer.shown.facts.readVpd?.() ?? new Uint8Array());
  let at = 0;
  while (at < LIMIT) {
    const first = reader.read(at, 1)?.[0];
    if (first === undefined) break;
    const large = (first & 0x80) !== 0;
    let length = first & 7;
    if (large) {
      const size = at > LIMIT - 3 ? undefined : reader.read(at + 1, 2);
      if (size === undefined) break;
      length = (size[0] ?? 0) | ((size[1] ?? 0) << 8);
    }
    const tag = large ? first : first >>> 3;
    at += large ? 3 : 1;
    if (length > LIMIT - at) break;
    if (tag === 0x0f) {
      printer.print("\t\tEnd\n");
      return;
    }
    if (tag === 0x82) showProductName(printer, reader, at, length);
    else if (tag === 0x90 || tag === 0x91) showFields(printer, reader, at, length, tag === 0x90);
    else {
      const size = large ? "large" : "small";
      printer.print(`\t\tUnknown ${size} resource type ${hex(tag & 0x7f, 2)}, will not decode more.\n`);
      return;
    }
    at += length;
  }
  printer.print(at === 0 ? "\t\tNot readable\n" : "\t\tNo end tag found\n");
}

function showProductName(printer: Printer, reader: Reader, at: number, length: number): void {
  printer.print("\t\tProduct Name: ");
  for (let done = 0; done < length; ) {
    const part = reader.read(at + done, Math.min(length - done, 256));
    if (part === undefined) break;
    printer.print(escaped(part));
    done += part.length;
  }
  printer.print("\n");
}

function showFields(printer: Printer, reader: Reader, start: number, length: number, readOnly: boolean): void {
  printer.print(`\t\t${readOnly ? "Read-only" : "Read/write"} fields:\n`);
  for (let at = 0; at + 3 <= length; ) {
    const header = reader.read(start + at, 3);
    if (header === undefined) return;
    at += 3;
    const [first = 0, second = 0, size = 0] = header;
    if (size > length - at) return;
    const keyword = String.fromCharCode(first, second);
    const [, kind, name] = ITEMS.find(([known]) => keyword.startsWith(known)) ?? ["", "binary", "Unknown"];
    // Of the checksum's field only the first byte counts.
    const bytes = reader.read(start + at, kind === "checksum" ? 1 : size);
    if (bytes === undefined) return;
    printer.print(`\t\t\t[${escaped(header.subarray(0, 2))}] ${name}: `);
    if (kind === "text") printer.print(`${escaped(bytes)}\n`);
    else if (kind === "binary") printer.print(`${Array.from(bytes, (byte) => hex(byte, 2)).join(" ")}\n`);
    else if (kind === "free") printer.print(`${size} byte(s) free\n`);
    else printer.print(`checksum ${reader.sum === 0 ? "good" : "bad"}, ${size - 1} byte(s) reserved\n`);
    at += size;
  }
}

function escaped(bytes: Uint8Array): string {
  let text = "";
  for (const [index, byte] of bytes.entries()) {
    if (byte === 0x5c) text += "\\\\";
    else if (byte === 0 && index === bytes.length - 1) continue;
    else if (byte < 32 || byte === 127) text += `\\x${hex(byte, 2)}`;
    else text += String.fromCharCode(byte);
  }
  return text;
}

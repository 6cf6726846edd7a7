// The text of `lspci -x`, `-xxx` and `-xxxx`, both ways. It is an interchange format: whatever libpci reads with -F is read
// here in the same way (several functions, gaps, lines in any order, comments between), and what is written it reads.
import { Ring3Error } from "../binary/error.ts";
import { hexdump } from "../binary/hexdump.ts";
import { type AccessedFunction, readConfig } from "./access.ts";
import { PciAddress } from "./address.ts";
import { classDescription } from "./class-codes.ts";
import { bytesConfigAccess, type ConfigAccess } from "./config-space.ts";

const HEADING = /^(?:([0-9a-f]{4,6}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-9]) /i;
const MAXIMUM_SIZE = 4096;
/** With the space behind it: `ffffff:ff:1f.7 `. */
const LONGEST_ADDRESS = 16;
const [SPACE, COLON, LINE_FEED, CARRIAGE_RETURN] = [0x20, 0x3a, 0x0a, 0x0d];
/** Value of a hexadecimal digit by its code; 16 for what is none. */
const DIGITS: Uint8Array = Uint8Array.from({ length: 256 }, (_, code) => {
  const value = Number.parseInt(String.fromCharCode(code), 16);
  return Number.isNaN(value) ? 16 : value;
});
/** libpci reads lines into a buffer of 255 characters, line feed included. */
const MAXIMUM_LINE = 254;

/**
 * The functions of a dump, in its order, from its text or the bytes of its file. Their config space ends with the last byte
 * that the dump has; bytes that it skips read as ones. Writes say `CONFIG_READ_ONLY`. Throws `DUMP_INVALID`, with the line,
 * for what libpci refuses as well.
 */
export function parseDump(dump: string | Uint8Array): AccessedFunction[] {
  const text = typeof dump === "string" ? codesOf(dump) : dump;
  const found: { readonly address: PciAddress; readonly bytes: DumpBytes }[] = [];
  let bytes: DumpBytes | undefined;
  let line = 1;
  let at = 0;
  for (let feed = text.indexOf(LINE_FEED); feed !== -1; feed = text.indexOf(LINE_FEED, at)) {
    if (feed - at >= MAXIMUM_LINE) invalid(line, `the line is longer than ${MAXIMUM_LINE - 1} characters`);
    const end = feed > at && text[feed - 1] === CARRIAGE_RETURN ? feed - 1 : feed;
    const row = rowStart(text, at, end);
    if (row !== undefined) {
      bytes?.add(offsetAt(text, at), { text, from: row, end, line });
    } else if (end === at) {
      bytes = undefined;
    } else if (digitAt(text, at) < 16) {
      const heading = HEADING.exec(textOf(text, at, Math.min(end, at + LONGEST_ADDRESS)));
      if (heading !== null) {
        bytes = new DumpBytes();
        found.push({ address: addressOf(heading, line), bytes });
      }
    }
    at = feed + 1;
    line++;
  }
  if (at < text.length) invalid(line, "the last line does not end: the dump was cut off");
  return found.map(({ address, bytes: held }) => ({ address, method: "dump", config: held.access(), facts: {} }));
}

/** Whatever is not Latin-1 is nothing that a dump has a meaning for. */
function codesOf(text: string): Uint8Array {
  const codes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) codes[at] = Math.min(text.charCodeAt(at), 0xff);
  return codes;
}

function textOf(codes: Uint8Array, from: number, to: number): string {
  return String.fromCharCode(...codes.subarray(from, to));
}

/** How much of config space a dump shows: `-x`, `-xxx` or `-xxxx`. */
export type DumpExtent = "header" | "standard" | "all";
const EXTENT_BYTES: Readonly<Record<DumpExtent, number>> = { header: 64, standard: 256, all: MAXIMUM_SIZE };

export interface DumpOptions {
  /** `all` by default. */
  readonly extent?: DumpExtent;
  /** What stands behind the address; the class by default. */
  readonly title?: (fn: AccessedFunction, bytes: Uint8Array) => string;
}

/**
 * Functions as text that `lspci -F` reads. What an ordinary user cannot read is left out, as lspci leaves it.
 * Throws `DUMP_INVALID` for a domain above ffffff, which the format has no room for.
 */
export function formatDump(functions: readonly AccessedFunction[], options: DumpOptions = {}): string {
  const { extent = "all", title = classTitle } = options;
  const blocks = functions.map((fn) => {
    if (fn.address.domain > 0xffffff) {
      throw new Ring3Error(
        "DUMP_INVALID",
        `the domain of ${fn.address.toString()} does not fit into a dump: six digits at most`,
      );
    }
    // CardBus bridges have a header of 128 bytes.
    const wide = extent === "header" && (fn.config.read(0x0e, 1) & 0x7f) === 2;
    const bytes = readConfig(fn, wide ? 128 : EXTENT_BYTES[extent]);
    const heading = `${fn.address.toString()} ${title(fn, bytes).replace(/[\r\n]/g, " ")}`.slice(0, MAXIMUM_LINE - 2);
    return `${heading}\n${hexdump(bytes)}\n`;
  });
  return blocks.map((block) => `${block}\n`).join("");
}

function classTitle({ facts }: AccessedFunction, bytes: Uint8Array): string {
  const [interface_ = 0, subclass = 0, base = 0] = bytes.subarray(9, 12);
  return classDescription(facts.classCode ?? (base << 16) | (subclass << 8) | interface_);
}

function addressOf([, domain = "0", bus = "", device = "", fn = ""]: RegExpExecArray, line: number): PciAddress {
  const [slot, number] = [Number.parseInt(device, 16), Number(fn)];
  if (slot > 0x1f || number > 7) {
    invalid(line, `no function has the device number ${device} and the function number ${fn}`);
  }
  return new PciAddress(Number.parseInt(domain, 16), Number.parseInt(bus, 16), slot, number);
}

function invalid(line: number, why: string): never {
  throw new Ring3Error(
    "DUMP_INVALID",
    `line ${line} of the dump: ${why}. A dump is what lspci -xxxx or ring3 dump writes`,
  );
}

function digitAt(text: Uint8Array, at: number): number {
  return DIGITS[text[at] ?? 0] ?? 16;
}

/** The number that stands here. */
function offsetAt(text: Uint8Array, start: number): number {
  let offset = 0;
  for (let at = start; digitAt(text, at) < 16; at++) offset = offset * 16 + digitAt(text, at);
  return offset;
}

/** Where the bytes of a row begin: behind an offset of two to eight digits, a colon and a space. */
function rowStart(text: Uint8Array, start: number, end: number): number | undefined {
  let at = start;
  while (at < end && at - start < 8 && digitAt(text, at) < 16) at++;
  if (at - start < 2 || at + 2 > end) return undefined;
  return text[at] === COLON && text[at + 1] === SPACE ? at + 2 : undefined;
}

/** The bytes of a row, in the text of the whole dump. */
interface Row {
  readonly text: Uint8Array;
  readonly from: number;
  readonly end: number;
  readonly line: number;
}

/** Bytes of a dump that grow line by line. */
class DumpBytes {
  #bytes: Uint8Array = new Uint8Array(256).fill(0xff);
  #end = 0;

  add(offset: number, { text, from, end, line }: Row): void {
    let at = offset;
    let place = from;
    let bytes = this.#bytes;
    while (place + 2 <= end) {
      const [high, low] = [digitAt(text, place), digitAt(text, place + 1)];
      if ((high | low) > 15 || (place + 2 < end && text[place + 2] !== SPACE)) break;
      if (at >= bytes.length) {
        if (at >= MAXIMUM_SIZE) invalid(line, `offset ${at.toString(16)} lies beyond the 4096 bytes of config space`);
        bytes = this.#grow();
      }
      bytes[at++] = high * 16 + low;
      place += 3;
    }
    if (at !== offset && at > this.#end) this.#end = at;
    if (place < end)
      invalid(line, `"${textOf(text, place, Math.min(end, place + 20))}" is no byte of two hexadecimal digits`);
  }

  #grow(): Uint8Array {
    const grown = new Uint8Array(MAXIMUM_SIZE).fill(0xff);
    grown.set(this.#bytes);
    this.#bytes = grown;
    return grown;
  }

  access(): ConfigAccess {
    return {
      ...bytesConfigAccess(this.#bytes.subarray(0, this.#end)),
      write() {
        throw new Ring3Error(
          "CONFIG_READ_ONLY",
          "a dump cannot be written to: it is a picture of the function. The files of ring3 sysfs-tree can be",
        );
      },
    };
  }
}

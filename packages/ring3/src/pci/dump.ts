// The text of `lspci -x`, `-xxx` and `-xxxx`, both ways. It is an interchange format: whatever libpci reads with -F is read
// here in the same way (several functions, gaps, lines in any order, comments between), and what is written it reads.
import { Ring3Error } from "../binary/error.ts";
import { hexdump } from "../binary/hexdump.ts";
import { type AccessedFunction, readConfig } from "./access.ts";
import { PciAddress } from "./address.ts";
import { classDescription } from "./class-codes.ts";
import { bytesConfigAccess, type ConfigAccess } from "./config-space.ts";

const HEADING = /^(?:([0-9a-f]{4,6}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-9]) /i;
const ROW = /^([0-9a-f]{2,8}): /i;
const MAXIMUM_SIZE = 4096;
/** libpci reads lines into a buffer of 255 characters, line feed included. */
const MAXIMUM_LINE = 254;

/**
 * The functions of a dump, in its order. Their config space ends with the last byte that the dump has; bytes that it skips
 * read as ones. Writes say `CONFIG_READ_ONLY`. Throws `DUMP_INVALID`, with the line, for what libpci refuses as well.
 */
export function parseDump(text: string): AccessedFunction[] {
  const found: { readonly address: PciAddress; readonly bytes: DumpBytes }[] = [];
  let bytes: DumpBytes | undefined;
  const lines = text.split("\n");
  if (lines.pop() !== "") invalid(lines.length + 1, "the last line does not end: the dump was cut off");
  for (const [index, raw] of lines.entries()) {
    if (raw.length >= MAXIMUM_LINE) invalid(index + 1, `the line is longer than ${MAXIMUM_LINE - 1} characters`);
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    const heading = HEADING.exec(line);
    if (heading !== null) {
      bytes = new DumpBytes();
      found.push({ address: addressOf(heading, index + 1), bytes });
    } else if (line === "") {
      bytes = undefined;
    } else {
      const row = bytes === undefined ? null : ROW.exec(line);
      if (row !== null) bytes?.add(Number.parseInt(row[1] ?? "", 16), line.slice(row[0].length), index + 1);
    }
  }
  return found.map(({ address, bytes: held }) => ({ address, method: "dump", config: held.access(), facts: {} }));
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

/** Bytes of a dump that grow line by line. */
class DumpBytes {
  #bytes: Uint8Array = new Uint8Array(256).fill(0xff);
  #end = 0;

  add(offset: number, text: string, line: number): void {
    let at = offset;
    let rest = text;
    for (;;) {
      const byte = /^([0-9a-f]{2})(?: |$)/i.exec(rest);
      if (byte === null) break;
      if (at >= MAXIMUM_SIZE) invalid(line, `offset ${at.toString(16)} lies beyond the 4096 bytes of config space`);
      if (at >= this.#bytes.length) {
        const grown = new Uint8Array(MAXIMUM_SIZE).fill(0xff);
        grown.set(this.#bytes);
        this.#bytes = grown;
      }
      this.#bytes[at++] = Number.parseInt(byte[1] ?? "", 16);
      this.#end = Math.max(this.#end, at);
      rest = rest.slice(byte[0].length);
    }
    if (rest !== "") invalid(line, `"${rest.slice(0, 20)}" is no byte of two hexadecimal digits`);
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

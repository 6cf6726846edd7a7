// Makes vital product data: an identifier, keywords that nobody changes with their checksum, keywords that software may change.
// PCI Local Bus 3.0, appendix I. `parseVpd` of ring3/pci reads them.
import { Ring3Error } from "../binary/error.ts";

/** Keywords of two characters with their data; text as ASCII. */
export type VpdKeywords = Readonly<Record<string, string | Uint8Array>>;

export interface VpdContent {
  /** The product's name. */
  readonly identifier: string;
  /** Such as `PN`, `SN`, `EC`, `MN`. The checksum follows by itself. */
  readonly readOnly?: VpdKeywords;
  /** Such as `Y0` to `YZ` (system) and `V0` to `VZ` (vendor). */
  readonly readWrite?: VpdKeywords;
  /** Bytes that software may fill with keywords of its own; none by default. */
  readonly spareBytes?: number;
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20 || code > 0x7e) {
      throw new Ring3Error(
        "DECLARATION_INVALID",
        `${JSON.stringify(text)} is not printable ASCII, as vital product data are`,
      );
    }
    return code;
  });
}

function keyword(name: string, data: string | Uint8Array | readonly number[]): number[] {
  const bytes = typeof data === "string" ? ascii(data) : [...data];
  if (name.length !== 2) throw new Ring3Error("DECLARATION_INVALID", `the keyword ${name} has not two characters`);
  if (bytes.length > 255) throw new Ring3Error("DECLARATION_INVALID", `the data of ${name} have more than 255 bytes`);
  return [...ascii(name), bytes.length, ...bytes];
}

function item(tag: number, bytes: readonly number[]): number[] {
  return [tag, bytes.length & 0xff, bytes.length >>> 8, ...bytes];
}

/** The bytes for `vpd({ content })`. Throws `DECLARATION_INVALID` for text or keywords that cannot be. */
export function encodeVpd(content: VpdContent): Uint8Array {
  const { identifier, readOnly = {}, readWrite = {}, spareBytes = 0 } = content;
  const fixed = Object.entries(readOnly).flatMap(([name, data]) => keyword(name, data));
  // The checksum makes all bytes from the first up to itself sum up to 0.
  const sealed = item(0x90, [...fixed, ...keyword("RV", [0])]);
  const head = [...item(0x82, ascii(identifier)), ...sealed];
  head[head.length - 1] = -head.reduce((sum, byte) => sum + byte, 0) & 0xff;
  const changing = Object.entries(readWrite).flatMap(([name, data]) => keyword(name, data));
  if (spareBytes > 0) changing.push(...keyword("RW", new Uint8Array(spareBytes)));
  return Uint8Array.from([...head, ...(changing.length > 0 ? item(0x91, changing) : []), 0x78]);
}

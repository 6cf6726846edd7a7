// The content of vital product data: PCI Local Bus 3.0, appendix I. Large and small resource items, keywords of two
// characters, and one checksum over all up to itself. EEPROMs are often blank or cut short, so nothing here throws.

export interface VpdKeyword {
  /** Two characters, such as `PN`, `SN`, `EC`, `MN`. */
  readonly keyword: string;
  readonly data: Uint8Array;
}

export interface Vpd {
  /** The identifier string: the product's name. */
  readonly identifier: string | undefined;
  /** Keywords of VPD-R, without `RV`. */
  readonly readOnly: readonly VpdKeyword[];
  /** Keywords of VPD-W. */
  readonly readWrite: readonly VpdKeyword[];
  /** Whether the bytes up to and with `RV`'s first sum up to zero; `undefined` without `RV`. */
  readonly checksumValid: boolean | undefined;
  readonly problems: readonly string[];
}

const tags = { identifier: 0x82, readOnly: 0x90, readWrite: 0x91, end: 0x78 } as const;

interface Item {
  readonly tag: number;
  /** Of the data, behind the item's header. */
  readonly start: number;
  readonly length: number;
}

/** The item at `at`, or `undefined` where its header is cut off. */
function itemAt(bytes: Uint8Array, at: number): Item | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  if (first < 0x80) return { tag: first & 0x78, start: at + 1, length: first & 7 };
  const low = bytes[at + 1];
  const high = bytes[at + 2];
  return low === undefined || high === undefined ? undefined : { tag: first, start: at + 3, length: low | (high << 8) };
}

/**
 * How many bytes the data take, as far as `bytes` tell: up to and with the end tag where it is there, else more than
 * `bytes.length`. A first byte that opens no item (blank EEPROM) ends the data before it.
 */
export function vpdLength(bytes: Uint8Array): number {
  let at = 0;
  for (;;) {
    const item = itemAt(bytes, at);
    if (item === undefined) return Math.max(at, bytes.length) + (bytes[at] === undefined ? 1 : 4);
    if (item.tag === tags.end) return at + 1;
    if (item.tag === 0 || item.tag === 0xff) return at;
    at = item.start + item.length;
  }
}

/** ASCII text of a keyword's data, trailing blanks and NULs cut off. */
export function vpdText(data: Uint8Array): string {
  const text = Array.from(data, (byte) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : byte === 0 ? "\0" : "?",
  );
  return text
    .join("")
    .replace(/[\0 ]+$/, "")
    .replaceAll("\0", "?");
}

/** Splits vital product data into its keywords. Never throws; `problems` says what is odd. */
export function parseVpd(bytes: Uint8Array): Vpd {
  const problems: string[] = [];
  const readOnly: VpdKeyword[] = [];
  const readWrite: VpdKeyword[] = [];
  let identifier: string | undefined;
  let checksumValid: boolean | undefined;

  const keywords = (start: number, end: number, into: VpdKeyword[], sealed: boolean): void => {
    let at = start;
    while (at + 3 <= end) {
      const keyword = vpdText(bytes.subarray(at, at + 2));
      const length = bytes[at + 2] ?? 0;
      const data = bytes.slice(at + 3, Math.min(at + 3 + length, end));
      if (data.length < length) problems.push(`keyword ${keyword} takes ${length} bytes, ${data.length} are there`);
      if (sealed && keyword === "RV") {
        if (data.length > 0) checksumValid = bytes.subarray(0, at + 4).reduce((sum, byte) => sum + byte, 0) % 256 === 0;
        if (checksumValid === false) problems.push("the checksum is wrong");
      } else if (keyword !== "RW") {
        into.push({ keyword, data });
      }
      at += 3 + length;
    }
    if (at < end) problems.push(`${end - at} bytes at the end of a list are no keyword`);
  };

  let at = 0;
  for (;;) {
    const item = itemAt(bytes, at);
    if (item === undefined) {
      problems.push("the end tag is missing");
      break;
    }
    if (item.tag === tags.end) break;
    if (item.tag === 0 || item.tag === 0xff) {
      problems.push(`no item begins at 0x${at.toString(16)}: the data are blank or cut short`);
      break;
    }
    const end = Math.min(item.start + item.length, bytes.length);
    if (item.start + item.length > bytes.length) {
      problems.push(
        `the item at 0x${at.toString(16)} takes ${item.length} bytes, ${bytes.length - item.start} are there`,
      );
    }
    if (item.tag === tags.identifier) identifier ??= vpdText(bytes.subarray(item.start, end));
    else if (item.tag === tags.readOnly) keywords(item.start, end, readOnly, true);
    else if (item.tag === tags.readWrite) keywords(item.start, end, readWrite, false);
    else problems.push(`the item at 0x${at.toString(16)} has the unknown tag 0x${item.tag.toString(16)}`);
    at = item.start + item.length;
  }
  return { identifier, readOnly, readWrite, checksumValid, problems };
}

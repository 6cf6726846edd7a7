// Where peek and poke look: bar0+0x14.l, rom+0, config+0x40.w. Widths are .b .w .l .q: 1, 2, 4 and 8 bytes; .l by default.
import type { BarIndex, PciFunction } from "ring3";
import { UsageError } from "./usage-error.ts";

type AccessWidth = 1 | 2 | 4 | 8;

export interface RegisterPlace {
  readonly text: string;
  readonly area: "bar" | "rom" | "config";
  readonly bar: BarIndex;
  readonly offset: number;
  readonly width: AccessWidth;
  /** What shall be written, and which of its bits. */
  readonly value: bigint | undefined;
  readonly mask: bigint | undefined;
}

const WIDTHS: Readonly<Record<string, AccessWidth>> = { b: 1, w: 2, l: 4, q: 8 };
const PLACE =
  /^(?:bar([0-5])|(rom|config))(?:\+(0x[0-9a-f]+|\d+))?(?:\.([bwlq]))?(?:=(0x[0-9a-f]+|\d+)(?::(0x[0-9a-f]+|\d+))?)?$/i;

/** Parses a place with or without a value to write. Throws `UsageError`. */
export function parseRegisterPlace(text: string): RegisterPlace {
  const match = PLACE.exec(text);
  if (match === null) {
    throw new UsageError(
      `"${text}" is no place: write bar0+0x14, bar2+8.w, config+0x40.b or rom+0 (.b .w .l .q), =VALUE to poke`,
    );
  }
  const [, bar, other, offset = "0", width = "l", value, mask] = match;
  const bytes = WIDTHS[width.toLowerCase()] ?? 4;
  const at = Number(offset);
  if (at % bytes !== 0) throw new UsageError(`"${text}": ${offset} is not aligned to the ${bytes} bytes of .${width}`);
  const limit = 2n ** BigInt(bytes * 8);
  const number = (digits: string | undefined): bigint | undefined => {
    if (digits === undefined) return undefined;
    const parsed = BigInt(digits);
    if (parsed < limit) return parsed;
    throw new UsageError(
      `"${text}": ${digits} does not fit into ${bytes} bytes; append .${bytes === 4 ? "q" : "l"} for more`,
    );
  };
  return {
    text,
    area: bar !== undefined ? "bar" : other?.toLowerCase() === "rom" ? "rom" : "config",
    bar: Number(bar ?? 0) as BarIndex,
    offset: at,
    width: bytes,
    value: number(value),
    mask: number(mask),
  };
}

/** The BARs that places lie in. */
export function barsOf(places: readonly RegisterPlace[]): readonly BarIndex[] {
  return places.filter(({ area }) => area === "bar").map(({ bar }) => bar);
}

/** BARs answer only while COMMAND says so; whoever asks for a BAR wants that. */
export function enableDecoding(fn: PciFunction, bars: readonly BarIndex[]): void {
  const kinds = new Set(bars.map((index) => fn.bar(index).kind));
  const command = fn.config.read16(4);
  const wanted = command | (kinds.has("io") ? 1 : 0) | (kinds.has("memory32") || kinds.has("memory64") ? 2 : 0);
  if (wanted !== command) fn.config.write16(4, wanted);
}

/** One access of the place's width, `index` places further on. */
export function readPlace(fn: PciFunction, place: RegisterPlace, index = 0): bigint {
  const { area, width } = place;
  const at = place.offset + index * width;
  if (area === "rom") return romRead(fn, place, at);
  if (area === "config") {
    if (width === 8) throw new UsageError(`"${place.text}": config space has no access of 8 bytes`);
    const { config } = fn;
    return BigInt(width === 4 ? config.read32(at) : width === 2 ? config.read16(at) : config.read8(at));
  }
  const bar = fn.bar(place.bar);
  if (bar.kind === "none")
    throw new UsageError(`"${place.text}": the function has no BAR ${place.bar}; ring3 info lists them`);
  if (width === 8) return bar.read64(at);
  return BigInt(width === 4 ? bar.read32(at) : width === 2 ? bar.read16(at) : bar.read8(at));
}

/** One write of the place's width. */
export function writePlace(fn: PciFunction, place: RegisterPlace, value: bigint): void {
  const { area, width, offset } = place;
  if (area === "rom") throw new UsageError(`"${place.text}": a ROM cannot be written`);
  if (area === "config") {
    if (width === 8) throw new UsageError(`"${place.text}": config space has no access of 8 bytes`);
    const number = Number(value);
    if (width === 4) fn.config.write32(offset, number);
    else if (width === 2) fn.config.write16(offset, number);
    else fn.config.write8(offset, number);
    return;
  }
  const bar = fn.bar(place.bar);
  if (bar.kind === "none")
    throw new UsageError(`"${place.text}": the function has no BAR ${place.bar}; ring3 info lists them`);
  if (width === 8) bar.write64(offset, value);
  else if (width === 4) bar.write32(offset, Number(value));
  else if (width === 2) bar.write16(offset, Number(value));
  else bar.write8(offset, Number(value));
}

function romRead({ rom }: PciFunction, { text, width }: RegisterPlace, at: number): bigint {
  if (rom === undefined) throw new UsageError(`"${text}": the function has no ROM`);
  const bytes = rom.read(at, width);
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

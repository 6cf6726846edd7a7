// Lines of lspci's text as templates over declared registers: the bits and their names come from the declaration, the words
// around them from here. A template is taken apart once, when its module loads; a misspelt field throws then.
import type { FieldDeclarations, Register } from "../register.ts";

/** Shows a field's value: a function, or a table by value. */
export type Format = ((value: number) => string | number) | readonly string[];

/** A line (or several) that shows one register. */
export interface Layout {
  readonly register: Register;
  /** `raw` is the register's value. */
  render(raw: number): string;
}

const PLACE = /\{(!?)([A-Z0-9_]+)(?:\.(\d+))?(?::(\w+))?\}/g;
/** Texts that a template keeps: the functions of a machine repeat each other's registers. */
const KEPT = 64;
const NUMBER = /^(0?)(\d*)([dx])$/;

/**
 * Compiles a template. `{FIELD}` shows a field of one bit as `+` or `-` (`{!FIELD}` the other way round) and a longer one in
 * decimal; `{FIELD.3}` is bit 3 of a field; `{FIELD:04x}` and `{FIELD:5d}` are numbers; `{FIELD:name}` goes through
 * `formats.name`.
 */
export function layout<D extends FieldDeclarations>(
  register: Register<D>,
  template: string,
  formats: Readonly<Record<string, Format>> = {},
): Layout {
  const places = [...template.matchAll(PLACE)];
  const ends = [...places.slice(1).map(({ index }) => index), template.length];
  const parts = places.map((match, index): Part => {
    const [whole, not = "", name = "", bit, format] = match;
    const field = (register as Register).fields[name];
    if (field === undefined) throw new RangeError(`${register.group.name}.${register.name} has no field ${name}`);
    const mask = bit === undefined ? 2 ** field.width - 1 : 1;
    const after = template.slice(match.index + whole.length, ends[index]);
    const shown = formatOf(format, mask === 1, not === "!", formats);
    const isTable = typeof shown !== "function";
    const shift = field.offset + Number(bit ?? 0);
    return {
      shift,
      mask,
      after,
      table: isTable ? shown.map((text) => text + after) : [],
      format: isTable ? undefined : shown,
    };
  });
  const start = template.slice(0, places[0]?.index);
  const known = new Map<number, string>();
  const render = (raw: number): string => {
    const shown = known.get(raw);
    if (shown !== undefined) return shown;
    const texts = [start];
    for (const { shift, mask, after, table, format } of parts) {
      const value = ((raw >>> shift) & mask) >>> 0;
      texts.push(format === undefined ? (table[value] ?? `??${value}${after}`) : `${format(value)}${after}`);
    }
    const text = texts.join("");
    if (known.size === KEPT) known.clear();
    known.set(raw, text);
    return text;
  };
  return { register, render };
}

/** A place of a template with the text behind it. */
interface Part {
  readonly shift: number;
  readonly mask: number;
  readonly after: string;
  /** By value, the text behind it included; empty where there is a function. */
  readonly table: readonly string[];
  readonly format: ((value: number) => string | number) | undefined;
}

function formatOf(
  name: string | undefined,
  isFlag: boolean,
  not: boolean,
  formats: Readonly<Record<string, Format>>,
): Format {
  if (name === undefined) return isFlag ? (not ? ["+", "-"] : ["-", "+"]) : (value) => value;
  const format = formats[name];
  if (format !== undefined) return format;
  const [, zero = "", digits = "", base] = NUMBER.exec(name) ?? [];
  if (base === undefined) throw new RangeError(`there is no format ${name}`);
  const radix = base === "x" ? 16 : 10;
  const fill = zero === "0" ? "0" : " ";
  return (value) => value.toString(radix).padStart(Number(digits), fill);
}

/** The entry of a table; `??5` where it has none, as lspci writes values that nobody defined. */
export function entry(table: readonly string[], value: number): string {
  return table[value] ?? `??${value}`;
}

/** `+` for a set bit, `-` for a clear one. */
export function flag(value: number, mask: number): "+" | "-" {
  return (value & mask) !== 0 ? "+" : "-";
}

export function hex(value: number | bigint, digits = 1): string {
  return value.toString(16).padStart(digits, "0");
}

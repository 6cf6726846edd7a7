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
  const texts: string[] = [];
  const values: ((raw: number) => string | number)[] = [];
  let end = 0;
  for (const match of template.matchAll(PLACE)) {
    const [whole, not = "", name = "", bit, format] = match;
    const field = (register as Register).fields[name];
    if (field === undefined) throw new RangeError(`${register.group.name}.${register.name} has no field ${name}`);
    texts.push(template.slice(end, match.index));
    end = match.index + whole.length;
    const offset = field.offset + Number(bit ?? 0);
    const mask = bit === undefined ? 2 ** field.width - 1 : 1;
    const value = (raw: number): number => ((raw >>> offset) & mask) >>> 0;
    values.push(format === undefined ? plain(value, mask === 1, not === "!") : formatted(value, format, formats));
  }
  texts.push(template.slice(end));
  const render = (raw: number): string => {
    let text = texts[0] ?? "";
    for (let at = 0; at < values.length; at++) text += `${values[at]?.(raw)}${texts[at + 1]}`;
    return text;
  };
  return { register, render };
}

function plain(value: (raw: number) => number, isFlag: boolean, not: boolean): (raw: number) => string | number {
  if (!isFlag) return value;
  const [zero, one] = not ? ["+", "-"] : ["-", "+"];
  return (raw) => (value(raw) === 0 ? zero : one);
}

function formatted(
  value: (raw: number) => number,
  name: string,
  formats: Readonly<Record<string, Format>>,
): (raw: number) => string | number {
  const format = formats[name];
  if (typeof format === "function") return (raw) => format(value(raw));
  if (format !== undefined) return (raw) => entry(format, value(raw));
  const [, zero = "", digits = "", base] = NUMBER.exec(name) ?? [];
  if (base === undefined) throw new RangeError(`there is no format ${name}`);
  const radix = base === "x" ? 16 : 10;
  const fill = zero === "0" ? "0" : " ";
  return (raw) => value(raw).toString(radix).padStart(Number(digits), fill);
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

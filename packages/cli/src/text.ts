// Text for people: columns, wrapping, amounts, and colour where a terminal shows it.
import { stripVTControlCharacters, styleText } from "node:util";

/** Marks up text for a stream; returns it as it is where the stream shows no colours. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

/** Colours only on a terminal, never with `NO_COLOR` set (no-color.org) or a dumb terminal. */
export function styleFor(isTerminal: boolean, environment: Readonly<Record<string, string | undefined>>): Style {
  const { NO_COLOR, TERM } = environment;
  const on = isTerminal && (NO_COLOR === undefined || NO_COLOR === "") && TERM !== "dumb";
  const paint =
    (format: "bold" | "dim" | "red" | "green" | "yellow") =>
    (text: string): string =>
      on ? styleText(format, text, { validateStream: false }) : text;
  return { bold: paint("bold"), dim: paint("dim"), red: paint("red"), green: paint("green"), yellow: paint("yellow") };
}

/** Rows as columns, each as wide as its widest cell; the last one is not padded. */
export function columns(
  rows: readonly (readonly string[])[],
  { indent = 0, gap = 2 }: { readonly indent?: number; readonly gap?: number } = {},
): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, visibleLength(cell));
  }
  const lines = rows.map((row) => {
    const cells = row.map((cell, index) => {
      const last = index === row.length - 1;
      return last ? cell : cell + " ".repeat((widths[index] ?? 0) + gap - visibleLength(cell));
    });
    return `${" ".repeat(indent)}${cells.join("")}`.trimEnd();
  });
  return lines.join("\n");
}

/** Length without the marks of colours. */
function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Breaks a paragraph at blanks into lines of at most `width` characters. */
export function wrap(text: string, width: number): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].join("\n");
}

/** Bytes in the largest binary unit that keeps at most one decimal: `4 KiB`, `1.5 GiB`. */
export function binarySize(bytes: number | bigint): string {
  let value = Number(bytes);
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} PiB`;
}

/** `value` in hexadecimal with at least `digits` digits, without `0x`. */
export function hex(value: number | bigint, digits = 1): string {
  return value.toString(16).padStart(digits, "0");
}

/**
 * JSON for programs: an integer beyond 2^53 becomes a decimal string, bytes a string of hexadecimal digits, and what is
 * absent is `null`, so that every key is always there. With `indent` 0 it is one line.
 */
export function toJson(value: unknown, indent = 2): string {
  function replace(this: Record<string, unknown>, key: string, item: unknown): unknown {
    // A Buffer would have become an array of numbers by now.
    const original = this[key];
    if (original instanceof Uint8Array) {
      return Buffer.from(original.buffer, original.byteOffset, original.length).toString("hex");
    }
    if (item === undefined) return null;
    if (typeof item === "bigint") return item <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(item) : item.toString();
    return item;
  }
  return JSON.stringify(value, replace, indent);
}

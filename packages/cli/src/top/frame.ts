// What `ring3 top` shows: a table of functions, as lines that fit a screen of a given size.
import { stripVTControlCharacters } from "node:util";
import { columns, type Style } from "../text.ts";
import { linkText } from "../watch/event-words.ts";
import { type FunctionRate, type Order, totalErrors } from "./rates.ts";

export interface FrameOptions {
  readonly width: number;
  readonly height: number;
  readonly order: Order;
  readonly paused: boolean;
  /** Whether each interrupt has a line of its own. */
  readonly vectors: boolean;
  /** Lines of the table that were scrolled away. */
  readonly from: number;
  readonly time: Date;
}

/** The table's lines: a heading, then one for each function, and with `vectors` one for each of its interrupts. */
export function tableLines(rates: readonly FunctionRate[], vectors: boolean, style: Style): string[] {
  const heading = ["ADDRESS", "DRIVER", "IRQ/S", "IRQS", "CORR", "NONFATAL", "FATAL", "POWER", "LINK"];
  const rows = rates.flatMap((fn) => {
    const { address, driver, perSecond, count, errors, power, link, newErrors } = fn;
    const paint = (text: string, total: number): string =>
      total === 0 ? text : newErrors > 0 ? style.red(text) : style.yellow(text);
    const errorCells =
      errors === undefined
        ? ["-", "-", "-"]
        : [errors.correctable, errors.nonfatal, errors.fatal].map((total) => paint(String(total), total));
    const row = [
      address,
      driver ?? "-",
      rateText(perSecond),
      fn.interrupts.length === 0 ? "-" : String(count),
      ...errorCells,
      power === "D0" ? power : style.dim(power ?? "-"),
      link === undefined || link.width === 0 ? "-" : linkText(link),
    ];
    const below = vectors
      ? fn.interrupts.map(({ irq, name, count: own, perSecond: rate }) => [
          style.dim(`  irq ${irq}`),
          style.dim(name),
          rateText(rate),
          String(own),
        ])
      : [];
    return [row, ...below];
  });
  return columns([heading.map((text) => style.bold(text)), ...rows]).split("\n");
}

/** The whole screen: exactly `height` lines at most, none wider than `width`. */
export function frameLines(rates: readonly FunctionRate[], options: FrameOptions, style: Style): string[] {
  const { width, height, order, paused, vectors, from, time } = options;
  const all = rates.reduce((sum, { perSecond }) => sum + perSecond, 0);
  const errors = rates.reduce((sum, fn) => sum + totalErrors(fn), 0);
  const status = `ring3 top ${time.toTimeString().slice(0, 8)}  ${rates.length} functions, ${rateText(all)} interrupts/s, ${errors} errors`;
  const state = paused ? style.yellow("  PAUSED") : "";
  const keys = `q quit  s sort: ${order}  p pause  v vectors  up/down scroll`;
  const [heading = "", ...rows] = tableLines(rates, vectors, style);
  const room = Math.max(0, height - 3);
  const start = Math.min(from, Math.max(0, rows.length - room));
  const lines = [status + state, heading, ...rows.slice(start, start + room), style.dim(keys)];
  return lines.slice(0, height).map((line) => clipped(line, width));
}

/** How far a table of so many rows can be scrolled. */
export function lastStart(rows: number, height: number): number {
  return Math.max(0, rows - Math.max(0, height - 3));
}

function rateText(perSecond: number): string {
  if (perSecond === 0) return "0";
  return perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond));
}

/** Cuts what would wrap. A line that is too long loses its colours, which no longer fit together. */
function clipped(line: string, width: number): string {
  const plain = stripVTControlCharacters(line);
  return plain.length <= width ? line : plain.slice(0, width);
}

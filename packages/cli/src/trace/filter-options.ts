// The options with which a command chooses among the events of a trace.
import type { TraceFilter } from "ring3/trace";
import { parseInteger } from "../parse.ts";
import { UsageError } from "../usage-error.ts";

export const FILTER_OPTIONS = {
  type: {
    kind: "texts",
    value: "TYPE[,TYPE...]",
    description:
      "only these events: config, bar, rom, interrupt, interrupts, map, unmap, memory, reset, power, event, fault, open, close",
  },
  bar: { kind: "integers", value: "N", minimum: 0n, maximum: 5n, description: "only accesses to this BAR" },
  register: {
    kind: "texts",
    value: "NAME[,NAME...]",
    description: "only accesses to these registers; * stands for any characters, as in SQ*TDBL",
  },
  range: { kind: "texts", value: "FROM-TO", description: "only accesses to these offsets, as 0x1000-0x1fff" },
  reads: { kind: "flag", description: "only reads" },
  writes: { kind: "flag", description: "only writes" },
} as const;

export interface FilterInput {
  readonly type: readonly string[];
  readonly bar: readonly bigint[];
  readonly register: readonly string[];
  readonly range: readonly string[];
  readonly reads: boolean;
  readonly writes: boolean;
}

export function filterOf(input: FilterInput): TraceFilter {
  const split = (texts: readonly string[]): string[] => texts.flatMap((text) => text.split(","));
  if (input.reads && input.writes) throw new UsageError("--reads and --writes exclude each other");
  return {
    types: split(input.type),
    ...(input.bar.length === 0 ? {} : { bars: input.bar.map(Number) }),
    ...(input.register.length === 0 ? {} : { registers: split(input.register) }),
    ...(input.range.length === 0 ? {} : { ranges: input.range.map(rangeOf) }),
    op: input.reads ? "read" : input.writes ? "write" : undefined,
  };
}

function rangeOf(text: string): { offset: number; size: number } {
  const [from = "", to = from, more] = text.split("-");
  const first = parseInteger(from);
  const last = parseInteger(to);
  if (first === undefined || last === undefined || more !== undefined || last < first) {
    throw new UsageError(`--range takes FROM-TO, as 0x1000-0x1fff, not "${text}"`);
  }
  return { offset: Number(first), size: Number(last - first) + 1 };
}

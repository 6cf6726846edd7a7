// ring3 trace stat: what a trace comes to, register by register and interrupt by interrupt.
import type { LatencyNs, TraceStatistics } from "ring3/trace";
import { type Command, command } from "../../command.ts";
import { columns, hex } from "../../text.ts";
import { FILTER_OPTIONS, filterOf } from "../../trace/filter-options.ts";

export const stat: Command = command({
  summary: "count the accesses of a trace, by register",
  description:
    "For each register how often it was read and written and how long that took, for each interrupt how often it came and " +
    "at which intervals. Accesses without a name are counted by blocks of 256 bytes.",
  operands: [{ name: "FILE", description: "a trace, or - for stdin" }],
  options: FILTER_OPTIONS,
  examples: [
    { command: "ring3 trace stat trace.jsonl", text: "all of it" },
    { command: "ring3 trace stat trace.jsonl --json --bar 0", text: "for programs" },
  ],
  run: async ({ operands: [path = ""], options }, context) => {
    const { TraceSummary, traceFilter } = await import("ring3/trace");
    const { readTrace } = await import("../../trace/read-trace.ts");
    const passes = traceFilter(filterOf(options));
    const { header, events } = await readTrace(path, context);
    const summary = new TraceSummary();
    for await (const event of events) {
      context.signal.throwIfAborted();
      if (passes(event)) summary.add(event);
    }
    const statistics = summary.statistics();
    context.result({ started: header.started, ...statistics }, () => textOf(header.started, statistics));
  },
});

function textOf(started: string, { events, spanNs, types, registers, interrupts, maps }: TraceStatistics): string {
  const several = new Set(registers.map(({ fn }) => fn)).size > 1;
  const kinds = Object.entries(types).map(([type, count]) => `${count} ${type}`);
  const parts = [`${events} events in ${(spanNs / 1e6).toFixed(3)} ms from ${started}: ${kinds.join(", ")}`];
  if (registers.length > 0) {
    const rows = registers.map(({ fn, area, offset, register, reads, writes, errors, took }) => [
      `${several ? `${fn} ` : ""}${area}`,
      `0x${hex(offset)}`,
      register ?? "",
      String(reads),
      String(writes),
      errors === 0 ? "" : String(errors),
      ...latencyCells(took),
    ]);
    parts.push(
      columns([["area", "offset", "register", "reads", "writes", "failed", "min us", "median", "p99", "max"], ...rows]),
    );
  }
  if (interrupts.length > 0) {
    const rows = interrupts.map(({ fn, kind, vector, signals, deliveries, interval }) => [
      `${several ? `${fn} ` : ""}${kind} ${vector}`,
      String(signals),
      String(deliveries),
      ...(interval === undefined ? ["", "", "", ""] : latencyCells(interval)),
    ]);
    parts.push(columns([["interrupt", "signals", "deliveries", "interval min us", "median", "p99", "max"], ...rows]));
  }
  if (maps.made > 0) parts.push(`${maps.made} mappings, at most ${maps.mostBytes} bytes at a time`);
  return parts.join("\n\n");
}

function latencyCells({ minimum, median, p99, maximum }: LatencyNs): string[] {
  return [minimum, median, p99, maximum].map((ns) => (ns / 1000).toFixed(1));
}

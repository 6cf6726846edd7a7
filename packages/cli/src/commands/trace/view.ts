// ring3 trace view: the events of a trace as lines to read, or, filtered, as a trace again.
import { type Command, command } from "../../command.ts";
import { FILTER_OPTIONS, filterOf } from "../../trace/filter-options.ts";

export const view: Command = command({
  summary: "show the events of a trace",
  description:
    "One line for each event: milliseconds since the trace began, what happened, and the register by name with the fields " +
    "that are not 0. With --json the events come out as they are in the file, so a filtered trace is a trace.",
  operands: [{ name: "FILE", description: "a trace, or - for stdin" }],
  options: {
    ...FILTER_OPTIONS,
    follow: { kind: "flag", short: "f", description: "go on while the file grows, until the function is closed" },
    "no-time": { kind: "flag", description: "leave the time out, so that two traces can be compared by diff" },
  },
  examples: [
    { command: "ring3 trace view trace.jsonl --register CC,CSTS", text: "how a controller was started" },
    { command: "ring3 trace view trace.jsonl --follow --type bar", text: "live" },
    { command: "ring3 trace view trace.jsonl --range 0x1000-0x1fff --json", text: "doorbells only, as a trace" },
  ],
  run: async ({ operands: [path = ""], options }, context) => {
    const { encodeTrace, eventText, traceFilter } = await import("ring3/trace");
    const { readTrace } = await import("../../trace/read-trace.ts");
    const passes = traceFilter(filterOf(options));
    const { header, events } = await readTrace(path, context, options.follow);
    const encoder = new TextEncoder();
    if (context.json) await context.write(encoder.encode(encodeTrace({ header, events: [] })));
    for await (const event of events) {
      context.signal.throwIfAborted();
      const wanted = passes(event) || (context.json && event.type === "open");
      if (!wanted) continue;
      const text = context.json
        ? lineOf(encodeTrace({ header, events: [event] }))
        : `${eventText(event, !options["no-time"])}\n`;
      await context.write(encoder.encode(text));
    }
  },
});

/** The last of two lines. */
function lineOf(text: string): string {
  return text.slice(text.indexOf("\n") + 1);
}

// ring3 trace convert: a trace as a capture for Wireshark and tshark.
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { type Command, command } from "../../command.ts";
import { FILTER_OPTIONS, filterOf } from "../../trace/filter-options.ts";
import { UsageError } from "../../usage-error.ts";

export const convert: Command = command({
  summary: "make a capture for Wireshark of a trace",
  description:
    "The capture is pcapng with the link type DLT_USER0; docs/ring3.lua is the dissector for it. With - as the target it " +
    "goes to stdout, and with --follow Wireshark shows it live.",
  operands: [{ name: "FILE", description: "a trace, or - for stdin" }],
  options: {
    write: { kind: "text", short: "w", value: "FILE", description: "where the capture goes, - for stdout (required)" },
    follow: { kind: "flag", short: "f", description: "go on while the trace grows, until the function is closed" },
    ...FILTER_OPTIONS,
  },
  examples: [
    {
      command: "ring3 trace convert trace.jsonl -w trace.pcapng",
      text: "then: tshark -X lua_script:ring3.lua -r trace.pcapng",
    },
    {
      command: "ring3 trace convert trace.jsonl --follow -w -",
      text: "into: wireshark -X lua_script:ring3.lua -k -i -",
    },
  ],
  run: async ({ operands: [path = ""], options }, context) => {
    const target = options.write;
    if (target === undefined)
      throw new UsageError("--write is missing: say where the capture goes, as -w trace.pcapng");
    const { PcapngSink, traceFilter } = await import("ring3/trace");
    const { readTrace } = await import("../../trace/read-trace.ts");
    const passes = traceFilter(filterOf(options));
    const { header, events } = await readTrace(path, context, options.follow);
    let count = 0;
    const blocks = async function* (): AsyncGenerator<Uint8Array, void> {
      let made: Uint8Array[] = [];
      const sink = new PcapngSink(header, (bytes) => void made.push(bytes));
      for await (const event of events) {
        context.signal.throwIfAborted();
        if (!passes(event)) continue;
        sink.write(event);
        count++;
        yield* made;
        made = [];
      }
      yield* made;
    };
    if (target === "-") {
      for await (const bytes of blocks()) await context.write(bytes);
      return;
    }
    await pipeline(blocks, createWriteStream(target));
    context.result({ path: target, events: count }, () => `${count} events in ${target}`);
  },
});

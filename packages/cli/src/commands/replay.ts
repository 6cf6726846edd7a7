// ring3 replay: a recording as a device, so that a driver is tested where its hardware is not.
import type { ReplayResult } from "ring3/replay";
import { type Command, command } from "../command.ts";
import { Context } from "../context.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../serve/server-options.ts";

const { socket, mode, owner, "allow-uid": allowUid, log, metrics } = SERVER_OPTIONS;

export const replay: Command = command({
  summary: "answer a driver from a trace",
  description:
    "Serves the function that a trace was recorded of: registers, DMA memory and interrupts as the recording has them, for " +
    "each client from the beginning. A driver that departs from it is told at which access, what was expected and what " +
    "came, and finds a function that answers ones. Record with --trace and --trace-memory.",
  operands: [{ name: "FILE", description: "a trace" }],
  options: {
    socket,
    function: { kind: "integer", value: "N", initial: 0n, maximum: 65535n, description: "which function of the trace" },
    strict: { kind: "flag", description: "every access in the recorded order; polls as often as then" },
    once: {
      kind: "flag",
      description: "end with the first client; exit status 1 where it departed, or left accesses out",
    },
    mode,
    owner,
    "allow-uid": allowUid,
    log,
    metrics,
  },
  examples: [
    {
      command: "ring3 replay trace.jsonl --socket /tmp/replay.sock",
      text: "then: ring3 nvme identify vfio-user:/tmp/replay.sock",
    },
    { command: "ring3 replay trace.jsonl --socket /tmp/replay.sock --once --strict", text: "one test of a driver" },
  ],
  run: async ({ operands: [file = ""], options }, context) => {
    const path = socketPath(options.socket);
    const plain = {
      openings: 1n,
      queue: 0n,
      state: undefined,
      "keep-state": false,
      "no-twin-socket": false,
      "trust-unsealed-memory": false,
    };
    const settings = await serverSettings(
      { ...options, ...plain, "log-messages": false, trace: undefined, faults: undefined },
      context,
    );
    const [{ readFile }, { parseTrace }, { departureText, ReplayDevice }, { serveFunctions }] = await Promise.all([
      import("node:fs/promises"),
      import("ring3/trace"),
      import("ring3/replay"),
      import("../serve/serve-functions.ts"),
    ]);
    const trace = parseTrace(await readFile(file, "utf8"));
    const first = new AbortController();
    const results: ReplayResult[] = [];
    using fn = new ReplayDevice(trace, {
      fn: Number(options.function),
      order: options.strict ? "strict" : "state",
      onDeparture: (departure) => void context.streams.stderr.write(`${departureText(departure)}\n`),
      onEnd: (result) => {
        results.push(result);
        if (!context.json) context.streams.stdout.write(`${resultText(result)}\n`);
        if (options.once) first.abort(new Error("the client has gone"));
      },
    });
    const { streams, environment, json, root } = context;
    const signal = AbortSignal.any([context.signal, first.signal]);
    const until = new Context({ ...streams, environment, signal }, { json, root, quiet: false });
    const summary = `${fn.result.accesses} accesses, recorded ${trace.header.started}`;
    // A driver that looks at its memory meanwhile must not see a completion before the data that the recorded device wrote first.
    const serving = { device: "a recording", summary, functions: [{ fn, path }], postedWrites: false };
    await serveFunctions(serving, settings, until);
    const [result] = results;
    if (!options.once || result === undefined) return;
    if (json) context.result(result, () => "");
    if (result.departure !== undefined) throw new Error(departureText(result.departure));
    if (result.missing !== undefined) throw new Error(`the driver left out: ${result.missing}`);
  },
});

function resultText({ made, accesses, departure, missing }: ReplayResult): string {
  const end = departure === undefined ? (missing === undefined ? "all done" : `left out: ${missing}`) : "it departed";
  return `${made} of ${accesses} accesses were as recorded; ${end}`;
}

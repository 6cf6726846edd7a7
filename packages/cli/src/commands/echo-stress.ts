// ring3 echo-stress: many requests at once, made and checked by several threads over one device, and over queues of their own
// where it has several.
import { type Command, command } from "../command.ts";
import { echoResult, echoText } from "../net/echo-result.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { Meter } from "../net/meter.ts";
import {
  checkAddressing,
  DEVICE_OPTIONS,
  NETWORK_DEVICE,
  openDevice,
  parsePeer,
  STACK_OPTIONS,
  startStack,
} from "../net/session.ts";
import { StressRun } from "../net/stress-run.ts";
import type { QueueCounts } from "../net/stress-worker.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";
import { columns, type Style } from "../text.ts";
import { UsageError } from "../usage-error.ts";

const ECHO_PORT = 7;

export const echoStress: Command = command({
  summary: "many UDP echo requests at once from several threads, each checked byte by byte",
  description:
    "Each thread makes datagrams and checks what comes back. The main thread has one queue of the device and sends and receives " +
    "over it; with --queues N, N - 1 threads have a queue each and do that themselves, and what the device gives to another queue " +
    "is handed over. Lost datagrams are not sent again.",
  operands: [
    NETWORK_DEVICE,
    { name: "TARGET", description: "a station with an echo service, as 192.0.2.1 or 192.0.2.1:7" },
  ],
  options: {
    threads: { kind: "integer", value: "N", minimum: 1n, maximum: 64n, initial: 4n, description: "threads" },
    queues: {
      kind: "integer",
      value: "N",
      minimum: 1n,
      maximum: 65n,
      initial: 1n,
      description: "queues of the device: the main thread's, and one of its own for each of the first threads",
    },
    count: {
      kind: "integer",
      short: "n",
      value: "N",
      minimum: 1n,
      initial: 10_000n,
      description: "requests of each thread",
    },
    window: {
      kind: "integer",
      short: "w",
      value: "N",
      minimum: 1n,
      maximum: 1024n,
      initial: 32n,
      description: "requests of each thread on their way at once",
    },
    size: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      minimum: 8n,
      maximum: 65_507n,
      initial: 64n,
      description: "bytes of a request",
    },
    timeout: {
      kind: "integer",
      value: "MS",
      minimum: 1n,
      initial: 1000n,
      description: "when a request counts as lost",
    },
    ...SVG_OPTION,
    ...STACK_OPTIONS,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    {
      command: "ring3 echo-stress 03:10.0 192.0.2.1 --ip 192.0.2.2/24 --threads 8 --count 100K",
      text: "eight threads",
    },
    {
      command: "ring3 echo-stress 03:00.0 192.0.2.1 --ip 192.0.2.2/24 --threads 3 --queues 4",
      text: "three threads, each with a queue of its own",
    },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", target = ""] = operands;
    const peer = parsePeer(target, ECHO_PORT);
    await using resources = new AsyncDisposableStack();
    checkAddressing(options);
    const [threads, queues] = [Number(options.threads), Number(options.queues)];
    if (queues > threads + 1) {
      throw new UsageError(
        `--queues ${queues} takes --threads ${queues - 1} at least: each of the others has a thread`,
      );
    }
    const load = {
      count: Number(options.count),
      sizeBytes: Number(options.size),
      window: Number(options.window),
      timeoutMs: Number(options.timeout),
    };
    const device = await openDevice(address, options, context, resources);
    let started: StressRun | undefined;
    const meter = new Meter(context, () => ({
      sent: started?.counts.sent ?? 0,
      received: started?.counts.received ?? 0,
    }));
    const starting = StressRun.start(
      device,
      { threads, queues, load, peer },
      (over) => startStack(device, over, options, context, resources),
      (latencies) => {
        for (const nanoseconds of latencies) meter.add(nanoseconds);
        meter.look();
      },
    );
    const run = resources.use(await context.unlessAborted(starting));
    started = run;
    await context.unlessAborted(run.finished());
    meter.finish();
    writeSvg(options.svg, `ring3 echo-stress to ${target}, ${threads} threads`, meter, ["sent", "received"]);
    const { counts } = run;
    const whole = { ...peer, ...load, count: threads * load.count, window: threads * load.window };
    const value = {
      threads,
      ...echoResult(whole, counts, meter),
      queues: run.queues,
      stack: run.stack.statistics,
    };
    context.result(value, () => `${echoText(value, context.style)}\n${queuesText(value.queues, context.style)}`);
    if (counts.received === 0) throw new Error(`${target} did not answer`);
    if (counts.corrupt > 0) throw new Error(`${counts.corrupt} datagrams came back with other bytes`);
  },
});

function queuesText(queues: readonly QueueCounts[], style: Style): string {
  const heads = ["queue", "received", "sent", "handed over", "taken over", "lost"];
  const rows = queues.map(({ index, rx_packets, tx_packets, handedOver, takenOver, lost }) =>
    [index, rx_packets, tx_packets, handedOver, takenOver, lost].map(String),
  );
  return columns([heads.map((head) => style.bold(head)), ...rows], { indent: 2 });
}

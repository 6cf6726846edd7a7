// ring3 top: interrupts, errors, power and links of all functions, as they go on.
import { setTimeout as delay } from "node:timers/promises";
import type { FunctionActivity } from "ring3/host";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import type { Order } from "../top/rates.ts";

export const top: Command = command({
  summary: "show interrupts, errors, power and links of functions on a live screen",
  description:
    "Needs no privilege and touches no device. Keys: q quits, s changes the order, p or the space bar pauses, v shows each " +
    "interrupt, the arrows scroll. Without a terminal, with --once and with --json one sample is printed: what came within " +
    "one interval.",
  operands: [
    {
      name: "ADDRESS",
      description: "only these functions, as 0000:01:00.0 or 01:00.0",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    interval: {
      kind: "integer",
      short: "i",
      value: "MS",
      initial: 1000n,
      minimum: 10n,
      maximum: 3_600_000n,
      description: "milliseconds between two samples",
    },
    sort: {
      kind: "choice",
      short: "s",
      choices: ["rate", "errors", "address", "driver"],
      initial: "rate",
      description: "the order",
    },
    vectors: { kind: "flag", description: "show each interrupt in a line of its own" },
    once: { kind: "flag", description: "print one sample and end" },
  },
  examples: [
    { command: "ring3 top", text: "everything" },
    { command: "ring3 top 01:00.0 --vectors", text: "one function, queue by queue" },
    {
      command: "ring3 top --json | jq '.functions[] | select(.newErrors > 0)'",
      text: "what had errors within a second",
    },
  ],
  run: async ({ operands, options }, context) => {
    const [{ readActivity, readFunction, sysfsAddress }, { machinePaths }] = await Promise.all([
      import("ring3/host"),
      import("../machine.ts"),
    ]);
    const paths = machinePaths(context);
    for (const word of operands) readFunction(word, paths);
    const addresses = operands.length === 0 ? undefined : operands.map((word) => sysfsAddress(word));
    const view = {
      sample: () => readActivity(paths, addresses),
      intervalMs: Number(options.interval),
      order: options.sort as Order,
      vectors: options.vectors,
    };
    const { stdout } = context.streams;
    const live = stdout.isTTY === true && !options.once && !context.json && context.streams.stdin.isTTY === true;
    if (live) await (await import("../top/live.ts")).runLive(view, context);
    else await printOnce(view, context);
  },
});

export interface TopView {
  readonly sample: () => FunctionActivity[];
  readonly intervalMs: number;
  readonly order: Order;
  readonly vectors: boolean;
}

async function printOnce({ sample, intervalMs, order, vectors }: TopView, context: Context): Promise<void> {
  const [{ ratesOf, sorted }, { tableLines }] = await Promise.all([
    import("../top/rates.ts"),
    import("../top/frame.ts"),
  ]);
  const before = sample();
  const start = performance.now();
  await context.unlessAborted(delay(intervalMs, undefined, { signal: context.signal }));
  const elapsedMs = performance.now() - start;
  const functions = sorted(ratesOf(before, sample(), elapsedMs), order);
  context.result({ elapsedMs, functions }, () => tableLines(functions, vectors, context.style).join("\n"));
}

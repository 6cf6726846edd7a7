// ring3 watch: what happens to functions, as it happens. A signal is how a watch is meant to end: that is no failure.
import type { FunctionEvent } from "ring3";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { aborted } from "../interruption.ts";
import { isSocketAddress, openFunction } from "../open-function.ts";
import { UsageError } from "../usage-error.ts";
import { watchLine } from "../watch/watch-line.ts";

export const watch: Command = command({
  summary: "show hotplug, binding, errors, power and link changes as they happen",
  description:
    "Needs no privilege: the kernel's events, its error counters, link and power are open to everybody. Headers of packets " +
    "that caused errors come from the kernel's log, and registers of functions without counters from config space, both " +
    "for root; what is out of sight is said at the start. --json prints one object a line (docs/watch.md).",
  operands: [
    {
      name: "ADDRESS",
      description: "only these functions, as 0000:01:00.0, 01:00.0, or with --open vfio-user:PATH",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    open: {
      kind: "flag",
      description: "open each ADDRESS, which resets it, and show the events of the function itself as well",
    },
    interval: {
      kind: "integer",
      short: "i",
      value: "MS",
      initial: 1000n,
      minimum: 10n,
      maximum: 3_600_000n,
      description: "milliseconds between two looks at counters, power and link",
    },
    count: { kind: "integer", short: "c", value: "N", minimum: 1n, description: "end after N events" },
    for: {
      kind: "integer",
      short: "t",
      value: "SECONDS",
      minimum: 1n,
      maximum: 1_000_000n,
      description: "end after SECONDS",
    },
  },
  examples: [
    { command: "ring3 watch", text: "everything, until Ctrl-C" },
    {
      command: "ring3 watch 01:00.0 --json --count 1",
      text: "the next thing that happens to one function, for a script",
    },
    { command: "ring3 watch vfio-user:/run/disk.sock --open", text: "what a served function tells its driver" },
  ],
  run: async ({ operands, options }, context) => {
    const sockets = operands.filter(isSocketAddress);
    if (sockets.length > 0 && !options.open)
      throw new UsageError(`${sockets[0]}: a served function tells only whoever opens it: add --open`);
    if (options.open && operands.length === 0)
      throw new UsageError("--open opens the functions that are named: give an ADDRESS");
    const ending = new AbortController();
    const signal = AbortSignal.any([
      context.signal,
      ending.signal,
      ...(options.for === undefined ? [] : [AbortSignal.timeout(Number(options.for) * 1000)]),
    ]);
    let left = options.count ?? -1n;
    const show = (event: Shown): void => {
      if (left === 0n) return;
      context.line({ time: new Date().toISOString(), ...event }, () => watchLine(new Date(), event, context.style));
      if (--left === 0n) ending.abort();
    };
    await using opened = new AsyncDisposableStack();
    const gone: Promise<void>[] = [];
    for (const address of options.open ? operands : []) {
      const fn = opened.use(await openFunction(address, { backend: "auto" }, context));
      gone.push(aborted(fn.gone));
      opened.use(listen(address, fn.events[Symbol.asyncIterator](), show));
    }
    const addresses = operands.filter((word) => !isSocketAddress(word));
    if (sockets.length > 0 && addresses.length === 0) {
      context.progress.step(`watching ${sockets.join(", ")}; Ctrl-C ends it`);
      // Signals keep no process alive.
      const alive = setInterval(() => undefined, 60_000);
      await Promise.race([aborted(signal), Promise.all(gone)]);
      clearInterval(alive);
    } else {
      await watchMachine(addresses, Number(options.interval), signal, show, context);
    }
  },
});

type Shown = Parameters<typeof watchLine>[1];

async function watchMachine(
  words: readonly string[],
  intervalMs: number,
  signal: AbortSignal,
  show: (event: Shown) => void,
  context: Context,
): Promise<void> {
  const [host, { machinePaths }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
  const paths = machinePaths(context);
  // One that is not there yet may be what is waited for.
  const addresses = words.length === 0 ? undefined : words.map((word) => host.sysfsAddress(word));
  // Listening first: what happens between the two is seen by one of them.
  const events = await host.watchHost({ keepsAlive: true });
  using look = new host.FunctionLook(paths, addresses);
  for (const text of look.blindSpots()) context.progress.step(`out of sight: ${text}`);
  context.progress.step(`watching ${addresses?.join(", ") ?? "all functions"}; Ctrl-C ends it`);
  for await (const event of host.watchFunctions({ look, events, intervalMs, signal })) show(event);
}

/** Shows a function's own events until it is closed; what it says goes under `function-event`. */
function listen(
  address: string,
  events: AsyncIterator<FunctionEvent, undefined>,
  show: (event: Shown) => void,
): AsyncDisposable {
  let shown = true;
  const listening = (async () => {
    for (let next = await events.next(); next.done !== true && shown; next = await events.next()) {
      const { type: event, ...facts } = next.value;
      show({ type: "function-event", address, event, facts });
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      shown = false;
      await events.return?.();
      await listening;
    },
  };
}

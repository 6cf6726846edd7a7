// ring3 udp-echo: the echo service of RFC 862 past the kernel, and its client, which checks every byte.
import type { Stack } from "ring3/net";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { type EchoLoad, echoClient } from "../net/echo-client.ts";
import { echoResult, echoText } from "../net/echo-result.ts";
import { Meter } from "../net/meter.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openStack, parsePeer, STACK_OPTIONS } from "../net/session.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { columns } from "../text.ts";

const ECHO_PORT = 7;

export const udpEcho: Command = command({
  summary: "answer UDP echo requests, or send them and measure",
  description:
    "Without --connect it answers on --port until it is stopped, and answers ping as well. With --connect it sends datagrams, checks " +
    "every byte that comes back, and shows how long they took.",
  operands: [NETWORK_DEVICE],
  options: {
    connect: { kind: "text", short: "c", value: "ADDRESS[:PORT]", description: "send to this station" },
    port: {
      kind: "integer",
      short: "p",
      value: "PORT",
      minimum: 1n,
      maximum: 65_535n,
      initial: BigInt(ECHO_PORT),
      description: "where to answer",
    },
    count: { kind: "integer", short: "n", value: "N", minimum: 1n, initial: 10_000n, description: "datagrams to send" },
    size: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      minimum: 8n,
      maximum: 65_507n,
      initial: 64n,
      description: "bytes of a datagram",
    },
    window: {
      kind: "integer",
      short: "w",
      value: "N",
      minimum: 1n,
      maximum: 1024n,
      initial: 1n,
      description: "datagrams on their way at once",
    },
    timeout: {
      kind: "integer",
      value: "MS",
      minimum: 1n,
      initial: 1000n,
      description: "when a datagram counts as lost",
    },
    ...SVG_OPTION,
    ...STACK_OPTIONS,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 udp-echo 03:10.0 --ip 192.0.2.2/24", text: "answer" },
    {
      command: "ring3 udp-echo 03:10.2 --ip 192.0.2.3/24 --connect 192.0.2.2 --count 1M --window 32 --svg echo.svg",
      text: "a million datagrams, 32 at a time",
    },
  ],
  run: async ({ operands, options }, context) => {
    const peer = options.connect === undefined ? undefined : parsePeer(options.connect, ECHO_PORT);
    await using resources = new AsyncDisposableStack();
    const { stack } = await openStack(operands[0] ?? "", options, context, resources);
    if (peer === undefined) {
      await respond(stack, Number(options.port), options.svg, context);
      return;
    }
    const load: EchoLoad = {
      ...peer,
      count: Number(options.count),
      sizeBytes: Number(options.size),
      window: Number(options.window),
      timeoutMs: Number(options.timeout),
    };
    const value = await measure(stack, load, options.svg, context);
    context.result(value, () => echoText(value, context.style));
    if (value.received === 0) throw new Error(`${peer.address} port ${peer.port} did not answer`);
    if (value.corrupt > 0) throw new Error(`${value.corrupt} datagrams came back with other bytes`);
  },
});

async function measure(
  stack: Stack,
  load: EchoLoad,
  svg: string | undefined,
  context: Context,
): Promise<ReturnType<typeof echoResult>> {
  const counts = { sent: 0, received: 0 };
  const meter = new Meter(context, () => ({ ...counts }));
  const result = await echoClient(stack, load, context.signal, counts, meter);
  meter.finish();
  writeSvg(svg, `ring3 udp-echo to ${load.address}, ${load.sizeBytes} bytes, ${load.window} at once`, meter, [
    "sent",
    "received",
  ]);
  return echoResult(load, result, meter);
}

async function respond(stack: Stack, port: number, svg: string | undefined, context: Context): Promise<void> {
  using endpoint = stack.udp.bind(port, {
    listener: (bytes, at, length, address, from) => endpoint.sendFrom(bytes, at, length, address, from),
  });
  const meter = new Meter(context, () => {
    const { received, sent } = endpoint.statistics;
    return { received, sent };
  });
  context.progress.step(`answering on port ${port} of ${stack.configuration.address}; Ctrl-C ends`);
  await untilEnded(stack, context.signal, () => meter.look());
  meter.finish();
  writeSvg(svg, `ring3 udp-echo on port ${port}`, meter, ["received", "sent"]);
  const value = { ...endpoint.statistics, seconds: meter.seconds, stack: stack.statistics };
  context.result(value, () => {
    const rows = Object.entries(endpoint.statistics).map(([name, count]) => [name, String(count)]);
    return columns(rows);
  });
  if (stack.failure !== undefined) throw stack.failure;
}

/** Calls `look` now and then until the signal aborts, or the stack has ended by itself. */
function untilEnded(stack: Stack, signal: AbortSignal, look: () => void): Promise<void> {
  return new Promise((resolve) => {
    const stop = (): void => {
      clearInterval(timer);
      signal.removeEventListener("abort", stop);
      resolve();
    };
    const timer = setInterval(() => {
      look();
      if (stack.failure !== undefined) stop();
    }, 250);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

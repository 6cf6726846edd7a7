// ring3 ping: echo requests from a device past the kernel.
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "ring3/binary";
import { type Command, command } from "../command.ts";
import { Meter } from "../net/meter.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openStack, parsePeer, STACK_OPTIONS } from "../net/session.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { UsageError } from "../usage-error.ts";

export const ping: Command = command({
  summary: "send ICMP echo requests from a device, past the kernel",
  operands: [NETWORK_DEVICE, { name: "TARGET", description: "the IPv4 address of another station" }],
  options: {
    count: { kind: "integer", short: "c", value: "N", minimum: 1n, initial: 4n, description: "requests" },
    interval: {
      kind: "integer",
      short: "i",
      value: "MS",
      minimum: 0n,
      maximum: 3_600_000n,
      initial: 1000n,
      description: "milliseconds between two requests",
    },
    size: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      maximum: 65_507n,
      initial: 56n,
      description: "bytes of payload",
    },
    timeout: { kind: "integer", value: "MS", minimum: 1n, initial: 1000n, description: "how long to wait for a reply" },
    ...SVG_OPTION,
    ...STACK_OPTIONS,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 ping 03:10.0 192.0.2.1 --ip 192.0.2.2/24", text: "four requests" },
    { command: "ring3 ping 03:10.0 10.0.2.2 --dhcp --count 1000 --interval 0 --json", text: "as fast as it goes" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", target = ""] = operands;
    parsePeer(target, 1);
    await using resources = new AsyncDisposableStack();
    const { stack } = await openStack(address, options, context, resources);
    const count = Number(options.count);
    let sent = 0;
    let received = 0;
    const meter = new Meter(context, () => ({ sent, received }));
    const chatty = !context.json && options.interval >= 100n;
    for (let i = 0; i < count && !context.signal.aborted; i++) {
      if (i > 0 && options.interval > 0n) {
        await delay(Number(options.interval), undefined, { signal: context.signal }).catch(() => undefined);
        if (context.signal.aborted) break;
      }
      sent++;
      try {
        const reply = await stack.ping(target, {
          payloadBytes: Number(options.size),
          timeoutMs: Number(options.timeout),
          signal: context.signal,
        });
        received++;
        meter.add(reply.roundTripMs * 1e6);
        if (chatty) {
          const { payloadBytes, sequence, timeToLive, roundTripMs } = reply;
          const line = `${payloadBytes} bytes from ${reply.address}: seq=${sequence} ttl=${timeToLive} time=${roundTripMs.toFixed(3)} ms\n`;
          context.streams.stdout.write(line);
        }
      } catch (error) {
        if (context.signal.aborted) break;
        if (stack.failure !== undefined) throw error;
        context.progress.step(messageOf(error));
      }
      meter.look();
    }
    meter.finish();
    writeSvg(options.svg, `ring3 ping ${target}`, meter, ["received"]);
    const value = { target, sent, received, lost: sent - received, latencyUs: meter.latencies.summary() };
    context.result(value, () => {
      const { minimum, mean, p50, p99, p999, maximum } = value.latencyUs;
      const lost = sent === 0 ? 0 : Math.round((100 * (sent - received)) / sent);
      return (
        `${sent} sent, ${received} received, ${lost}% lost\n` +
        `round trip ${minimum} us at least, mean ${mean}, 50 %: ${p50}, 99 %: ${p99}, 99.9 %: ${p999}, ${maximum} at most`
      );
    });
    if (received === 0) throw new UsageError(`${target} did not answer`);
  },
});

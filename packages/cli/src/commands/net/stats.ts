// ring3 net stats: the counters of a device while it receives, by their names in the kernel.
import type { NetDevice } from "ring3/net";
import { type Command, command } from "../../command.ts";
import { receiveLoop } from "../../net/receive-loop.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openDevice } from "../../net/session.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { columns } from "../../text.ts";

export const stats: Command = command({
  summary: "count what comes to a network device, for some seconds",
  description:
    "The counters are named as in ip -s link; what arrives is counted and thrown away. --promiscuous counts frames for others too.",
  operands: [NETWORK_DEVICE],
  options: {
    seconds: {
      kind: "integer",
      short: "t",
      value: "S",
      minimum: 1n,
      maximum: 86_400n,
      initial: 5n,
      description: "how long",
    },
    promiscuous: { kind: "flag", short: "p", description: "frames for other stations, too" },
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [{ command: "ring3 net stats 06:00.0 --seconds 10 --json", text: "for a script" }],
  run: async ({ operands, options }, context) => {
    await using resources = new AsyncDisposableStack();
    const device = await openDevice(operands[0] ?? "", options, context, resources);
    if (options.promiscuous) await device.setReceiveMode({ promiscuous: true });
    const seconds = Number(options.seconds);
    const start = performance.now();
    const until = start + seconds * 1000;
    const progress = (): boolean => {
      const now = performance.now();
      context.progress.update(() => {
        const { rx_packets } = counted(device);
        return `${((now - start) / 1000).toFixed(0)} of ${seconds} s: ${rx_packets} frames`;
      });
      return now < until;
    };
    await receiveLoop(device, context.signal, progress, (packets, count) => device.pool.giveAll(packets, count));
    const value = { address: device.address, driver: device.driver, seconds, statistics: counted(device) };
    context.result(value, () => {
      const { device: own, ...common } = value.statistics;
      const rows = Object.entries({ ...common, ...own }).map(([name, count]) => [name, String(count)]);
      return `${context.style.bold(device.address)}\n${columns(rows, { indent: 2 })}`;
    });
  },
});

const counted = (device: NetDevice): ReturnType<NetDevice["statistics"]> => device.statistics();

// ring3 net stats: the counters of a device while it receives, by their names in the kernel.
import type { NetDevice } from "ring3/net";
import { type Command, command } from "../../command.ts";
import { Meter } from "../../net/meter.ts";
import { receiveLoop } from "../../net/receive-loop.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openDevice } from "../../net/session.ts";
import { SVG_OPTION, writeSvg } from "../../net/svg-option.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { columns } from "../../text.ts";

const SECONDS = 5;
const INTERVAL_MS = 1000;
/** What is shown live and drawn. */
const RATES = ["rx_packets", "tx_packets", "rx_dropped", "rx_missed_errors"] as const;
const VOLUMES = ["rx_bytes", "tx_bytes"] as const;

export const stats: Command = command({
  summary: "count what comes to a network device",
  description:
    "The counters are named as in ip -s link, the device's own as in its datasheet; what arrives is counted and thrown away. " +
    "--promiscuous counts frames for others too. With --interval or --count each interval's changes are a line (with --json an " +
    "object), and the totals the last.",
  operands: [NETWORK_DEVICE],
  options: {
    seconds: {
      kind: "integer",
      short: "t",
      value: "S",
      minimum: 1n,
      maximum: 86_400n,
      description: `how long (default: ${SECONDS}; with --interval or --count until Ctrl-C)`,
    },
    interval: {
      kind: "integer",
      short: "i",
      value: "MS",
      minimum: 100n,
      maximum: 3_600_000n,
      description: `show what changed every so many milliseconds (default with --count: ${INTERVAL_MS})`,
    },
    count: { kind: "integer", short: "c", value: "N", minimum: 1n, description: "stop after so many intervals" },
    promiscuous: { kind: "flag", short: "p", description: "frames for other stations, too" },
    ...SVG_OPTION,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 net stats 06:00.0 --seconds 10 --json", text: "for a script" },
    { command: "ring3 net stats 06:00.0 -p --interval 1000 --svg rates.svg", text: "second by second until Ctrl-C" },
  ],
  run: async ({ operands, options }, context) => {
    await using resources = new AsyncDisposableStack();
    const device = await openDevice(operands[0] ?? "", options, context, resources);
    if (options.promiscuous) await device.setReceiveMode({ promiscuous: true });
    const watched = options.interval !== undefined || options.count !== undefined;
    const intervalMs = Number(options.interval ?? INTERVAL_MS);
    const count = Number(options.count ?? Number.POSITIVE_INFINITY);
    const limit = Number(options.seconds ?? (watched ? Number.POSITIVE_INFINITY : SECONDS));
    const meter = new Meter(context, () => {
      const counted = counters(device);
      return Object.fromEntries([...RATES, ...VOLUMES].map((name) => [name, counted[name] ?? 0]));
    });
    let before = counters(device);
    let shown = 0;
    let nextMs = intervalMs;
    const show = (): void => {
      const now = counters(device);
      const changed = changes(before, now);
      before = now;
      shown++;
      // After a delay the lines are again where they would be.
      nextMs = (Math.floor((meter.seconds * 1000) / intervalMs) + 1) * intervalMs;
      const seconds = rounded(meter.seconds);
      context.line({ seconds, changed }, () => {
        const parts = Object.entries(changed).map(([name, more]) => `${name} ${more < 0 ? more : `+${more}`}`);
        return `${seconds.toFixed(1)} s: ${parts.length === 0 ? "nothing changed" : parts.join(", ")}`;
      });
    };
    const goesOn = (): boolean => {
      meter.look();
      if (watched && meter.seconds * 1000 >= nextMs) show();
      return meter.seconds < limit && shown < count;
    };
    await receiveLoop(device, context.signal, goesOn, (packets, taken) => device.pool.giveAll(packets, taken));
    meter.finish();
    writeSvg(options.svg, `ring3 net stats ${device.address}`, meter, RATES, VOLUMES);
    const value = {
      address: device.address,
      driver: device.driver,
      seconds: rounded(meter.seconds),
      statistics: device.statistics(),
    };
    const text = (): string => {
      const rows = Object.entries(counters(device)).map(([name, total]) => [name, String(total)]);
      return `${context.style.bold(device.address)}\n${columns(rows, { indent: 2 })}`;
    };
    if (watched) context.line(value, text);
    else context.result(value, text);
  },
});

function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

/** The common counters and the device's own, by name. */
function counters(device: NetDevice): Readonly<Record<string, number>> {
  const { device: own, ...common } = device.statistics();
  return { ...common, ...own };
}

/** What was added to each counter that is another now. */
function changes(
  before: Readonly<Record<string, number>>,
  now: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(now)
      .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
      .filter(([, more]) => more !== 0),
  );
}

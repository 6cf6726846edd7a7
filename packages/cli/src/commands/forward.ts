// ring3 forward: every frame that one device receives goes out at the other, both ways.
import type { PciFunction } from "ring3";
import type { NetDevice, NetDeviceOptions, PacketPool, Packets } from "ring3/net";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { amount, Meter } from "../net/meter.ts";
import { DEVICE_OPTIONS, type DeviceWords, openDevice } from "../net/session.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { columns } from "../text.ts";
import { UsageError } from "../usage-error.ts";

/** Rounds without a frame after which the event loop gets a turn at once. */
const IDLE_ROUNDS = 64;
/** And rounds after which it gets one in any case. */
const BUSY_ROUNDS = 1024;

export const forward: Command = command({
  summary: "pass every frame from one device to another, both ways",
  description:
    "One thread that looks at both devices all the time. What the other side has no room for is dropped and counted. Both must be " +
    "able to receive everything (ring3 net info), which virtual functions of an 82576 are not.",
  operands: [
    { name: "A", description: "a network function that you may open, or vfio-user:PATH" },
    { name: "B", description: "another one" },
  ],
  options: {
    seconds: {
      kind: "integer",
      short: "t",
      value: "S",
      minimum: 1n,
      description: "stop after so long (default: Ctrl-C)",
    },
    burst: { kind: "integer", value: "N", minimum: 1n, maximum: 512n, initial: 32n, description: "frames at a time" },
    ...SVG_OPTION,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 forward 03:00.0 06:00.0", text: "between two cards" },
    {
      command: "ring3 forward vfio-user:/tmp/a.sock 06:00.0 -t 60 --svg forward.svg",
      text: "for a minute, with a plot",
    },
  ],
  run: async ({ operands, options }, context) => {
    const [first = "", second = ""] = operands;
    if (first === second) throw new UsageError("A and B are one device: give two");
    await using resources = new AsyncDisposableStack();
    const [a, b] = await openBoth(first, second, options, context, resources);
    const seconds = options.seconds === undefined ? Number.POSITIVE_INFINITY : Number(options.seconds);
    const { Packets } = await import("ring3/net");
    const capacity = Number(options.burst);
    const ways = [
      new Way(a, b, new Packets(a.pool.arena, capacity)),
      new Way(b, a, new Packets(a.pool.arena, capacity)),
    ];
    const meter = new Meter(context, () => Object.fromEntries(ways.map((way) => [way.name, way.passed])));
    context.progress.step(`forwarding between ${a.address} (${a.driver}) and ${b.address} (${b.driver}); Ctrl-C ends`);
    await run(ways, seconds, meter, context.signal);
    meter.finish();
    writeSvg(
      options.svg,
      `ring3 forward ${a.address} ${b.address}`,
      meter,
      ways.map(({ name }) => name),
    );
    const value = {
      seconds: meter.seconds,
      ways: ways.map((way) => ({
        from: way.from.address,
        to: way.to.address,
        passed: way.passed,
        dropped: way.dropped,
      })),
      statistics: { [a.address]: a.statistics(), [b.address]: b.statistics() },
    };
    context.result(value, () =>
      columns(
        value.ways.map(({ from, to, passed, dropped }) => [
          `${from} to ${to}`,
          `${passed} frames`,
          `${amount(passed / value.seconds)} a second`,
          `${dropped} dropped`,
        ]),
      ),
    );
  },
});

async function openBoth(
  first: string,
  second: string,
  words: DeviceWords & { readonly burst: bigint },
  context: Context,
  resources: AsyncDisposableStack,
): Promise<readonly [NetDevice, NetDevice]> {
  const { PacketPool } = await import("ring3/net");
  // One pool for both, so that a frame goes from one to the other where it lies: full rings both ways, and the bursts at hand. It
  // is mapped for each device, and of the 8 MiB that a user may lock each mapping takes as much.
  const buffers = 4 * Number(words.ring) + 2 * Number(words.burst);
  let pool: PacketPool | undefined;
  const optionsFor = ({ dma }: PciFunction): NetDeviceOptions => {
    pool ??= resources.adopt(PacketPool.create(dma.arena, { buffers }), (made) => {
      made[Symbol.dispose]();
    });
    return { vlanStripping: false, pool };
  };
  const devices = [
    await openDevice(first, words, context, resources, optionsFor),
    await openDevice(second, words, context, resources, optionsFor),
  ] as const;
  for (const device of devices) await device.setReceiveMode({ promiscuous: true });
  return devices;
}

/** One direction. */
class Way {
  readonly from: NetDevice;
  readonly to: NetDevice;
  readonly name: string;
  passed = 0;
  dropped = 0;
  readonly #packets: Packets;

  constructor(from: NetDevice, to: NetDevice, packets: Packets) {
    this.from = from;
    this.to = to;
    this.name = `to ${to.address}`;
    this.#packets = packets;
  }

  /** Passes one burst; how many frames there were. */
  pass(): number {
    const packets = this.#packets;
    const received = this.from.rxBurst(0, packets);
    if (received === 0) return 0;
    const sent = this.to.txBurst(0, packets, received);
    if (sent < received) {
      this.from.pool.giveAll(packets, received - sent, sent);
      this.dropped += received - sent;
    }
    this.passed += sent;
    return received;
  }
}

async function run(ways: readonly Way[], seconds: number, meter: Meter, signal: AbortSignal): Promise<void> {
  let idle = 0;
  let busy = 0;
  while (!signal.aborted && meter.seconds < seconds) {
    let frames = 0;
    for (const way of ways) frames += way.pass();
    idle = frames === 0 ? idle + 1 : 0;
    if (idle < IDLE_ROUNDS && ++busy < BUSY_ROUNDS) continue;
    idle = 0;
    busy = 0;
    meter.look();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

// ring3 generate: UDP datagrams from a device, as many a second as wanted or as fit.
import { type Command, command } from "../command.ts";
import { FrameTemplate } from "../net/frame-template.ts";
import { amount, Meter } from "../net/meter.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openDevice, parsePeer } from "../net/session.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { columns } from "../text.ts";
import { UsageError } from "../usage-error.ts";

const BURST = 32;
const DISCARD_PORT = 9;

export const generate: Command = command({
  summary: "send UDP datagrams as fast as the device takes them, or at a rate",
  description:
    "Every frame carries a sequence number behind its UDP header. What comes back is counted. Nobody is asked for an Ethernet address: " +
    "give it with --to; by default frames go to everybody on the link.",
  operands: [NETWORK_DEVICE],
  options: {
    to: { kind: "text", value: "MAC", description: "Ethernet address of the receiver (default: ff:ff:ff:ff:ff:ff)" },
    source: { kind: "text", value: "ADDRESS", description: "IPv4 address of the sender (default: 198.18.0.1)" },
    destination: {
      kind: "text",
      value: "ADDRESS[:PORT]",
      description: "of the receiver (default: 198.18.0.2:9, of the range for benchmarks)",
    },
    size: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      minimum: 60n,
      maximum: 1514n,
      initial: 60n,
      description: "bytes of a frame without its check sequence",
    },
    rate: {
      kind: "integer",
      short: "r",
      value: "N",
      minimum: 1n,
      description: "frames a second (default: all that fit)",
    },
    count: { kind: "integer", short: "c", value: "N", minimum: 1n, description: "stop after so many frames" },
    seconds: { kind: "integer", short: "t", value: "S", minimum: 1n, description: "stop after so long" },
    ...SVG_OPTION,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 generate 03:10.0 --to 52:54:00:00:06:00 --seconds 10", text: "all that fit, for ten seconds" },
    {
      command: "ring3 generate 03:10.0 --rate 10K --count 1M --svg rate.svg",
      text: "a million frames at 10,240 a second",
    },
  ],
  run: async ({ operands, options }, context) => {
    const to = macBytes(options.to ?? "ff:ff:ff:ff:ff:ff");
    const source = parsePeer(options.source ?? "198.18.0.1", DISCARD_PORT);
    const destination = parsePeer(options.destination ?? `198.18.0.2:${DISCARD_PORT}`, DISCARD_PORT);
    const size = Number(options.size);
    const count = Number(options.count ?? Number.POSITIVE_INFINITY);
    const seconds = Number(options.seconds ?? Number.POSITIVE_INFINITY);
    const rate = Number(options.rate ?? Number.POSITIVE_INFINITY);
    await using resources = new AsyncDisposableStack();
    const device = await openDevice(operands[0] ?? "", options, context, resources);
    const { Packets, PACKET_WORDS, PacketWord } = await import("ring3/net");
    const template = new FrameTemplate({ to, from: device.mac, source, destination, size });
    using packets = new Packets(device.pool.arena, BURST);
    using returned = new Packets(device.pool.arena, BURST);
    const { pool } = device;
    let sent = 0;
    let received = 0;
    const meter = new Meter(context, () => ({ sent, received }));
    for (let round = 1; !context.signal.aborted && sent < count && meter.seconds < seconds; round++) {
      const due = Math.min(BURST, count - sent, Math.ceil(meter.seconds * rate) - sent);
      const wanted = Number.isFinite(due) ? due : Math.min(BURST, count - sent);
      const ready = wanted > 0 ? pool.takeAll(packets, wanted) : 0;
      for (let i = 0; i < ready; i++) {
        template.write(pool.bytes, packets.words[i * PACKET_WORDS + PacketWord.PLACE] ?? 0, sent + i);
        packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = size;
      }
      const taken = ready > 0 ? device.txBurst(0, packets, ready) : 0;
      if (taken < ready) pool.giveAll(packets, ready - taken, taken);
      sent += taken;
      const back = device.rxBurst(0, returned);
      received += back;
      if (back > 0) pool.giveAll(returned, back);
      if (taken === 0 || round % 64 === 0) {
        if (ready === 0) device.queues[0]?.txPending();
        meter.look();
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    meter.finish();
    // What is still on its way out leaves before the device is stopped.
    for (let left = 1000; left > 0 && (device.queues[0]?.txPending() ?? 0) > 0; left--) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    writeSvg(options.svg, `ring3 generate at ${device.address}, ${size} bytes`, meter, ["sent", "received"]);
    const value = {
      address: device.address,
      sizeBytes: size,
      seconds: meter.seconds,
      sent,
      sentPerSecond: Math.round(sent / Math.max(meter.seconds, 1e-9)),
      received,
      statistics: device.statistics(),
    };
    context.result(value, () =>
      columns([
        [
          "sent",
          `${sent} frames of ${size} bytes in ${value.seconds.toFixed(1)} s, ${amount(value.sentPerSecond)} a second`,
        ],
        ["received", `${received} frames`],
      ]),
    );
  },
});

function macBytes(text: string): Uint8Array {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) {
    throw new UsageError(`--to takes an Ethernet address, as 52:54:00:12:34:56, not "${text}"`);
  }
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

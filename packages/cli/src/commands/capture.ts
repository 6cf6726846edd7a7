// ring3 capture: what a device receives, as a pcapng file for tcpdump and Wireshark.
import { createWriteStream } from "node:fs";
import type { Writable } from "node:stream";
import { finished } from "node:stream/promises";
import {
  LinkType,
  messageOf,
  pcapngInterface,
  pcapngPacketBytes,
  pcapngSection,
  pcapngStatistics,
  putPcapngPacket,
} from "ring3/binary";
import type { NetDevice } from "ring3/net";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { type CaptureFilter, parseCaptureFilter } from "../net/capture-filter.ts";
import { Meter } from "../net/meter.ts";
import { receiveLoop } from "../net/receive-loop.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openDevice } from "../net/session.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { UsageError } from "../usage-error.ts";

/** Bytes that may wait for the reader of the output; what comes while there are more is dropped and counted. */
const WAITING_BYTES = 32 * 1024 * 1024;

export const capture: Command = command({
  summary: "write what a device receives as a pcapng file",
  description:
    "Everything that passes by where the device lets it (--own for its own frames only), with nanoseconds. FILTER is a part of the language " +
    "of pcap-filter(7), for IPv4: ip, arp, ip6, udp, tcp, icmp, igmp, [src|dst] host ADDRESS, [src|dst] net ADDRESS/PREFIX, [udp|tcp] " +
    "[src|dst] port N, ether [src|dst] host MAC, ether proto N, broadcast, multicast, vlan [ID], less N, greater N, joined by and, or, " +
    "not and parentheses. Frames that the reader of the output was too slow for are counted, in the file as well.",
  operands: [
    NETWORK_DEVICE,
    { name: "FILTER", description: "which frames; all by default", variadic: true, optional: true },
  ],
  options: {
    write: { kind: "text", short: "w", value: "FILE", description: "where to; - for stdout (default)" },
    count: { kind: "integer", short: "c", value: "N", minimum: 1n, description: "stop after so many frames" },
    seconds: { kind: "integer", short: "t", value: "S", minimum: 1n, description: "stop after so long" },
    snaplen: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      minimum: 14n,
      maximum: 65_535n,
      initial: 65_535n,
      description: "bytes of each frame that are kept",
    },
    own: { kind: "flag", description: "only frames for this device, and not everything that passes by" },
    ...SVG_OPTION,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 capture 06:00.0 -w - | tcpdump -n -r -", text: "to tcpdump" },
    { command: "ring3 capture 03:10.0 -w echo.pcapng -c 100 udp port 7", text: "a hundred echo datagrams" },
    { command: "ring3 capture 06:00.0 -w day.pcapng -t 60 --svg day.svg", text: "for a minute, with a plot" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", ...words] = operands;
    const filter = parseCaptureFilter(words.join(" "));
    const toStdout = options.write === undefined || options.write === "-";
    if (toStdout && context.json) throw new UsageError("--json and the capture would share stdout: give -w FILE");
    if (toStdout && context.streams.stdout.isTTY === true) {
      throw new UsageError("a capture is no text for a terminal: give -w FILE, or pipe it, as in | tcpdump -r -");
    }
    await using resources = new AsyncDisposableStack();
    const device = await openDevice(address, options, context, resources, () => ({ vlanStripping: false }));
    if (!options.own) await watchAll(device, context);
    const output = toStdout ? context.streams.stdout : createWriteStream(options.write ?? "");
    const limits = {
      count: Number(options.count ?? Number.POSITIVE_INFINITY),
      seconds: Number(options.seconds ?? Number.POSITIVE_INFINITY),
      snapLength: Number(options.snaplen),
    };
    const counts: Counts = { received: 0, captured: 0, dropped: 0 };
    const meter = new Meter(context, () => ({ ...counts }));
    const value = await record(device, filter, limits, output, context, counts, meter);
    meter.finish();
    writeSvg(options.svg, `ring3 capture ${device.address}`, meter, Object.keys(counts));
    if (!toStdout) {
      output.end();
      await finished(output);
    }
    if (toStdout) {
      context.progress.step(summary(value));
      return;
    }
    context.result({ address: device.address, file: options.write, ...value }, () => summary(value));
  },
});

/** Frames so far. */
interface Counts {
  received: number;
  captured: number;
  /** That the reader of the output was too slow for. */
  dropped: number;
}

interface Recorded extends Readonly<Counts> {
  /** Frames that the device had no buffer for. */
  readonly missed: number;
}

function summary({ received, captured, dropped, missed }: Recorded): string {
  return `${captured} frames captured, ${received} received, ${dropped} dropped by us, ${missed} by the device`;
}

async function watchAll(device: NetDevice, context: Context): Promise<void> {
  try {
    await device.setReceiveMode({ promiscuous: true });
  } catch (error) {
    const why = messageOf(error);
    context.progress.step(`only frames for this device are captured: ${why}`);
  }
}

async function record(
  device: NetDevice,
  filter: CaptureFilter,
  limits: { readonly count: number; readonly seconds: number; readonly snapLength: number },
  output: Writable,
  context: Context,
  counts: Counts,
  meter: Meter,
): Promise<Recorded> {
  const { snapLength } = limits;
  const { bytes } = device.pool;
  const { PACKET_WORDS, PacketWord } = await import("ring3/net");
  const failure = new AbortController();
  output.on("error", (error) => failure.abort(error));
  const description = `${device.driver} by ring3`;
  output.write(pcapngSection("ring3 capture"));
  output.write(pcapngInterface({ linkType: LinkType.ETHERNET, name: device.address, description, snapLength }));
  // One look at the wall clock; after it the monotonic one, so that captures never run backwards.
  const epoch = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
  const goesOn = (): boolean => {
    meter.look();
    return counts.captured < limits.count && meter.seconds < limits.seconds && !failure.signal.aborted;
  };
  await receiveLoop(device, context.signal, goesOn, (packets, count) => {
    const now = epoch + process.hrtime.bigint();
    const { words } = packets;
    counts.received += count;
    let size = 0;
    const chosen: number[] = [];
    for (let i = 0; i < count && counts.captured + chosen.length / 2 < limits.count; i++) {
      const place = words[i * PACKET_WORDS + PacketWord.PLACE] ?? 0;
      const length = words[i * PACKET_WORDS + PacketWord.LENGTH] ?? 0;
      if (!filter(bytes, place, length)) continue;
      chosen.push(place, length);
      size += pcapngPacketBytes(Math.min(length, snapLength));
    }
    const frames = chosen.length / 2;
    if (output.writableLength + size > WAITING_BYTES) counts.dropped += frames;
    else if (frames > 0) {
      const blocks = new Uint8Array(size);
      let at = 0;
      for (let i = 0; i < chosen.length; i += 2) {
        const [place = 0, length = 0] = [chosen[i], chosen[i + 1]];
        const kept = Math.min(length, snapLength);
        putPcapngPacket(blocks, at, bytes, place, kept, length, now);
        at += pcapngPacketBytes(kept);
      }
      output.write(blocks);
      counts.captured += frames;
    }
    device.pool.giveAll(packets, count);
  });
  const missed = device.statistics().rx_missed_errors;
  if (failure.signal.aborted && !context.signal.aborted) throw failure.signal.reason;
  if (!failure.signal.aborted)
    output.write(pcapngStatistics(counts.received, counts.dropped + missed, epoch + process.hrtime.bigint()));
  return { ...counts, missed };
}

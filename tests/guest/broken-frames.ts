// Frames that no station may believe, each with the words under which a stack counts it; and a station that throws them.
import { setImmediate as turn } from "node:timers/promises";
import type { NetDevice } from "../../packages/ring3/src/drivers/net/device.ts";
import { PACKET_WORDS, Packets, PacketWord } from "../../packages/ring3/src/drivers/net/packets.ts";
import { arpRequest, checksum, udpFrame } from "./frames.ts";

export interface BrokenFrame {
  /** As `Stack.statistics.malformed` calls it; `too long` where no card may hand it over. */
  readonly reason: string;
  readonly bytes: Uint8Array;
}

const IP = 14;
const UDP = 34;
const PAYLOAD = 99;

/** One of each kind, from 10.9.0.1 to 10.9.0.2. */
export function brokenFrames(to: Uint8Array, from: Uint8Array): BrokenFrame[] {
  const datagram = (reason: string, change: (bytes: Uint8Array) => void, repair = true): BrokenFrame => {
    const bytes = udpFrame({ to, from, payload: PAYLOAD });
    change(bytes);
    if (repair) {
      bytes.fill(0, IP + 10, IP + 12);
      const sum = checksum(bytes.subarray(IP, UDP));
      bytes.set([sum >>> 8, sum & 0xff], IP + 10);
    }
    return { reason, bytes };
  };
  const arp = (reason: string, change: (bytes: Uint8Array) => void, size?: number): BrokenFrame => {
    const bytes = arpRequest(from, [10, 9, 0, 1], [10, 9, 0, 2]);
    bytes.set(to, 0);
    change(bytes);
    return { reason, bytes: bytes.slice(0, size) };
  };
  return [
    datagram("ipv4 version", (bytes) => bytes.fill(0x65, IP, IP + 1)),
    datagram("ipv4 header-length", (bytes) => bytes.fill(0x43, IP, IP + 1)),
    datagram("ipv4 total-length", (bytes) => bytes.fill(0x05, IP + 2, IP + 3)),
    datagram("ipv4 checksum", (bytes) => bytes.fill(0xff, IP + 10, IP + 12), false),
    datagram("ipv4 source", (bytes) => bytes.fill(224, IP + 12, IP + 13)),
    // More to come, and no multiple of eight bytes.
    datagram("ipv4 fragment", (bytes) => bytes.fill(0x20, IP + 6, IP + 7)),
    datagram("udp length", (bytes) => bytes.fill(0x05, UDP + 4, UDP + 5)),
    datagram("udp checksum", (bytes) => bytes.fill(0xee, UDP + 20, UDP + 22)),
    // Shorter than Ethernet's least; who sends or receives it fills it up with zeros.
    arp("arp format", () => undefined, 16),
    arp("arp format", (bytes) => bytes.fill(9, IP + 5, IP + 6)),
    arp("arp operation", (bytes) => bytes.fill(9, IP + 7, IP + 8)),
    arp("arp spoofed", (bytes) => bytes.fill(0xab, IP + 8, IP + 14)),
    { reason: "too long", bytes: udpFrame({ to, from, payload: 2000 }) },
  ];
}

/** What `frames` come to, each thrown `times` times: what a stack must have counted. */
export function brokenCounts(frames: readonly BrokenFrame[], times: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { reason } of frames) if (reason !== "too long") counts[reason] = (counts[reason] ?? 0) + times;
  return counts;
}

/** Sends `frames` `times` times from `device`, one round in each turn of the event loop, beside whatever else goes on. */
export async function throwFrames(device: NetDevice, frames: readonly BrokenFrame[], times: number): Promise<void> {
  using packets = new Packets(device.pool.arena, frames.length);
  for (let round = 0; round < times; round++) {
    let waiting = device.pool.takeAll(packets, frames.length);
    if (waiting < frames.length) throw new Error("the pool has too few buffers");
    for (const [i, { bytes }] of frames.entries()) {
      const at = i * PACKET_WORDS;
      device.pool.bytes.set(bytes, packets.words[at + PacketWord.PLACE]);
      packets.words[at + PacketWord.LENGTH] = bytes.length;
    }
    while (waiting > 0) {
      waiting -= device.txBurst(0, packets, waiting, frames.length - waiting);
      await turn();
    }
  }
}

// What ring3 captures, judged by the real tcpdump: it reads the files, and its filters choose the same frames as ours.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { captured } from "../../packages/cli/src/captured-run.ts";
import { parseCaptureFilter } from "../../packages/cli/src/net/capture-filter.ts";
import {
  LinkType,
  pcapngInterface,
  pcapngPacketBytes,
  pcapngSection,
  pcapngStatistics,
  putPcapngPacket,
} from "../../packages/ring3/src/binary/pcapng.ts";
import { VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import type { NetLink, NetReceiver } from "../../packages/ring3/src/devices/virtio/net-link.ts";
import { serve } from "../../packages/ring3/src/vfio-user/index.ts";
import { PcapngSink } from "../../packages/ring3/src/mediation/trace/pcapng.ts";
import { GuestUnavailable } from "./cache.ts";
import { GROUPS, packageRoot } from "./packages.ts";
import { debianTool } from "./tools.ts";

/** Runs tcpdump on a file; `undefined` where it cannot be fetched. */
async function tcpdump(
  t: TestContext,
): Promise<((words: readonly string[], input?: Uint8Array) => string) | undefined> {
  try {
    const root = await packageRoot(GROUPS.network, (line) => t.diagnostic(line));
    const { program, args } = debianTool(root, "tcpdump");
    // As root it would become a user that this machine may not have.
    const user = process.getuid?.() === 0 ? ["-Z", "root"] : [];
    return (words, input = new Uint8Array(0)) => {
      const all = [...args, ...user, ...words];
      return execFileSync(program, all, { encoding: "utf8", input, stdio: ["pipe", "pipe", "ignore"] });
    };
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    t.skip(`tcpdump cannot be fetched: ${error.message}`);
    return undefined;
  }
}

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-capture-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const zeros = (count: number): number[] => Array.from({ length: count }, () => 0);

/** Frames of many kinds: every combination of what the filters look at. */
function frames(): Uint8Array[] {
  const A = [2, 0, 0, 0, 0, 1];
  const B = [2, 0, 0, 0, 0, 2];
  const all = [255, 255, 255, 255, 255, 255];
  const group = [1, 0, 0x5e, 0, 0, 1];
  const near = [192, 0, 2, 1];
  const far = [192, 0, 2, 77];
  const other = [198, 51, 100, 9];
  const ways = [
    { source: near, destination: far },
    { source: far, destination: near },
    { source: other, destination: near },
  ];
  const found: number[][] = [];
  for (const to of [B, all, group]) {
    for (const tag of [[], [0x81, 0, 0, 5], [0x81, 0, 0x20, 6]]) {
      const head = [...to, ...(to === all ? B : A), ...tag];
      for (const { source, destination } of ways) {
        const ends = [...source, ...destination];
        found.push([...head, ...[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], ...A, ...source, ...B, ...destination]);
        for (const [protocol, ports] of [
          [17, [0, 7, 4, 0]],
          [17, [4, 0, 0, 7]],
          [6, [0, 80, 4, 0]],
          [1, [8, 0, 1, 2]],
          [2, [17, 0, 0, 0]],
        ] as const) {
          for (const options of [[], [1, 1, 1, 1]]) {
            for (const fragment of [0, 0x20, 1]) {
              const size = 20 + options.length + 20;
              const header = [
                0x40 | (5 + options.length / 4),
                0,
                0,
                size,
                0,
                1,
                fragment === 1 ? 0 : fragment,
                fragment === 1 ? 9 : 0,
                64,
                protocol,
                0,
                0,
              ];
              found.push([...head, 8, 0, ...header, ...ends, ...options, ...ports, 0, 20, ...zeros(14)]);
            }
          }
        }
      }
      found.push([...head, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 59, 64, ...zeros(32)]);
      found.push([...head, 8, 0, 0x45]);
    }
  }
  return found.map((bytes) => Uint8Array.from([...bytes, ...zeros(Math.max(0, 60 - bytes.length))]));
}

function capture(list: readonly Uint8Array[]): Uint8Array {
  const cable = { linkType: LinkType.ETHERNET, name: "test", description: "frames by hand", snapLength: 65_535 };
  const parts = [pcapngSection("ring3's tests"), pcapngInterface(cable)];
  for (const [i, frame] of list.entries()) {
    const block = new Uint8Array(pcapngPacketBytes(frame.length));
    putPcapngPacket(block, 0, frame, 0, frame.length, frame.length, 1_700_000_000_123_456_789n + BigInt(i));
    parts.push(block);
  }
  parts.push(pcapngStatistics(list.length, 0, 1_700_000_001_000_000_000n));
  return Buffer.concat(parts);
}

const FILTERS = [
  "",
  "ip",
  "arp",
  "icmp",
  "igmp",
  "tcp port 80",
  "udp port 7",
  "udp src port 7",
  "port 7 or port 80",
  "dst port 7",
  "host 192.0.2.77",
  "src host 192.0.2.77",
  "ip host 192.0.2.1",
  "ip dst host 192.0.2.1",
  "net 192.0.2.0/24",
  "src net 198.51.100.0/24",
  "ether host 02:00:00:00:00:02",
  "ether src 02:00:00:00:00:01",
  "ether dst host ff:ff:ff:ff:ff:ff",
  "ether proto 0x86dd",
  "broadcast",
  "multicast",
  "ether multicast and not broadcast",
  "vlan",
  "vlan 5",
  "vlan 5 and udp port 7",
  "vlan 6 and host 192.0.2.77",
  "not ip and not arp",
  "not (udp port 7 or icmp)",
  "udp port 7 or icmp and host 198.51.100.9",
  "!icmp && greater 61 || arp",
];

test("filters choose what tcpdump's choose", async (t) => {
  const run = await tcpdump(t);
  if (run === undefined) return;
  const file = join(place(t), "frames.pcapng");
  const list = frames();
  writeFileSync(file, capture(list));
  assert.match(run(["-n", "-r", file, "-c", "1", "--time-stamp-precision=nano", "-tt"]), /^1700000000\.123456789 /);
  for (const text of FILTERS) {
    const filter = parseCaptureFilter(text);
    const ours = list.filter((frame) => filter(frame, 0, frame.length)).length;
    const theirs = run(["-n", "-r", file, "--count", ...text.split(" ").filter((word) => word !== "")]);
    assert.equal(`${ours} packet${ours === 1 ? "" : "s"}`, theirs.trim(), text);
    // None of them is trivial.
    if (text !== "") assert.ok(ours > 0 && ours < list.length, text);
  }
});

test("tcpdump reads a trace's capture: its link type, times and lengths", async (t) => {
  const run = await tcpdump(t);
  if (run === undefined) return;
  const parts: Uint8Array[] = [];
  const sink = new PcapngSink({ trace: 1, started: "2026-11-29T00:00:00.000Z" }, (bytes) => void parts.push(bytes));
  for (const [i, reason] of ["one", "another", "the last one"].entries()) {
    sink.write({ t: i + 1, fn: 0, type: "close", reason });
  }
  const file = join(place(t), "trace.pcapng");
  writeFileSync(file, Buffer.concat(parts));
  const text = run(["-n", "-tt", "--time-stamp-precision=nano", "-X", "-r", file]);
  assert.deepEqual(text.match(/^\d+\.\d{9}/gm), [
    "1795910400.000000001",
    "1795910400.000000002",
    "1795910400.000000003",
  ]);
  assert.match(text, /another/);
});

test("ring3 capture -w - | tcpdump -r -", async (t) => {
  const run = await tcpdump(t);
  if (run === undefined) return;
  const directory = place(t);
  const socket = join(directory, "nic.sock");
  let receiver: NetReceiver | undefined;
  const link: NetLink = { up: true, congested: false, send: () => true, attach: (next) => void (receiver = next) };
  using device = new VirtioNet({ link });
  await using _server = await serve(device, socket);
  // The server and its client share this thread: the capture runs in another process.
  const main = join(import.meta.dirname, "../../packages/cli/src/main.ts");
  const words = ["capture", `vfio-user:${socket}`, "-w", "-", "-c", "20", "udp", "port", "7"];
  const child = spawn(process.execPath, [main, ...words], { stdio: ["ignore", "pipe", "ignore"] });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const list = frames();
  const feed = setInterval(() => {
    for (const frame of list) receiver?.receive(frame);
  }, 20);
  const status = await new Promise((resolve) => child.once("close", resolve));
  clearInterval(feed);
  assert.equal(status, 0);
  const file = Buffer.concat(chunks);
  assert.equal(run(["-n", "-r", "-", "--count"], file).trim(), "20 packets");
  assert.match(run(["-n", "-r", "-", "-c", "1"], file), /IP 192\.0\.2\.\d+\.\d+ > 192\.0\.2\.\d+\.\d+: UDP, length/);
  const { status: refused, stderr } = await captured(["capture", `vfio-user:${socket}`], { terminal: true });
  assert.equal(refused, 2);
  assert.match(stderr, /no text for a terminal/);
});

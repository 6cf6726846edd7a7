// The network commands as processes: two cards on one switch, served over vfio-user, an echo service on one of them.
// seconds: 17
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { captured } from "../captured-run.ts";

const main = join(import.meta.dirname, "../main.ts");
const directory = mkdtempSync(join(tmpdir(), "ring3-net-"));
const [a, b, c] = ["a", "b", "c"].map((name) => join(directory, `${name}.sock`)) as [string, string, string];
const children: ChildProcess[] = [];
const DATAGRAMS = Number(process.env["RING3_DATAGRAMS"] ?? 20_000);

/** Starts `ring3 WORDS` and waits until it says that it can be used. */
function started(...words: string[]): ReturnType<typeof startedUntil> {
  return startedUntil(/Ctrl-C/, ...words);
}

async function startedUntil(
  usable: RegExp,
  ...words: string[]
): Promise<{ readonly child: ChildProcess; readonly output: () => string; readonly error: () => string }> {
  const child = spawn(process.execPath, [main, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let output = "";
  let error = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  await new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      error += text;
      if (usable.test(error + output)) resolve();
    });
    child.stdout.on("data", () => usable.test(output) && resolve());
    child.once("exit", () => reject(new Error(`ring3 ${words.join(" ")} ended: ${error}`)));
  });
  return { child, output: () => output, error: () => error };
}

async function stopped({ child }: { readonly child: ChildProcess }): Promise<number | null> {
  child.kill("SIGINT");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode;
}

let served: Awaited<ReturnType<typeof started>>;
let echo: Awaited<ReturnType<typeof started>>;

before(async () => {
  served = await started("serve", "virtio-net", "--socket", a, "--socket", b, "--socket", c);
  echo = await started("udp-echo", `vfio-user:${a}`, "--ip", "192.0.2.1/24", "--json");
});
after(async () => {
  for (const child of children.filter((other) => other !== served.child && other !== echo.child)) child.kill("SIGKILL");
  const statuses = [await stopped(echo), await stopped(served)];
  assert.deepEqual(statuses, [0, 0]);
  const { received, stack } = JSON.parse(echo.output()) as { received: number; stack: { malformed: object } };
  assert.ok(received > 0);
  assert.deepEqual(stack.malformed, {});
  assert.ok(!existsSync(a));
  rmSync(directory, { recursive: true });
});

type Counters = Readonly<Record<string, number>>;

const STATION = [`vfio-user:${b}`, "--ip", "192.0.2.2/24"];

test(`udp-echo: ${DATAGRAMS} datagrams, each byte checked, none lost, with a plot`, async () => {
  const svg = join(directory, "echo.svg");
  const words = [
    "udp-echo",
    ...STATION,
    "--connect",
    "192.0.2.1",
    "-n",
    String(DATAGRAMS),
    "-w",
    "64",
    "--timeout",
    "20000",
  ];
  const { status, stdout, stderr } = await captured([...words, "--svg", svg, "--json"]);
  assert.equal(status, 0, stderr);
  const value = JSON.parse(stdout) as Record<string, number> & { histogram: { count: number }[] };
  const { sent, received, lost, late, corrupt } = value;
  assert.deepEqual(
    { sent, received, lost, late, corrupt },
    { sent: DATAGRAMS, received: DATAGRAMS, lost: 0, late: 0, corrupt: 0 },
  );
  assert.equal(
    value.histogram.reduce((sum, { count }) => sum + count, 0),
    DATAGRAMS,
  );
  assert.match(
    readFileSync(svg, "utf8"),
    /^<svg[\s\S]*a second[\s\S]*latency in microseconds[\s\S]*>p99\.9<[\s\S]*<\/svg>\n$/,
  );
});

test("ping, in fragments too, and who is not there", async () => {
  const { status, stdout } = await captured(["ping", ...STATION, "192.0.2.1", "-c", "3", "-i", "0", "-s", "4000"]);
  assert.equal(status, 0);
  assert.match(stdout, /3 sent, 3 received, 0% lost/);
  const { status: lost, stderr } = await captured([
    "ping",
    ...STATION,
    "192.0.2.9",
    "-c",
    "1",
    "--timeout",
    "10",
    "--json",
  ]);
  assert.equal(lost, 2);
  assert.match(stderr, /192\.0\.2\.9 did not answer/);
});

test("echo-stress: three threads", async () => {
  const { status, stdout, stderr } = await captured([
    "echo-stress",
    ...STATION,
    "192.0.2.1",
    "--threads",
    "3",
    "-n",
    "2000",
    "--timeout",
    "20000",
    "--json",
  ]);
  assert.equal(status, 0, stderr);
  const { sent, received, corrupt, threads, queues } = JSON.parse(stdout) as Record<string, number> & {
    readonly queues: readonly { readonly index: number; readonly tx_packets: number }[];
  };
  assert.deepEqual({ sent, received, corrupt, threads }, { sent: 6000, received: 6000, corrupt: 0, threads: 3 });
  assert.deepEqual(
    queues.map(({ index }) => index),
    [0],
  );
  assert.ok((queues[0]?.tx_packets ?? 0) >= 6000);
});

test("net info and net stats", async () => {
  const info = JSON.parse((await captured(["net", "info", `vfio-user:${b}`, "--json"])).stdout) as Record<
    string,
    unknown
  >;
  assert.deepEqual([info["driver"], info["mtu"]], ["virtio-net", 1500]);
  const { stdout } = await captured(["net", "stats", `vfio-user:${b}`, "-t", "1"]);
  assert.match(stdout, /rx_packets +0\n/);
});

test("net stats, interval by interval, with a plot", async () => {
  const svg = join(directory, "stats.svg");
  const flood = new AbortController();
  const generator = captured(["generate", `vfio-user:${b}`, "--rate", "2000", "--json"], { signal: flood.signal });
  try {
    const words = ["net", "stats", `vfio-user:${c}`, "-p"];
    const { status, stdout, stderr } = await captured([...words, "--svg", svg, "-i", "100", "-c", "12", "--json"]);
    assert.equal(status, 0, stderr);
    const lines = stdout.trimEnd().split("\n");
    const intervals = lines.slice(0, -1).map((line) => JSON.parse(line) as { seconds: number; changed: Counters });
    const { statistics } = JSON.parse(lines.at(-1) ?? "") as { statistics: Counters };
    assert.equal(intervals.length, 12);
    const received = intervals.reduce((sum, { changed }) => sum + (changed["rx_packets"] ?? 0), 0);
    assert.ok(received > 0 && received <= (statistics["rx_packets"] ?? 0));
    const times = intervals.map(({ seconds }) => seconds);
    assert.deepEqual(
      times,
      times.toSorted((x, y) => x - y),
    );
    assert.match(readFileSync(svg, "utf8"), /^<svg[\s\S]*>rx_packets<[\s\S]*bytes a second[\s\S]*>rx_bytes</);

    const text = await captured([...words, "-c", "1"]);
    assert.match(text.stdout, /^[\d.]+ s: .*rx_packets \+\d+, .*\n[\s\S]*rx_packets +\d+\n/);
  } finally {
    flood.abort();
    await generator;
  }
});

test("generate floods, capture writes what its filter passes", async () => {
  const file = join(directory, "flood.pcapng");
  const svg = join(directory, "flood.svg");
  const capture = started(
    "capture",
    `vfio-user:${c}`,
    "-w",
    file,
    "-c",
    "300",
    "--svg",
    svg,
    "udp",
    "dst",
    "port",
    "9",
    "and",
    "broadcast",
  );
  // It says nothing before its end; the generator sends until it has had enough.
  const done = assert.rejects(capture, /300 frames captured|ended/);
  const flood = new AbortController();
  const generator = captured(["generate", `vfio-user:${b}`, "--rate", "2000", "--json"], { signal: flood.signal });
  await done;
  flood.abort();
  const { sent } = JSON.parse((await generator).stdout) as { sent: number };
  assert.ok(sent >= 300);
  // Section header, its magic, and 300 frames of 60 bytes in blocks of 92.
  const bytes = readFileSync(file);
  assert.equal(bytes.readUInt32LE(8), 0x1a2b3c4d);
  let frames = 0;
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) {
    if (bytes.readUInt32LE(at) !== 6) continue;
    assert.equal(bytes.readUInt32LE(at + 20), 60);
    frames++;
  }
  assert.equal(frames, 300);
  assert.match(readFileSync(svg, "utf8"), /^<svg[\s\S]*a second[\s\S]*>captured</);
});

test("forward: what is on one switch reaches the other", async () => {
  const [far, near] = [join(directory, "far.sock"), join(directory, "near.sock")];
  const other = await started("serve", "virtio-net", "--socket", far, "--socket", near);
  const forward = await started("forward", `vfio-user:${near}`, `vfio-user:${c}`, "--json");
  const { status, stderr } = await captured([
    "ping",
    `vfio-user:${far}`,
    "--ip",
    "192.0.2.3/24",
    "192.0.2.1",
    "-c",
    "20",
    "-i",
    "0",
  ]);
  assert.equal(status, 0, stderr);
  assert.equal(await stopped(forward), 0);
  const { ways } = JSON.parse(forward.output()) as { ways: { passed: number; dropped: number }[] };
  assert.ok(ways.every(({ passed, dropped }) => passed >= 5 && dropped === 0));
  assert.equal(await stopped(other), 0);
});

test("whoever echoes ends with an error when its device does", async () => {
  const sockets = ["d", "e", "f"].map((name) => join(directory, `${name}.sock`));
  const server = await started("serve", "virtio-net", ...sockets.flatMap((socket) => ["--socket", socket]));
  const station = (index: number): string[] => [`vfio-user:${sockets[index]}`, "--ip", `192.0.2.${index + 1}/24`];
  const responder = await started("udp-echo", ...station(0));
  const endless = ["-n", "1G", "-w", "8"];
  const users = [
    responder,
    ...(await Promise.all([
      startedUntil(/192\.0\.2\.2/, "udp-echo", ...station(1), "--connect", "192.0.2.1", ...endless),
      startedUntil(/192\.0\.2\.3/, "echo-stress", ...station(2), "192.0.2.1", "--threads", "2", ...endless),
    ])),
  ];
  const ended = users.map(({ child }) => once(child, "exit"));
  server.child.kill("SIGKILL");
  const statuses = (await Promise.all(ended)).map(([status]) => status as number);
  for (const [i, { error }] of users.entries()) {
    assert.equal(statuses[i], 1, error());
    assert.match(error(), /FUNCTION_REMOVED/, error());
    assert.doesNotMatch(error(), /\n\s+at /, "no uncaught exception");
  }
});

test("what cannot be meant", async () => {
  const cases: [string[], RegExp][] = [
    [["udp-echo", `vfio-user:${b}`], /either --ip ADDRESS\/PREFIX or --dhcp/],
    [["ping", ...STATION, "nobody"], /a peer is written like/],
    [["forward", `vfio-user:${b}`, `vfio-user:${b}`], /one device/],
    [["capture", `vfio-user:${b}`, "-w", "/dev/null", "portt", "7"], /"portt" is no primitive/],
    [["generate", `vfio-user:${b}`, "--to", "x"], /takes an Ethernet address/],
    [["echo-stress", ...STATION, "192.0.2.1", "--queues", "2"], /has one queue, so --queues takes 1 at most/],
    [["echo-stress", ...STATION, "192.0.2.1", "--queues", "6"], /--queues 6 takes --threads 5 at least/],
  ];
  for (const [words, message] of cases) {
    const { status, stderr } = await captured(words);
    assert.equal(status, 2, words.join(" "));
    assert.match(stderr, message);
  }
});

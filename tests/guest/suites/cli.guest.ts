// timeout: 600
// The command as uid 1000 without a capability: list, info, NVMe and edu, with real devices behind it.
// kernels: any
// seconds: 120
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { FUNCTIONS } from "../machine.ts";

const RING3 = new URL("../../../packages/cli/src/main.ts", import.meta.url).pathname;
const nvme = FUNCTIONS.nvme.address;
const kernelHasIommufd = process.env["RING3_GUEST"] === "iommufd";

interface Result {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

async function ring3(words: readonly string[], input?: Uint8Array): Promise<Result> {
  const child = spawn(process.execPath, [RING3, ...words], { stdio: ["pipe", "pipe", "pipe"] });
  const stdout: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => stdout.push(data));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => undefined).end(input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout: Buffer.concat(stdout), stderr };
}

async function ok(words: readonly string[], input?: Uint8Array): Promise<Buffer> {
  const { code, stdout, stderr } = await ring3(words, input);
  assert.equal(code, 0, `ring3 ${words.join(" ")}: ${stderr}`);
  return stdout;
}

async function json(...words: string[]): Promise<any> {
  return JSON.parse((await ok([...words, "--json"])).toString());
}

test("ls lists every function of the machine and says which are mine", async () => {
  const { functions } = await json("ls");
  for (const { address, driver } of Object.values(FUNCTIONS)) {
    const found = functions.find((fn: { address: string }) => fn.address === address);
    assert.equal(found?.driver, driver);
    assert.equal(found.access.open, driver === "vfio-pci", `${address}: ${found.access.reason}`);
  }
  const text = (await ok(["ls", "--bound"])).toString();
  assert.match(text, /^0000:01:00\.0 {2}1b36:0010 .* vfio-pci +\d+ +user$/m);
  assert.doesNotMatch(text, /0000:07:00\.0/);
});

test("info shows everything about an open function, over each interface", async () => {
  for (const backend of kernelHasIommufd ? ["group", "iommufd"] : ["group"]) {
    const info = await json("info", nvme, "--backend", backend);
    assert.equal(info.opened, true, info.reason);
    assert.equal(info.identity.backend, `vfio-${backend}`);
    assert.equal(info.bars[0].kind, "memory64");
    assert.ok(info.bars[0].mappable.length > 0);
    assert.ok(info.interrupts.msix > 0);
    assert.ok(info.dma.ranges.length > 0 && info.dma.pageSizes.includes(4096));
    assert.ok(info.resetMethods.includes("flr"));
    assert.ok(info.capabilities.some(({ name }: { name: string }) => name === "MSI-X"));
    assert.equal(info.power, "D0");
  }
  const text = (await ok(["info", FUNCTIONS.edu.address])).toString();
  assert.match(text, /opened +through vfio-/);
  assert.match(text, /BAR 0 +memory32, 1 MiB, mappable 0-fffff/);
});

test("info of the kernel's disk says why it cannot be opened, and is no failure", async () => {
  const info = await json("info", FUNCTIONS.peerNvme.address);
  assert.equal(info.opened, false);
  assert.match(info.reason, /NOT_BOUND.*sudo ring3 bind 0000:07:00\.0/);
  assert.equal(info.host.driver, "nvme");
});

test("nvme identify and smart", async () => {
  const { controller, namespaces, queues } = await json("nvme", "identify", nvme);
  assert.equal(controller.SN, "ring3-nvme0");
  assert.deepEqual(
    namespaces.map(({ id, blockSize, sizeBytes }: Record<string, number>) => [id, blockSize, sizeBytes]),
    [
      [1, 512, 67_108_864],
      [2, 4096, 67_108_864],
    ],
  );
  assert.equal(queues.interrupts, "msix");
  assert.match((await ok(["nvme", "identify", nvme])).toString(), /namespace 2 +64 MiB: 16384 blocks of 4096 bytes/);
  const { health, warnings } = await json("nvme", "smart", nvme);
  assert.deepEqual(warnings, []);
  assert.ok(health.COMPOSITE_TEMPERATURE > 250);
  assert.match((await ok(["nvme", "smart", nvme])).toString(), /temperature +\d+ °C/);
});

test("nvme read gives the disk's bytes, raw, as a dump, in a file and as JSON", async () => {
  const raw = await ok(["nvme", "read", nvme, "--block", "2", "--count", "2"]);
  assert.equal(raw.length, 1024);
  for (let at = 0; at < raw.length; at += 4) assert.equal(raw.readUInt32LE(at), (1024 + at) / 4);
  const dump = (await ok(["nvme", "read", nvme, "--hex"])).toString().split("\n");
  assert.equal(dump[1], "0010: 04 00 00 00 05 00 00 00 06 00 00 00 07 00 00 00");
  // More than one piece.
  const file = "/tmp/ring3-cli-read";
  await ok(["nvme", "read", nvme, "--namespace", "2", "--count", "600", "--output", file]);
  const bytes = readFileSync(file);
  assert.equal(bytes.length, 600 * 4096);
  for (const at of [0, 4096, 1024 * 1024, 600 * 4096 - 4]) assert.equal(bytes.readUInt32LE(at), at / 4);
  const { data } = await json("nvme", "read", nvme, "--block", "1");
  assert.equal(data.slice(0, 16), "8000000081000000");
  const beyond = await ring3(["nvme", "read", nvme, "--block", "131072"]);
  assert.equal(beyond.code, 2);
  assert.match(beyond.stderr, /131072 blocks, 0 to 131071/);
});

test("nvme write needs a yes, writes whole blocks, and they are read back", async () => {
  const refused = await ring3(["nvme", "write", nvme, "--block", "100"], Buffer.alloc(512));
  assert.deepEqual([refused.code, /--yes/.test(refused.stderr)], [2, true]);
  const partial = await ring3(["nvme", "write", nvme, "--block", "100", "--yes"], Buffer.from("hello"));
  assert.deepEqual([partial.code, /--pad/.test(partial.stderr)], [2, true]);
  const image = Buffer.alloc(3 * 1024 * 1024 + 512, 0).map((_, index) => (index * 31 + (index >>> 9)) & 0xff);
  await ok(["nvme", "write", nvme, "--block", "100000", "--yes"], image);
  const back = await ok(["nvme", "read", nvme, "--block", "100000", "--count", String(image.length / 512)]);
  assert.ok(back.equals(image));
  await ok(["nvme", "write", nvme, "--block", "110000", "--pad", "--yes"], Buffer.from("hello"));
  assert.equal((await ok(["nvme", "read", nvme, "--block", "110000"])).subarray(0, 6).toString(), "hello\0");
  assert.match(
    (await ok(["nvme", "flush", nvme, "--namespace", "2"])).toString(),
    /namespace 2 of 0000:01:00\.0 is flushed/,
  );
});

test("nvme bench measures, polled and by interrupts", async () => {
  for (const mode of ["--polled", "--interrupts"]) {
    const result = await json("nvme", "bench", nvme, mode, "--seconds", "1", "--depth", "4");
    assert.equal(result.completion, mode === "--polled" ? "polled" : "interrupt");
    assert.ok(result.operations > 0, `${mode}: ${result.operations}`);
    const { minimum, p50, p99, maximum } = result.latencyUs;
    assert.ok(minimum > 0 && minimum <= p50 && p50 <= p99 && p99 <= maximum);
  }
});

test("Ctrl-C closes the controller in order, and it can be used again at once", async () => {
  const child = spawn(process.execPath, [RING3, "nvme", "bench", nvme, "--seconds", "600"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  // Not a terminal: the first line of progress comes after five seconds and says that it works.
  const working = Promise.withResolvers<void>();
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    if (text.includes("operations a second")) working.resolve();
  });
  const closed = once(child, "close") as Promise<[number | null, string | null]>;
  await Promise.race([working.promise, closed]);
  child.kill("SIGINT");
  const [code, signal] = await closed;
  assert.deepEqual([code, signal], [130, null], stderr);
  assert.match(stderr, /ring3: stopped by SIGINT\n$/);
  assert.equal((await json("nvme", "identify", nvme)).controller.SN, "ring3-nvme0");
});

test("edu is a lesson that comes out right, with each way to learn of completions", async () => {
  for (const completion of ["msi", "intx", "poll"]) {
    const lesson = await json("edu", FUNCTIONS.edu.address, "--factorial", "10", "--completion", completion);
    assert.deepEqual(lesson.version, { major: 1, minor: 0 });
    assert.deepEqual([lesson.completion, lesson.factorial.result], [completion, 3_628_800]);
    assert.deepEqual([lesson.liveness.alive, lesson.dma.identical, lesson.dma.bytes], [true, true, 4096]);
  }
  assert.match((await ok(["edu", FUNCTIONS.edu.address])).toString(), /12! = 479001600/);
  const wrong = await ring3(["edu", nvme]);
  assert.equal(wrong.code, 4);
  assert.match(wrong.stderr, /WRONG_DEVICE/);
});

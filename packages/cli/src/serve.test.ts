// seconds: 8
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { connect } from "../../ring3/src/vfio-user/index.ts";
import { captured } from "./captured-run.ts";

const main = join(import.meta.dirname, "main.ts");

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-serving-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

interface Server {
  readonly child: ChildProcess;
  /** The ready line. */
  readonly ready: string;
  /** Ends it by `signal`; its exit status. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

/** `ring3 serve WORDS` as a process, once it is ready. */
async function serve(t: TestContext, ...words: string[]): Promise<Server> {
  const child = spawn(process.execPath, [main, "serve", ...words], { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit") as Promise<[number | null]>;
  t.after(() => child.kill("SIGKILL"));
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const failed = exited.then(([code]) => assert.fail(`ring3 serve ended with ${code}: ${errors}`));
  const [line] = (await Promise.race([once(child.stdout, "data"), failed])) as [Buffer];
  failed.catch(() => undefined);
  const end = async (signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> => {
    child.kill(signal);
    return (await exited)[0];
  };
  return { child, ready: line.toString(), end };
}

test("an NVMe disk in a file: identify, write, read, and the bytes are in the file", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const [disk, socket, log] = [join(directory, "disk.img"), join(directory, "disk.sock"), join(directory, "log")];
  const address = `vfio-user:${socket}`;
  const server = await serve(
    t,
    ...["nvme", "--file", disk, "--create", "1M", "--socket", socket],
    ...[
      "--memory",
      "2M",
      "--block-size",
      "512",
      "--block-size",
      "4096",
      "--serial",
      "S1",
      "--log",
      log,
      "--mode",
      "0640",
    ],
  );
  assert.match(server.ready, /^serving nvme \[1234:4e56\] 1: .*disk\.img, 1 MiB; 2: memory, 2 MiB, at vfio-user:/);
  assert.equal(statSync(socket).mode & 0o777, 0o640);

  const identified = await captured(["nvme", "identify", address, "--json"]);
  assert.equal(identified.status, 0, identified.stderr);
  const { controller, namespaces } = JSON.parse(identified.stdout) as {
    controller: Record<string, unknown>;
    namespaces: { blockSize: number; blocks: number }[];
  };
  assert.equal(controller["SN"], "S1");
  assert.deepEqual(
    namespaces.map(({ blockSize, blocks }) => [blockSize, blocks]),
    [
      [512, 2048],
      [4096, 512],
    ],
  );

  const bytes = Buffer.alloc(1024, "ring3 ");
  const input = join(directory, "input");
  writeFileSync(input, bytes);
  const written = await captured(["nvme", "write", address, "--block", "3", "--input", input, "--yes"]);
  assert.equal(written.status, 0, written.stderr);
  assert.ok(readFileSync(disk).subarray(1536, 2560).equals(bytes));
  const read = await captured(["nvme", "read", address, "--block", "3", "--count", "2", "--json"]);
  assert.equal((JSON.parse(read.stdout) as { data: string }).data, bytes.toString("hex"));

  const busyFile = await captured(["serve", "nvme", "--file", disk, "--socket", join(directory, "other.sock")]);
  assert.deepEqual([busyFile.status, /FILE_LOCKED/.test(busyFile.stderr)], [5, true]);
  const busySocket = await captured(["serve", "nvme", "--memory", "1M", "--socket", socket]);
  assert.deepEqual([busySocket.status, /SOCKET_IN_USE/.test(busySocket.stderr)], [5, true], busySocket.stderr);

  assert.equal(await server.end(), 0, "a signal is how a server is meant to end");
  assert.equal(existsSync(socket), false);
  assert.equal((await captured(["nvme", "identify", address])).status, 4);
  const events = readFileSync(log, "utf8").trimEnd().split("\n");
  const names = new Set(events.map((line) => (JSON.parse(line) as { event: string }).event));
  for (const name of ["ready", "connected", "mapped", "unmapped", "disconnected", "stopping"]) {
    assert.ok(names.has(name), `${name} is missing in ${[...names].join(", ")}`);
  }
});

test("a socket that a killed server left is taken over; --json says what is served", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const socket = join(directory, "edu.sock");
  const killed = await serve(t, "edu", "--socket", socket);
  await killed.end("SIGKILL");
  assert.equal(existsSync(socket), true);
  const server = await serve(t, "edu", "--socket", socket, "--json");
  const ready = JSON.parse(server.ready) as { event: string; pid: number; functions: { address: string }[] };
  assert.deepEqual([ready.event, ready.pid], ["ready", server.child.pid]);
  const info = await captured(["info", ready.functions[0]?.address ?? "", "--json"]);
  assert.equal(info.status, 0, info.stderr);
  const shown = JSON.parse(info.stdout) as { opened: boolean; host: unknown; bars: { size: number }[] };
  assert.deepEqual([shown.opened, shown.host, shown.bars[0]?.size], [true, null, 1024 * 1024]);
  const lesson = await captured(["edu", `vfio-user:${socket}`, "--factorial", "5", "--completion", "intx", "--json"]);
  assert.equal(lesson.status, 0, lesson.stderr);
  const { factorial, dma } = JSON.parse(lesson.stdout) as {
    factorial: { result: number };
    dma: { identical: boolean };
  };
  assert.deepEqual([factorial.result, dma.identical], [120, true]);
  assert.equal(await server.end("SIGINT"), 0);
});

test("a virtio disk shows itself as one", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const socket = join(directory, "disk.sock");
  const server = await serve(t, "virtio-blk", "--memory", "1M", "--queues", "2", "--socket", socket, "--keep-state");
  assert.match(server.ready, /^serving virtio-blk \[1af4:1042\] memory, 1 MiB, at /);
  const { stdout } = await captured(["info", `vfio-user:${socket}`, "--json"]);
  const { interrupts } = JSON.parse(stdout) as { interrupts: { msix: number } };
  assert.equal(interrupts.msix, 3);
  assert.equal(await server.end(), 0);
});

test("several clients of one user, and a line of those who wait", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const [socket, log] = [join(directory, "edu.sock"), join(directory, "log")];
  const server = await serve(t, "edu", "--socket", socket, "--openings", "2", "--queue", "1", "--log", log);
  const [first, second] = [await connect(socket), await connect(socket)];
  const third = connect(socket, { waitMs: 60_000 });
  while (!readFileSync(log, "utf8").includes('"event":"waiting"')) await setImmediate();
  const { status, stderr } = await captured(["info", `vfio-user:${socket}`]);
  assert.deepEqual([status, /in use by pid \d+ .* 2 clients/.test(stderr)], [5, true], `${status} ${stderr}`);
  await first[Symbol.asyncDispose]();
  await using last = await third;
  assert.deepEqual([second.identity.deviceId, last.identity.deviceId], [0x11e8, 0x11e8]);
  await second[Symbol.asyncDispose]();
  assert.equal(last.config.read32(0), 0x11e8_1234);
  assert.equal(await server.end(), 0);
});

test("who is not allowed is turned away", { timeout: 60_000 }, async (t) => {
  const socket = join(place(t), "edu.sock");
  const server = await serve(t, "edu", "--socket", socket, "--allow-uid", "61000");
  const { status, stderr } = await captured(["edu", `vfio-user:${socket}`]);
  assert.notEqual(status, 0);
  assert.doesNotMatch(stderr, /\n\s+at /);
  assert.equal(await server.end(), 0);
});

test("what ring3 new wrote: the device is served, the driver drives it", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const [device, driver] = [join(directory, "adder"), join(directory, "adder-driver")];
  for (const words of [
    ["new", "device", device],
    ["new", "driver", driver],
  ]) {
    assert.equal((await captured(words)).status, 0);
  }
  const socket = join(directory, "adder.sock");
  const server = await serve(t, join(device, "device.ts"), "--socket", socket);
  assert.match(server.ready, /\[1234:5a5a\] adder, at /);
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(driver, "main.ts"),
    `vfio-user:${socket}`,
    "abc",
  ]);
  assert.equal(stdout, 'the bytes of "abc" add up to 294\n');
  assert.equal(await server.end(), 0);
});

const KEEPER = `
import { VirtualFunction } from "ring3/virtual";
export class device extends VirtualFunction {
  #kept = 0;
  constructor({ start = "1" }) {
    super({ name: "keeper", vendorId: 0x1234, deviceId: 2, classCode: 0xff0000, bars: { 0: { size: 4096 } } });
    this.#kept = Number(start);
  }
  read32() { return this.#kept; }
  write32(bar, offset, value) { this.#kept = value; }
  saveDevice() { return { kept: this.#kept }; }
  restoreDevice({ kept }) { this.#kept = kept; }
}
`;

test("--state: what a client left is there after kill -9", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const [file, socket, state] = ["keeper.mjs", "keeper.sock", "state"].map((name) => join(directory, name));
  writeFileSync(file ?? "", KEEPER);
  const words = [file ?? "", "--socket", socket ?? "", "--state", state ?? "", "--set", "start=5"];
  const { connect } = await import("ring3/vfio-user");
  const first = await serve(t, ...words);
  {
    await using fn = await connect(socket ?? "");
    assert.equal(fn.bar(0).read32(0), 5);
    fn.bar(0).write32(0, 77);
    assert.equal(fn.bar(0).read32(0), 77);
    await first.end("SIGKILL");
  }
  const second = await serve(t, ...words);
  {
    await using fn = await connect(socket ?? "");
    assert.equal(fn.bar(0).read32(0), 77);
  }
  assert.equal(await second.end(), 0);
});

test("two cards on one switch, each with a socket of its own", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const sockets = ["a", "b"].map((name) => join(directory, `${name}.sock`));
  const server = await serve(t, "virtio-net", ...sockets.flatMap((path) => ["--socket", path]), "--queues", "2");
  assert.match(server.ready, /^serving virtio-net \[1af4:1041\] on a switch with 2 devices, at .*a\.sock, .*b\.sock;/);
  for (const path of sockets) assert.equal((await captured(["info", `vfio-user:${path}`])).status, 0);
  assert.equal(await server.end(), 0);
  assert.deepEqual(sockets.filter(existsSync), []);
});

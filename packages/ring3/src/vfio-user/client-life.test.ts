// How a served function ends, comes back and moves, and what drivers and workers see of that.
// seconds: 8
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { on, once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { Worker } from "node:worker_threads";
import { rejectsCode, throwsCode } from "../../../../tests/contract/fixture.ts";
import { ServedFunction } from "../../../../tests/contract/served-function.ts";
import { SAMPLE_CONSTANT, Sample } from "../../../../tests/fakes/sample-device.ts";
import { EduDriver } from "../drivers/edu/index.ts";
import { NvmeDriver } from "../drivers/nvme/index.ts";
import { open } from "../index.ts";
import { openFilesCount } from "../linux/limits.ts";
import type { FunctionEventName, PciFunction } from "../pci/function.ts";
import { connect } from "./client.ts";
import type { VfioUserFunction } from "./client-function.ts";

const sample = new URL("../../../../tests/fakes/sample-device.ts", import.meta.url);
const nvme = new URL("../devices/nvme/index.ts", import.meta.url);
const edu = new URL("../devices/edu/index.ts", import.meta.url);
const newSample = "new device.SampleDevice()";
const patienceMs = 20_000;

/** A folder with room for sockets and state. */
function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ring3-life-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function event(fn: PciFunction, name: FunctionEventName): Promise<unknown> {
  return new Promise((resolve) => fn.events.on(name, resolve));
}

function copy(fn: VfioUserFunction, source: number, target: number, size: number): number {
  const bar = fn.bar(0);
  bar.write64(Sample.SOURCE, BigInt(source));
  bar.write64(Sample.TARGET, BigInt(target));
  bar.write32(Sample.SIZE, size);
  bar.write32(Sample.COPY, 1);
  return bar.read32(Sample.COPY);
}

describe("opening", () => {
  test("by its address, which the identity repeats", async () => {
    await using served = await ServedFunction.start({ module: sample, create: newSample });
    await using fn = await open(`vfio-user:${served.path}`);
    assert.equal(fn.identity.address, `vfio-user:${served.path}`);
    assert.equal(fn.identity.backend, "vfio-user");
    await rejectsCode(open(`vfio-user:${served.path}`), "SERVER_REFUSED");
    await rejectsCode(open("vfio-user:/nonexistent/socket"), "SYSTEM_CALL");
    await rejectsCode(open("vfio-user:"), "PATH_INVALID");
  });

  test("again and again, nothing is left over", async () => {
    await using served = await ServedFunction.start({ module: sample, create: newSample });
    const use = async (): Promise<void> => {
      await using fn = await connect(served.path);
      const [first] = fn.interrupts.msix(8);
      fn.bar(0).registers().write32(Sample.MEMORY, 1);
      using range = fn.dma.arena.reserve(8192);
      fn.dma.map(range);
      for (let i = 0; i < 20; i++) fn.dma.allocate(4096 * (1 + 100 * (i % 4)));
      first?.trigger();
      await first?.next();
    };
    await use();
    const before = openFilesCount();
    for (let i = 0; i < 20; i++) await use();
    assert.equal(openFilesCount(), before);
  });
});

describe("writes", () => {
  const counting = "onTold(() => say(JSON.stringify(server.statistics.messages)));";
  const plain = 'new device.SampleDevice({ bars: { 0: { size: 0x4000, kind: "memory64" } } })';

  test("are posted and stay in order, and gather while the server does not read", async () => {
    await using served = await ServedFunction.start({ own: true, module: sample, create: plain, afterwards: counting });
    await using fn = await connect(served.path);
    const bar = fn.bar(0);
    await served.kill("SIGSTOP");
    // Writing goes on longer than the server sleeps, and the socket's buffer is full long before.
    spawn("sh", ["-c", `sleep 0.3; kill -CONT ${served.pid}`]);
    for (let i = 0; i < 3000; i++) bar.write32(Sample.SCRATCH, i);
    assert.equal(bar.read32(Sample.SCRATCH), 2999);
    bar.write64(Sample.SOURCE, 0x1_2345_6789n);
    for (let i = 0; i < 5; i++) bar.write32(Sample.SCRATCH, i);
    assert.equal(bar.read32(Sample.SCRATCH), 4);
    served.tell("count");
    const counts = JSON.parse(await served.line()) as Record<string, number>;
    assert.ok((counts["REGION_WRITE_MULTI"] ?? 0) > 0, JSON.stringify(counts));
    assert.ok((counts["REGION_WRITE"] ?? 0) > 50, JSON.stringify(counts));
  });

  test("to registers that the server offers eventfds for cross no socket", async () => {
    const doorbell = "{ offset: 4, size: 4, match: 7n }";
    const create = `new device.SampleDevice({ bars: { 0: { size: 0x4000, kind: "memory64", ioEventFds: [${doorbell}] } } })`;
    await using served = await ServedFunction.start({ module: sample, create, afterwards: counting });
    await using fn = await connect(served.path);
    const bar = fn.bar(0);
    const writes = async (): Promise<number> => {
      served.tell("count");
      return (JSON.parse(await served.line()) as Record<string, number>)["REGION_WRITE"] ?? 0;
    };
    const before = await writes();
    bar.write32(Sample.SCRATCH, 7);
    while (bar.read32(Sample.SCRATCH) !== 7) assert.ok(!fn.gone.aborted);
    assert.equal(await writes(), before);
    bar.write32(Sample.SCRATCH, 8);
    assert.equal(bar.read32(Sample.SCRATCH), 8);
    assert.equal(await writes(), before + 1);
  });
});

describe("when the server goes away", () => {
  test("the function is removed: pending waits, registers and the event say so", async () => {
    await using served = await ServedFunction.start({ own: true, module: sample, create: newSample });
    await using fn = await connect(served.path);
    const window = fn.bar(0).map({ offset: Sample.MEMORY, size: 4096 });
    const memory = fn.dma.allocate(4096);
    const [interrupt] = fn.interrupts.msix(1);
    const waiting = rejectsCode(interrupt?.next() ?? Promise.resolve(), "FUNCTION_REMOVED");
    const removed = event(fn, "removed");
    await served.kill();
    await removed;
    await waiting;
    assert.equal(fn.gone.aborted, true);
    throwsCode(() => fn.bar(0).read32(0), "FUNCTION_REMOVED");
    throwsCode(() => fn.config.read16(0), "FUNCTION_REMOVED");
    throwsCode(() => window.read32(0), "REGION_REVOKED");
    throwsCode(() => memory.bytes, "DMA_UNMAPPED");
    await rejectsCode(fn.reset(), "FUNCTION_REMOVED");
  });

  test("a register that finds out first says so too", async () => {
    await using served = await ServedFunction.start({ own: true, module: sample, create: newSample });
    await using fn = await connect(served.path);
    const removed = event(fn, "removed");
    await served.kill("SIGSTOP");
    throwsCode(() => {
      process.kill(served.pid, "SIGKILL");
      for (;;) fn.bar(0).read32(0);
    }, "FUNCTION_REMOVED");
    await removed;
  });

  test("one that is stuck gives a time-out, and the late reply harms nobody", async () => {
    await using served = await ServedFunction.start({ own: true, module: sample, create: newSample });
    await using fn = await connect(served.path, { timeoutMs: 800 });
    await served.kill("SIGSTOP");
    throwsCode(() => fn.bar(0).read32(Sample.CONSTANT), "SERVER_TIMEOUT");
    await served.kill("SIGCONT");
    for (;;) {
      try {
        assert.equal(fn.bar(0).read32(Sample.CONSTANT), SAMPLE_CONSTANT);
        break;
      } catch (error) {
        throwsCode(() => {
          throw error;
        }, "SERVER_TIMEOUT");
      }
    }
  });
});

describe("a server that wants the function back, or reports an error", () => {
  test("is heard", async () => {
    const afterwards =
      'server.on(({ type }) => { if (type === "connected") setInterval(() => fn.requestRemoval(), 20); });';
    await using served = await ServedFunction.start({ module: sample, create: newSample, afterwards });
    await using fn = await connect(served.path, { removalGraceMs: 30 });
    const removed = event(fn, "removed");
    assert.deepEqual(await event(fn, "removal-requested"), { type: "removal-requested", graceMs: 30 });
    await removed;
    throwsCode(() => fn.config.read16(0), "FUNCTION_REMOVED");
  });
});

describe("a connection that is made again", () => {
  test("finds maps, interrupts and config space where the driver had them", async (t) => {
    const path = join(folder(t), "fn.sock");
    const served = await ServedFunction.start({ module: sample, create: newSample, path });
    await using fn = await connect(path, { reconnect: { timeoutMs: patienceMs } });
    const source = fn.dma.allocate(4096);
    const target = fn.dma.allocate(2 ** 21);
    source.bytes.fill(0x6b);
    const registers = fn.bar(0).registers();
    registers.write32(Sample.MEMORY + 8, 77);
    const [, interrupt] = fn.interrupts.msix(2);
    assert.ok(interrupt !== undefined);
    fn.busMaster = true;
    fn.config.write32(0x10, 0xfe00_0004);
    const recovered = event(fn, "recovered");
    await served[Symbol.asyncDispose]();
    await using _ = await ServedFunction.start({ module: sample, create: newSample, path });
    // A register that is touched before the event loop looks waits for the connection.
    assert.equal(fn.bar(0).read32(Sample.CONSTANT), SAMPLE_CONSTANT);
    await recovered;
    assert.ok((await interrupt.next({ timeoutMs: patienceMs })) >= 1, "everybody looks once");
    assert.equal(fn.busMaster, true);
    assert.equal(fn.config.read32(0x10), 0xfe00_0004);
    assert.equal(copy(fn, source.iova, target.iova + 4096, 4096), 0);
    assert.ok(target.bytes.subarray(4096, 8192).every((byte) => byte === 0x6b));
    fn.bar(0).write32(Sample.RAISE, 1);
    await interrupt.next({ timeoutMs: patienceMs });
    // The new server's memory is what the window shows.
    registers.write32(Sample.MEMORY + 8, 78);
    assert.equal(fn.bar(0).read32(Sample.MEMORY + 8), 78);
    await fn[Symbol.asyncDispose]();
  });

  test("goes on with the state that the server kept", async (t) => {
    const place = folder(t);
    const path = join(place, "fn.sock");
    const options = { state: join(place, "state") };
    const served = await ServedFunction.start({ own: true, module: sample, create: newSample, path, options });
    await using fn = await connect(path, { reconnect: { timeoutMs: patienceMs } });
    fn.bar(0).write32(Sample.SCRATCH, 0xabcd);
    const registers = fn.bar(0).registers();
    registers.write32(Sample.MEMORY, 5);
    fn.busMaster = true;
    const recovered = event(fn, "recovered");
    await served.kill();
    // Written to memory whose server is dead: it is not lost.
    registers.write32(Sample.MEMORY, 6);
    await using _ = await ServedFunction.start({ module: sample, create: newSample, path, options });
    const { description } = (await recovered) as { description: string };
    assert.match(description, /kept/);
    assert.equal(fn.bar(0).read32(Sample.SCRATCH), 0xabcd);
    assert.equal(fn.bar(0).read32(Sample.MEMORY), 6);
    await fn[Symbol.asyncDispose]();
  });

  test("is given up in time, and where something else is served", async (t) => {
    const path = join(folder(t), "fn.sock");
    const served = await ServedFunction.start({ module: sample, create: newSample, path });
    const first = await connect(path, { reconnect: { timeoutMs: 100 } });
    const removed = event(first, "removed");
    await served[Symbol.asyncDispose]();
    await removed;
    await using again = await ServedFunction.start({ module: sample, create: newSample, path });
    const second = await connect(path, { reconnect: { timeoutMs: patienceMs } });
    const changed = event(second, "removed");
    await again[Symbol.asyncDispose]();
    await using _ = await ServedFunction.start({ module: edu, create: "new device.EduDevice()", path });
    await changed;
    throwsCode(() => second.config.read16(0), "FUNCTION_REMOVED");
  });
});

describe("a function that moves", () => {
  test("to another server, with memory, registers and interrupts", async () => {
    await using first = await ServedFunction.start({ own: true, module: sample, create: newSample });
    await using second = await ServedFunction.start({ module: sample, create: newSample });
    await using fn = await connect(first.path);
    assert.deepEqual(fn.migration.support()?.stopCopy, true);
    assert.equal(fn.migration.state, "running");
    const source = fn.dma.allocate(4096);
    const target = fn.dma.allocate(8192);
    source.bytes.fill(0x17);
    fn.busMaster = true;
    const registers = fn.bar(0).registers();
    registers.write32(Sample.MEMORY + 16, 4711);
    fn.bar(0).write32(Sample.SCRATCH, 99);
    const [interrupt] = fn.interrupts.msix(1);
    fn.migration.startDmaLog([], 4096);
    assert.equal(copy(fn, source.iova, target.iova + 4096, 100), 0);
    const log = fn.migration.readDmaLog({ iova: target.iova, size: 8192 });
    assert.equal((log[0] ?? 0) & 3, 2, "the second page was written, the first was not");
    fn.migration.stopDmaLog();
    fn.moveTo(second.path);
    assert.equal(fn.path, second.path);
    await first.kill();
    assert.equal(fn.migration.state, "running");
    assert.equal(fn.bar(0).read32(Sample.SCRATCH), 99);
    assert.equal(fn.busMaster, true);
    assert.equal(registers.read32(Sample.MEMORY + 16), 4711);
    registers.write32(Sample.MEMORY + 16, 4712);
    assert.equal(fn.bar(0).read32(Sample.MEMORY + 16), 4712);
    assert.equal(copy(fn, source.iova, target.iova, 4096), 0);
    assert.ok(target.bytes.subarray(0, 4096).every((byte) => byte === 0x17));
    fn.bar(0).write32(Sample.RAISE, 0);
    await interrupt?.next({ timeoutMs: patienceMs });
  });

  test("stays where it is when the other server does not take it", async () => {
    await using first = await ServedFunction.start({ module: sample, create: newSample });
    await using other = await ServedFunction.start({ module: edu, create: "new device.EduDevice()" });
    await using fn = await connect(first.path);
    fn.bar(0).write32(Sample.SCRATCH, 3);
    throwsCode(() => fn.moveTo(other.path), "DEVICE_CHANGED", "SERVER_REFUSED");
    throwsCode(() => fn.moveTo("/nonexistent"), "SYSTEM_CALL");
    assert.equal(fn.migration.state, "running");
    assert.equal(fn.bar(0).read32(Sample.SCRATCH), 3);
  });
});

describe("drivers", () => {
  test("edu over a socket", async () => {
    await using served = await ServedFunction.start({ module: edu, create: "new device.EduDevice()" });
    await using fn = await open(`vfio-user:${served.path}`);
    await using driver = await EduDriver.start(fn);
    assert.equal(await driver.factorial(10), 3_628_800);
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i & 0xff);
    await driver.store(100, bytes);
    assert.deepEqual(await driver.load(100, 1000), bytes);
  });

  for (const mappable of [false, true]) {
    test(`NVMe over a socket, doorbells ${mappable ? "mapped" : "by message"}`, async () => {
      const create = `new device.NvmeDevice({ namespaces: [{ backing: device.memoryBacking(2 ** 20) }], mappableDoorbells: ${mappable} })`;
      await using served = await ServedFunction.start({ module: nvme, create });
      await using fn = await open(`vfio-user:${served.path}`);
      await using driver = await NvmeDriver.start(fn);
      const disk = driver.namespace(1);
      const written = Array.from({ length: 20 }, (_, i) => new Uint8Array(4096).fill(i + 1));
      await Promise.all(written.map((bytes, i) => disk.write(BigInt(i * 8), bytes)));
      for (const [i, bytes] of written.entries()) assert.deepEqual(await disk.read(BigInt(i * 8), 8), bytes);
    });
  }

  /** An NVMe disk in a file, for one server after the other or, as in a migration, for two that know of each other. */
  function diskIn(place: string): { readonly module: URL; readonly create: string } {
    const file = join(place, "disk");
    writeFileSync(file, new Uint8Array(2 ** 20));
    const backing = `{
      sizeBytes: ${2 ** 20},
      read(offset, target) { fs.readSync(file, target, 0, target.length, offset); },
      write(offset, source) { fs.writeSync(file, source, 0, source.length, offset); },
      flush() { fs.fdatasyncSync(file); },
    }`;
    const prelude = `const fs = await import("node:fs"); const file = fs.openSync(${JSON.stringify(file)}, "r+");`;
    const create = `await (async () => { ${prelude} return new device.NvmeDevice({ namespaces: [{ backing: ${backing} }], serialNumber: "ONE" }); })()`;
    return { module: nvme, create };
  }

  const blockOf = (i: number): Uint8Array => new Uint8Array(512).fill(i + 1);

  test("NVMe at work while its function moves loses nothing", async (t) => {
    const disk = diskIn(folder(t));
    await using first = await ServedFunction.start({ ...disk, own: true });
    await using second = await ServedFunction.start(disk);
    await using fn = await connect(first.path);
    await using driver = await NvmeDriver.start(fn);
    const namespace = driver.namespace(1);
    const writes = Array.from({ length: 100 }, (_, i) => namespace.write(BigInt(i), blockOf(i)));
    fn.moveTo(second.path);
    await Promise.all(writes);
    await first.kill();
    for (let i = 0; i < 100; i++) assert.deepEqual(await namespace.read(BigInt(i), 1), blockOf(i));
  });

  test("NVMe at work while its server is killed and started again loses nothing", async (t) => {
    const place = folder(t);
    const path = join(place, "fn.sock");
    const disk = { ...diskIn(place), path, options: { state: join(place, "state") } };
    const first = await ServedFunction.start({ ...disk, own: true });
    await using fn = await connect(path, { reconnect: { timeoutMs: patienceMs } });
    await using driver = await NvmeDriver.start(fn);
    const namespace = driver.namespace(1);
    const writes = Array.from({ length: 800 }, (_, i) => namespace.write(BigInt(i), blockOf(i)));
    await writes[0];
    await first.kill();
    await using _ = await ServedFunction.start(disk);
    await Promise.all(writes);
    for (let i = 0; i < 800; i += 7) assert.deepEqual(await namespace.read(BigInt(i), 1), blockOf(i));
    // Before its server, which comes first in the order of disposal.
    await driver[Symbol.asyncDispose]();
    await fn[Symbol.asyncDispose]();
  });
});

test("a worker shares memory, mapped registers and a vector, and is told of the end", async () => {
  await using served = await ServedFunction.start({ module: sample, create: newSample });
  await using fn = await connect(served.path);
  const registers = fn.bar(0).registers({ offset: Sample.MEMORY, size: 4096 });
  registers.write32(8, 0x4321);
  const buffer = fn.dma.allocate(4096);
  buffer.words[0] = 41;
  fn.interrupts.msix(2);
  fn.busMaster = true;
  const handle = fn.handle([1]);
  const worker = new Worker(new URL("../../../../tests/contract/attach-worker.ts", import.meta.url), {
    workerData: { handle, iova: buffer.iova },
  });
  // A message that comes while something else is awaited waits as well.
  const messages = on(worker, "message");
  const next = async (): Promise<unknown> => ((await messages.next()).value as unknown[])[0];
  const exited = once(worker, "exit");
  const told = (await next()) as { register: number; arenaOffset: number };
  assert.equal(buffer.words[1], 42);
  assert.equal(told.register, 0x4321);
  fn.bar(0).write32(Sample.RAISE, 1);
  assert.deepEqual(await next(), { count: 1 });
  await fn[Symbol.asyncDispose]();
  assert.deepEqual(await next(), { ending: "FUNCTION_CLOSED", late: "REGION_REVOKED" });
  await exited;
});

// The NVMe driver when things happen to it: killed, reset, unplugged, threads that come and go, and running for long.
// timeout: 600
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { asRoot, awaitFunction, bind, qmp } from "../inside.ts";
import { FUNCTIONS, HOTPLUG } from "../machine.ts";

const { address } = FUNCTIONS.nvme;

test("killed in mid-I/O, and opened again at once", async () => {
  for (let round = 0; round < 2; round++) {
    const child = spawn(process.execPath, [new URL("./nvme-child.ts", import.meta.url).pathname, address], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [text] = (await once(child.stdout, "data")) as [Buffer];
    assert.equal(String(text), "running\n");
    child.kill("SIGKILL");
    await once(child, "exit");
    await using fn = await open(address);
    await using nvme = await NvmeDriver.start(fn);
    assert.deepEqual((await nvme.namespace(2).read(0, 1)).subarray(0, 8), Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0));
    assert.ok((await nvme.namespace(1).read(30_000, 8)).every((byte) => byte === 0));
  }
});

test("function resets with 64 commands in flight: nothing is lost, nothing is wrong", async () => {
  await using fn = await open(address);
  await using nvme = await NvmeDriver.start(fn, { ioQueues: 2 });
  const recovered: string[] = [];
  nvme.events.on("recovered", ({ reason }) => recovered.push(reason));
  let stop = false;
  let operations = 0;
  const worker = async (index: number): Promise<void> => {
    const namespace = nvme.namespace(1 + (index % 2));
    for (let round = 0; !stop; round++) {
      const data = new Uint8Array(namespace.blockSize).fill(index + round);
      await namespace.write(12_000 + index, data);
      assert.deepEqual(await namespace.read(12_000 + index, 1), data);
      operations++;
    }
  };
  const work = Promise.all(Array.from({ length: 64 }, (_, index) => worker(index)));
  for (let round = 0; round < 3; round++) {
    const before = operations;
    while (operations < before + 100) await new Promise((resolve) => setTimeout(resolve, 5));
    if (round === 1) await fn.reset();
    else await nvme.reset();
  }
  const before = operations;
  while (operations < before + 100) await new Promise((resolve) => setTimeout(resolve, 5));
  stop = true;
  await work;
  assert.ok(recovered.length >= 3, recovered.join("; "));
});

test("unplugged in mid-I/O: what is pending rejects, nothing hangs, the function goes", async () => {
  const [{ port, address: place }] = HOTPLUG;
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  const second = 10 ** 9;
  const disk = { driver: "null-co", "node-name": "slow", size: 2 ** 26, "latency-ns": second, "read-zeroes": true };
  await qmp("blockdev-add", disk);
  await qmp("device_add", { driver: "nvme", id: "hot", serial: "hot", bus: port, drive: "slow" });
  await awaitFunction(place, true);
  await bind(place, "vfio-pci");
  const fn = await open(place);
  const nvme = await NvmeDriver.start(fn);
  let done = 0;
  const codes = new Set<string>();
  const worker = async (index: number): Promise<void> => {
    try {
      for (;;) {
        await nvme.namespace(1).read(index, 1);
        done++;
      }
    } catch (error) {
      codes.add((error as { code: string }).code);
    }
  };
  const work = Promise.all(Array.from({ length: 40 }, (_, index) => worker(index)));
  while (done < 40) await new Promise((resolve) => setTimeout(resolve, 20));
  const removed = new Promise<{ code: string }>((resolve) => void nvme.events.on("removed", resolve));
  await qmp("device_del", { id: "hot" });
  await work;
  assert.deepEqual([...codes], ["FUNCTION_REMOVED"]);
  assert.equal((await removed).code, "FUNCTION_REMOVED");
  await assert.rejects(nvme.namespace(1).read(0, 1), { code: "FUNCTION_REMOVED" });
  await nvme[Symbol.asyncDispose]();
  await awaitFunction(place, false);
  await fn[Symbol.asyncDispose]();
  // QEMU lets the device go a little later than the guest does.
  const deleted = (): Promise<boolean> =>
    qmp("blockdev-del", { "node-name": "slow" }).then(
      () => true,
      () => false,
    );
  while (!(await deleted())) await new Promise((resolve) => setTimeout(resolve, 100));
});

test("queues in worker threads, beside the main thread's, one owner at a time", async () => {
  await using fn = await open(address);
  await using nvme = await NvmeDriver.start(fn);
  for (let generation = 0; generation < 2; generation++) {
    const workers = [];
    for (let seed = 0; seed < 3; seed++) {
      const queue = await nvme.openWorkerQueue({ payloadBytes: 2 ** 20 });
      const script = new URL("./nvme-worker.ts", import.meta.url);
      const worker = new Worker(script, { workerData: { handle: queue.handle(), seed, rounds: 5 } });
      const ended = once(worker, "exit");
      workers.push({ queue, message: once(worker, "message"), ended });
    }
    const own = Array.from({ length: 50 }, (_, i) => nvme.namespace(1).read(i, 8));
    for (const { message } of workers) assert.deepEqual(await message, ["done"]);
    await Promise.all(own);
    for (const { ended, queue } of workers) {
      assert.deepEqual(await ended, [0]);
      await queue[Symbol.asyncDispose]();
    }
  }
});

test("memory does not grow with the number of operations", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  await using fn = await open(address);
  await using nvme = await NvmeDriver.start(fn, { completion: "polled" });
  const namespace = nvme.namespace(1);
  using buffer = nvme.allocate(32 * 4096);
  const run = async (operations: number): Promise<void> => {
    let left = operations;
    const worker = async (index: number): Promise<void> => {
      while (left-- > 0) await namespace.readInto(buffer, (left * 8) % 100_000, 8, index * 4096);
    };
    await Promise.all(Array.from({ length: 32 }, (_, index) => worker(index)));
    collect();
  };
  await run(10_000);
  const { heapUsed, rss } = process.memoryUsage();
  await run(40_000);
  const after = process.memoryUsage();
  assert.ok(after.heapUsed - heapUsed < 2 ** 20, `heap grew by ${after.heapUsed - heapUsed}`);
  assert.ok(after.rss - rss < 8 * 2 ** 20, `resident memory grew by ${after.rss - rss}`);
});

test("random reads a second, for the record", async (t) => {
  await using fn = await open(address);
  for (const completion of ["polled", "adaptive", "interrupt"] as const) {
    await using nvme = await NvmeDriver.start(fn, { completion });
    const namespace = nvme.namespace(1);
    using buffer = nvme.allocate(128 * 4096);
    // The first second goes to compiling.
    for (const depth of [8, 1, 32]) {
      const rate = await measure(depth, (block, slot) => namespace.readInto(buffer, block * 8, 8, slot * 4096));
      t.diagnostic(`${completion}, depth ${depth}: ${rate} reads of 4 KiB a second`);
    }
  }
});

/** Keeps `depth` operations in flight for two seconds; operations a second. */
async function measure(depth: number, operation: (block: number, slot: number) => Promise<void>): Promise<number> {
  let seed = 1;
  let done = 0;
  const start = performance.now();
  const worker = async (slot: number): Promise<void> => {
    while (performance.now() - start < 2000) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      await operation((seed >>> 8) % 16_384, slot);
      done++;
    }
  };
  await Promise.all(Array.from({ length: depth }, (_, slot) => worker(slot)));
  return Math.round((done * 1000) / (performance.now() - start));
}

// Queues in worker threads: the device is served by this thread, the queue is driven by the other.
// seconds: 2
import assert from "node:assert/strict";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { Worker } from "node:worker_threads";
import { FakeNvme } from "../../../../../tests/fakes/fake-nvme.ts";
import { attachQueue, NvmeDriver, type NvmeOptions, REAPED_WORDS, type WorkerQueueHandle } from "./index.ts";
import { ControlWord, QueueState } from "./queue-control.ts";

const WORKER = new URL("../../../../../tests/fakes/nvme-worker.ts", import.meta.url);

async function started(t: TestContext, options: NvmeOptions = {}): Promise<{ nvme: NvmeDriver; device: FakeNvme }> {
  const device = new FakeNvme({ mappedDoorbells: true });
  const nvme = await NvmeDriver.start(device.fn, { shutdownTimeoutMs: 50, ...options });
  t.after(async () => {
    await nvme[Symbol.asyncDispose]();
    await device.fn[Symbol.asyncDispose]();
  });
  return { nvme, device };
}

function run(
  handle: WorkerQueueHandle,
  task: string,
): { messages: Promise<unknown>; worker: Worker; ended: Promise<unknown> } {
  const worker = new Worker(WORKER, { workerData: { handle, task } });
  return {
    worker,
    messages: once(worker, "message").then(([message]) => message as unknown),
    ended: once(worker, "exit"),
  };
}

test("two workers and this thread share a controller", async (t) => {
  const { nvme, device } = await started(t);
  const queues = [await nvme.openWorkerQueue(), await nvme.openWorkerQueue({ payloadBytes: 65_536, entries: 4 })];
  const workers = queues.map((queue, i) => run(queue.handle(), `write ${i * 100}`));
  await Promise.all(
    Array.from({ length: 30 }, (_, i) => nvme.namespace(1).write(1000 + i, new Uint8Array(512).fill(i))),
  );
  for (const { messages, ended } of workers) {
    assert.equal(await messages, "done");
    await ended;
  }
  for (const start of [0, 100]) {
    for (let i = 0; i < 40; i++) assert.equal(device.disks.get(1)?.bytes[(start + i) * 512], (start + i) & 0xff);
  }
  for (const queue of queues) await queue[Symbol.asyncDispose]();
});

test("one owner at a time; who lets go leaves a queue that the next can take", async (t) => {
  const { nvme } = await started(t);
  await using queue = await nvme.openWorkerQueue();
  for (let round = 0; round < 3; round++) {
    while (queue.owned) await new Promise((resolve) => setTimeout(resolve, 1));
    const attached = attachQueue(queue.handle());
    assert.throws(() => attachQueue(queue.handle()), { code: "NVME_QUEUE_OWNED" });
    await attached.namespace(1).write(round, new Uint8Array(512).fill(round + 1));
    assert.equal((await attached.namespace(1).read(round, 1))[0], round + 1);
    await attached[Symbol.asyncDispose]();
    await assert.rejects(attached.namespace(1).read(0, 1), { code: "NVME_CLOSED" });
  }
});

test("a worker that is killed leaves a queue that can be reclaimed", async (t) => {
  const { nvme } = await started(t);
  await using queue = await nvme.openWorkerQueue();
  const { worker, messages } = run(queue.handle(), "forever");
  assert.equal(await messages, "running");
  await worker.terminate();
  assert.throws(() => attachQueue(queue.handle()), { code: "NVME_QUEUE_OWNED" });
  await queue.reclaim();
  await using attached = attachQueue(queue.handle());
  assert.equal((await attached.namespace(1).read(0, 1)).length, 512);
});

test("a controller reset in mid-I/O: the worker's commands are repeated", async (t) => {
  const { nvme, device } = await started(t);
  await using queue = await nvme.openWorkerQueue();
  const { messages, ended } = run(queue.handle(), "write 300");
  await new Promise((resolve) => setTimeout(resolve, 50));
  await nvme.reset();
  assert.equal(await messages, "done");
  await ended;
  for (let i = 0; i < 40; i++) assert.equal(device.disks.get(1)?.bytes[(300 + i) * 512], (300 + i) & 0xff);
});

test("after a reset the queue is made anew only when its owner has stopped posting to the old one", async (t) => {
  const { nvme, device } = await started(t);
  const queue = await nvme.openWorkerQueue();
  let created = 0;
  device.hooks.command = ({ queueId, opcode, words }) => {
    if (queueId === 0 && opcode === 0x01 && ((words[10] as number) & 0xffff) === queue.queueId) created++;
    return undefined;
  };
  // An owner that is busy: it has the queue, and looks at nothing.
  const { arenaOffset, controlOffset } = queue.handle().layout;
  const control = new Int32Array(device.fn.dma.arena.buffer, arenaOffset + controlOffset, 16);
  Atomics.store(control, ControlWord.OWNER, 1);
  await nvme.reset();
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(created, 0);
  Atomics.store(control, ControlWord.ACKNOWLEDGED, 1);
  while (Atomics.load(control, ControlWord.STATE) !== 4 + QueueState.RUNNING) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(created, 1);
});

test("a stalled command in a worker: aborted by this thread, then repeated", async (t) => {
  const { nvme, device } = await started(t, { timeoutMs: 30, abortTimeoutMs: 200 });
  await using queue = await nvme.openWorkerQueue();
  let holds = 1;
  device.hooks.command = ({ queueId }) => (queueId === queue.queueId && holds-- > 0 ? "hold" : undefined);
  await using attached = attachQueue(queue.handle());
  assert.equal((await attached.namespace(1).read(0, 1)).length, 512);
  assert.equal(device.enables, 1);
});

test("a worker's command that vanishes: the controller is reset, the command repeated", async (t) => {
  const { nvme, device } = await started(t, { timeoutMs: 20, abortTimeoutMs: 20 });
  await using queue = await nvme.openWorkerQueue();
  let losses = 1;
  device.hooks.command = ({ queueId }) => (queueId === queue.queueId && losses-- > 0 ? "swallow" : undefined);
  await using attached = attachQueue(queue.handle());
  assert.equal((await attached.namespace(1).read(0, 1)).length, 512);
  assert.equal(device.enables, 2);
});

test("the function goes: the worker's commands reject", async (t) => {
  const { nvme, device } = await started(t);
  const queue = await nvme.openWorkerQueue();
  device.hooks.command = ({ queueId }) => (queueId === queue.queueId ? "hold" : undefined);
  const { messages, ended } = run(queue.handle(), "read");
  while (device.held.length === 0) await new Promise((resolve) => setImmediate(resolve));
  device.fn.remove();
  assert.equal(await messages, "FUNCTION_REMOVED");
  await ended;
});

test("a raw ring, posted and reaped by hand, and its end by a reset", async (t) => {
  const { nvme, device } = await started(t);
  device.disks.get(1)?.bytes.fill(0x5a, 512, 1024);
  await using raw = await nvme.openRing({ entries: 4, payloadBytes: 4096 });
  const { ring, layout, buffer } = raw;
  const iova = layout.iova + layout.payloadOffset;
  const reaped = new Uint32Array(REAPED_WORDS * 4);
  for (let round = 0; round < 9; round++) {
    assert.ok(ring.post(2 | (round << 16), 1, iova % 2 ** 32, iova / 2 ** 32, 0, 0, 1, 0, 0, 0));
    ring.ring();
    let count = 0;
    while (count === 0) {
      await new Promise((resolve) => setImmediate(resolve));
      count = ring.reap(reaped, 4);
    }
    assert.equal((reaped[0] as number) & 0xffff, round);
    assert.equal(buffer.bytes[layout.payloadOffset], 0x5a);
  }
  await nvme.reset();
  assert.equal(ring.post(2, 1, 0, 0, 0, 0, 0, 0, 0, 0), false);
  assert.match(ring.problem ?? "", /reset/);
});

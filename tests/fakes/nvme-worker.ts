// The worker's side of the tests of queues in threads: does its task with the queue that it is given.
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { attachQueue, type WorkerQueueHandle } from "../../packages/ring3/src/drivers/nvme/index.ts";

const { handle, task } = workerData as { handle: WorkerQueueHandle; task: string };
const [verb, argument] = task.split(" ");
const queue = attachQueue(handle);
const namespace = queue.namespace(1);
if (verb === "write") {
  const first = Number(argument);
  const write = async (block: number): Promise<void> => {
    const data = new Uint8Array(512).fill(block & 0xff);
    await namespace.write(block, data);
    assert.deepEqual(await namespace.read(block, 1), data);
  };
  for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 40 }, (_, i) => write(first + i)));
  parentPort?.postMessage("done");
} else if (verb === "read") {
  const failure = await namespace.read(0, 1).then(
    () => "read",
    (error: { code: string }) => error.code,
  );
  parentPort?.postMessage(failure);
} else {
  for (let round = 0; ; round++) {
    await namespace.read(0, 1);
    if (round === 3) parentPort?.postMessage("running");
  }
}
await queue[Symbol.asyncDispose]();

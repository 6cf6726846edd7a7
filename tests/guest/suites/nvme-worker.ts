// A worker that owns an I/O queue: writes its own blocks, reads them back, and says so.
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { attachQueue, type WorkerQueueHandle } from "../../../packages/ring3/src/drivers/nvme/index.ts";

const { handle, seed, rounds } = workerData as { handle: WorkerQueueHandle; seed: number; rounds: number };
await using queue = attachQueue(handle);
for (const namespace of queue.namespaces) {
  const blocks = 32_768 / namespace.blockSize;
  const worker = async (index: number): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      const data = new Uint8Array(32_768).fill(seed * 32 + index + round);
      const first = 8192 + (seed * 8 + index) * blocks;
      await namespace.write(first, data);
      assert.deepEqual(await namespace.read(first, blocks), data);
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, index) => worker(index)));
}
parentPort?.postMessage("done");

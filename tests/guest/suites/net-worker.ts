// A worker with a network queue of its own: counts what it receives until it is told to end.
import { parentPort, workerData } from "node:worker_threads";
import type { NetQueueHandle } from "../../../packages/ring3/src/drivers/net/device.ts";
import { attachNetQueue } from "../../../packages/ring3/src/drivers/net/open.ts";
import { Packets } from "../../../packages/ring3/src/drivers/net/packets.ts";

const queue = await attachNetQueue(workerData as NetQueueHandle);
const packets = new Packets(queue.pool.arena, 32);
let received = 0;
let ending = false;

function poll(): void {
  const count = queue.rxBurst(packets);
  queue.pool.giveAll(packets, count);
  received += count;
  if (!ending || count > 0) setImmediate(poll);
  else {
    queue[Symbol.dispose]();
    parentPort?.postMessage({ received });
    parentPort?.close();
  }
}
parentPort?.on("message", () => {
  ending = true;
});
poll();
parentPort?.postMessage("ready");

// A pair of virtqueues in the worker that takes it over.
import type { Arena } from "../../memory/arena.ts";
import type { AttachedNetQueue, NetQueueHandle } from "../net/device.ts";
import { AttachedRingQueue, type RingQueueHandle } from "../net/worker-queue.ts";
import { VirtioNetQueue } from "./net-queue.ts";
import type { VirtioQueuePlace } from "./queue-place.ts";

/** Takes a queue over in this thread. Throws `NET_QUEUE_OWNED` where another thread has it. */
export function attachVirtioQueue(handle: NetQueueHandle, arena?: Arena): AttachedNetQueue {
  return new AttachedRingQueue(
    handle as RingQueueHandle<VirtioQueuePlace>,
    arena,
    (pool, place, registers, options) => new VirtioNetQueue(pool, place, registers, options),
  );
}

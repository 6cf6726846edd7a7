// Gigabit queues in worker threads: what the general ones need to know of the controller.
import type { Arena } from "../../memory/arena.ts";
import type { PciFunction } from "../../pci/function.ts";
import type { Clock } from "../clock.ts";
import type { AttachedNetQueue, NetQueueHandle } from "../net/device.ts";
import type { PacketPoolOptions } from "../net/packet-pool.ts";
import { AttachedRingQueue, type RingQueueHandle, WorkerQueue } from "../net/worker-queue.ts";
import type { Chip } from "./chip.ts";
import { GigabitQueue } from "./queue.ts";
import { allocateQueue, type QueueMemory } from "./queue-memory.ts";
import type { QueuePlace } from "./queue-place.ts";

export type GigabitWorkerQueue = WorkerQueue<QueueMemory>;

/** Makes a queue with a pool of its own. Throws `NOT_SUPPORTED` where threads cannot share what it takes. */
export function openWorkerQueue(
  fn: PciFunction,
  chip: Chip,
  clock: Clock,
  pool: PacketPoolOptions,
  shape: { readonly index: number; readonly entries: number },
  close: (queue: GigabitWorkerQueue) => Promise<void>,
): GigabitWorkerQueue {
  return WorkerQueue.open({
    kind: chip.driver,
    address: fn.identity.address,
    arena: fn.dma.arena,
    registers: chip.registers,
    clock,
    pool,
    allocate: (its) => allocateQueue(fn, chip, its, shape),
    close,
  });
}

/** Takes a queue over in this thread. Throws `NET_QUEUE_OWNED` where another thread has it. */
export function attachGigabitQueue(handle: NetQueueHandle, arena?: Arena): AttachedNetQueue {
  return new AttachedRingQueue(
    handle as RingQueueHandle<QueuePlace>,
    arena,
    (pool, place, registers, options) => new GigabitQueue(pool, place, registers, options),
  );
}

// All queues on a controller and the memory that they and the copies use: what is to be frozen, made anew, failed and freed
// together.
import { Ring3Error } from "../../binary/error.ts";
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import type { Admin } from "./admin.ts";
import type { ControllerCapabilities } from "./controller.ts";
import { allocateQueue, type QueueLayout } from "./queue-memory.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { OwnQueue, QueueUser } from "./queue-user.ts";

/** Memory of a queue pair and what lies where in it. */
export interface QueueMemory {
  readonly buffer: DmaBuffer;
  readonly layout: QueueLayout;
}

/** Entries of a queue at most, whatever the controller takes: identifiers keep bits for generations. */
const ENTRIES_LIMIT = 1024;

export class QueueSet {
  readonly #fn: PciFunction;
  readonly #capabilities: ControllerCapabilities;
  readonly #buffers: Set<DmaBuffer> = new Set();
  readonly #users: Map<number, QueueUser> = new Map();
  readonly #own: OwnQueue[] = [];

  constructor(fn: PciFunction, capabilities: ControllerCapabilities) {
    this.#fn = fn;
    this.#capabilities = capabilities;
  }

  /** Queue pairs of the thread that owns the controller. */
  get own(): readonly QueuePair[] {
    return this.#own.map(({ pair }) => pair);
  }

  get ids(): readonly number[] {
    return [...this.#users.keys()];
  }

  /** Lowest free queue id up to `limit`. Throws `NVME_NO_QUEUE`. */
  freeId(limit: number): number {
    for (let id = 1; id <= limit; id++) if (!this.#users.has(id)) return id;
    const advice = "close one, or start the driver with more maxIoQueues";
    throw new Ring3Error(
      "NVME_NO_QUEUE",
      `all ${limit} I/O queues of ${this.#fn.identity.address} are in use; ${advice}`,
    );
  }

  /** Memory for a queue pair. Throws `NVME_QUEUE_SIZE`, and what `dma.allocate` throws. */
  memory(queueId: number, entries: number, maxTransferBytes: number, payloadBytes = 0): QueueMemory {
    const { pageSize, doorbellStride, maxQueueEntries } = this.#capabilities;
    // CAP.MQES bounds I/O queues; the admin queue may have 4096 entries.
    const most = queueId === 0 ? ENTRIES_LIMIT : Math.min(maxQueueEntries, ENTRIES_LIMIT);
    if (!(Number.isInteger(entries) && entries >= 2 && entries <= most)) {
      throw new Ring3Error("NVME_QUEUE_SIZE", `a queue has 2 to ${most} entries here, not ${entries}`);
    }
    const shape = { queueId, entries, maxTransferBytes, pageSize, payloadBytes, doorbellStride };
    const memory = allocateQueue(this.#fn, shape);
    this.#buffers.add(memory.buffer);
    return memory;
  }

  /** Memory for copies; it stays until the end. */
  allocate(size: number): { readonly iova: number; readonly bytes: Uint8Array } {
    const buffer = this.#fn.dma.allocate(size);
    this.#buffers.add(buffer);
    return { iova: buffer.iova, bytes: buffer.bytes };
  }

  free(buffer: DmaBuffer): void {
    this.#buffers.delete(buffer);
    buffer[Symbol.dispose]();
  }

  freeAll(): void {
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
    this.#buffers.clear();
  }

  add(user: QueueUser): void {
    this.#users.set(user.queueId, user);
  }

  addOwn(queue: OwnQueue): void {
    this.add(queue);
    this.#own.push(queue);
  }

  has(queueId: number): boolean {
    return this.#users.has(queueId);
  }

  remove(queueId: number): void {
    this.#users.delete(queueId);
  }

  /** The queue pair with the least to do. */
  leastLoaded(): QueuePair | undefined {
    let best = this.#own[0]?.pair;
    if (best === undefined || this.#own.length === 1) return best;
    for (const { pair } of this.#own) if (pair.load < best.load) best = pair;
    return best;
  }

  freeze(): void {
    for (const user of this.#users.values()) user.freeze();
  }

  prepare(): void {
    for (const user of this.#users.values()) user.prepare();
  }

  async restore(admin: Admin): Promise<void> {
    for (const user of [...this.#users.values()]) await user.restore(admin);
  }

  fail(error: Ring3Error): void {
    for (const user of this.#users.values()) user.fail(error);
  }
}

// I/O queues in worker threads, the worker's side: a queue pair over the shared arena, polled. What only the thread that
// owns the controller can do is asked of it through the control words.
import { Ring3Error } from "../../binary/error.ts";
import { Arena } from "../../memory/arena.ts";
import { ArenaWindow } from "../../memory/window.ts";
import { Nvme } from "../../specs/nvme/registers.ts";
import { type Clock, sleep, systemClock } from "../clock.ts";
import { DataPointers } from "./data-pointer.ts";
import { Namespace } from "./namespace.ts";
import { ControlWord, QueueRequest, QueueState, tell, watchWord } from "./queue-control.ts";
import { listsOf, ringOf } from "./queue-memory.ts";
import { type QueueOwner, QueuePair } from "./queue-pair.ts";
import { TransferPool } from "./transfer-pool.ts";
import type { WorkerQueueHandle } from "./worker-queue.ts";

export interface AttachOptions {
  /** The arena, where it had to be attached by another floor. */
  readonly arena?: Arena;
  readonly clock?: Clock;
}

const PAGE = 4096;

/**
 * Takes over a queue in this thread. Throws `NVME_QUEUE_OWNED` where another thread has it.
 *
 * @example
 * import { workerData } from "node:worker_threads";
 * import { attachQueue } from "ring3/nvme";
 * await using queue = attachQueue(workerData.queue);
 * await queue.namespace(1).read(0n, 8);
 */
export function attachQueue(handle: WorkerQueueHandle, options: AttachOptions = {}): AttachedQueue {
  return new AttachedQueue(handle, options);
}

export class AttachedQueue implements AsyncDisposable, QueueOwner {
  readonly namespaces: readonly Namespace[];
  readonly #handle: WorkerQueueHandle;
  readonly #arena: Arena;
  readonly #ownArena: boolean;
  readonly #clock: Clock;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #pair: QueuePair;
  readonly #pool: TransferPool;
  #payloadUsed = 0;
  #closed = false;

  constructor(handle: WorkerQueueHandle, options: AttachOptions) {
    const { layout, pageSize } = handle;
    this.#handle = handle;
    this.#clock = options.clock ?? systemClock;
    this.#ownArena = options.arena === undefined;
    const arena = options.arena ?? Arena.attach(handle.arena);
    this.#arena = arena;
    const buffer = arena.buffer as SharedArrayBuffer;
    this.#words = new Int32Array(buffer, layout.arenaOffset + layout.controlOffset, 16);
    if (Atomics.compareExchange(this.#words, ControlWord.OWNER, 0, 1) !== 0) {
      if (this.#ownArena) arena.detach();
      const advice = "one thread at a time: dispose it there, or reclaim() it after that thread ended";
      throw new Ring3Error(
        "NVME_QUEUE_OWNED",
        `queue ${layout.queueId} of ${handle.address} belongs to another thread; ${advice}`,
      );
    }
    const words = arena.words(layout.arenaOffset, layout.sizeBytes / 4);
    const doorbells = ArenaWindow.attach(arena, handle.doorbells);
    const ring = ringOf(layout, words, doorbells, Nvme.DOORBELLS);
    const { address, timeoutMs, abortTimeoutMs } = handle;
    const settings = { address, mode: "polled", clock: this.#clock, timeoutMs, abortTimeoutMs } as const;
    this.#pair = new QueuePair(ring, new DataPointers("prp", listsOf(layout, words), pageSize), this, settings);
    const largeBytes = Math.min(handle.limits.maxTransferBytes, Math.floor(layout.payloadBytes / 2 / PAGE) * PAGE);
    const sizes = { smallBytes: PAGE, largeBytes: Math.max(PAGE, largeBytes) };
    this.#pool = new TransferPool((size) => this.allocate(size), sizes, { small: 16, large: 2 });
    const limits = { ...handle.limits, maxTransferBytes: sizes.largeBytes };
    const path = { execute: this.#pair.execute.bind(this.#pair), pool: this.#pool, limits };
    this.namespaces = handle.namespaces.map((shape) => new Namespace(shape, path));
    void watchWord(
      this.#words,
      ControlWord.STATE,
      (value) => this.#follow(value),
      () => this.#closed,
    );
    this.#follow(Atomics.load(this.#words, ControlWord.STATE));
  }

  get queueId(): number {
    return this.#handle.layout.queueId;
  }

  /** A namespace by id. Throws `NVME_NO_NAMESPACE`. */
  namespace(id: number): Namespace {
    const found = this.namespaces.find((namespace) => namespace.id === id);
    if (found !== undefined) return found;
    throw new Ring3Error("NVME_NO_NAMESPACE", `the queue was made when ${this.#handle.address} had no namespace ${id}`);
  }

  /** Takes `size` bytes, rounded up to pages, of the queue's own DMA memory for as long as it is attached. */
  allocate(size: number): { readonly iova: number; readonly size: number; readonly bytes: Uint8Array } {
    const { layout } = this.#handle;
    const rounded = Math.ceil(size / PAGE) * PAGE;
    if (this.#payloadUsed + rounded > layout.payloadBytes) {
      const advice = "open the queue with more payloadBytes";
      throw new Ring3Error(
        "NVME_QUEUE_MEMORY",
        `of ${layout.payloadBytes} bytes ${this.#payloadUsed} are in use; ${advice}`,
      );
    }
    const offset = layout.payloadOffset + this.#payloadUsed;
    this.#payloadUsed += rounded;
    const bytes = this.#arena.bytes(layout.arenaOffset + offset, rounded);
    return { iova: layout.iova + offset, size: rounded, bytes };
  }

  #follow(value: number): void {
    if (this.#closed) return;
    const state = value & 3;
    if (state === QueueState.STOPPING) {
      this.#pair.settle();
      this.#pair.freeze();
      Atomics.store(this.#words, ControlWord.ACKNOWLEDGED, (value >>> 2) + 1);
    } else if (state === QueueState.FAILED) {
      this.#pair.fail(new Ring3Error("FUNCTION_REMOVED", `queue ${this.queueId} of ${this.#handle.address} has ended`));
    } else if (this.#pair.frozen) {
      // Made anew: what the old one completed was settled when it stopped.
      this.#pair.renew();
      this.#pair.thaw();
    }
  }

  overdue(_queue: QueuePair, identifier: number, aborted: boolean): void {
    if (aborted) tell(this.#words, ControlWord.REQUEST, QueueRequest.RECOVER);
    else if (Atomics.compareExchange(this.#words, ControlWord.REQUEST, 0, identifier * 4 + QueueRequest.ABORT) === 0) {
      Atomics.notify(this.#words, ControlWord.REQUEST);
    }
  }

  broken(queue: QueuePair, error: Ring3Error): void {
    queue.condemn(error);
    tell(this.#words, ControlWord.REQUEST, QueueRequest.RECOVER);
  }

  /** Finishes what is in flight and gives the queue back. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    const deadline = this.#clock.now() + this.#handle.timeoutMs;
    while (this.#pair.load > 0 && this.#clock.now() < deadline) await sleep(this.#clock, 1);
    this.#closed = true;
    this.#pair.fail(new Ring3Error("NVME_CLOSED", `queue ${this.queueId} was let go by its thread`));
    Atomics.notify(this.#words, ControlWord.STATE);
    tell(this.#words, ControlWord.REQUEST, QueueRequest.RELEASE);
    if (this.#ownArena) this.#arena.detach();
  }
}

// I/O queues in worker threads, the side of the thread that owns the controller: it creates the queue, hands out what the
// worker needs, and does for the worker what only it can: abort, reset, create anew.
import { Ring3Error } from "../../binary/error.ts";
import type { ArenaHandle } from "../../memory/arena.ts";
import { ArenaWindow, type WindowHandle } from "../../memory/window.ts";
import type { DmaBuffer } from "../../pci/function.ts";
import type { Admin } from "./admin.ts";
import type { Engine } from "./engine.ts";
import type { BlockLimits, NamespaceShape } from "./namespace.ts";
import { ControlWord, QueueRequest, QueueState, tell, watchWord } from "./queue-control.ts";
import type { QueueLayout } from "./queue-memory.ts";
import type { QueueUser } from "./queue-user.ts";

export interface WorkerQueueOptions {
  /** Entries of each queue; 64 by default. */
  readonly entries?: number;
  /** Bytes of DMA memory for the worker's data; 1 MiB by default. */
  readonly payloadBytes?: number;
}

/** All that a worker needs of a queue: structured-cloneable, for `workerData` or `postMessage`. */
export interface WorkerQueueHandle {
  readonly address: string;
  readonly arena: ArenaHandle;
  readonly doorbells: WindowHandle;
  readonly layout: QueueLayout;
  readonly pageSize: number;
  readonly limits: BlockLimits;
  readonly namespaces: readonly NamespaceShape[];
  readonly timeoutMs: number;
  readonly abortTimeoutMs: number;
}

const ACKNOWLEDGE_POLL_MS = 5;

export class WorkerQueue implements AsyncDisposable, QueueUser {
  readonly queueId: number;
  readonly #engine: Engine;
  readonly #buffer: DmaBuffer;
  readonly #layout: QueueLayout;
  readonly #limits: BlockLimits;
  readonly #namespaces: () => readonly NamespaceShape[];
  readonly #doorbells: ArenaWindow;
  readonly #words: Int32Array<SharedArrayBuffer>;
  #generation = 0;
  #closed = false;
  /** Whether the controller has the queue. */
  #created = true;
  #reclaiming: Promise<void> = Promise.resolve();

  /** Made by `NvmeDriver.openWorkerQueue`. */
  constructor(
    engine: Engine,
    memory: { readonly buffer: DmaBuffer; readonly layout: QueueLayout },
    doorbells: ArenaWindow,
    limits: BlockLimits,
    namespaces: () => readonly NamespaceShape[],
  ) {
    this.#engine = engine;
    this.#buffer = memory.buffer;
    this.#layout = memory.layout;
    this.queueId = memory.layout.queueId;
    this.#doorbells = doorbells;
    this.#limits = limits;
    this.#namespaces = namespaces;
    const { buffer, byteOffset } = this.#buffer.words;
    this.#words = new Int32Array(buffer as SharedArrayBuffer, byteOffset + this.#layout.controlOffset, 16);
    tell(this.#words, ControlWord.STATE, QueueState.RUNNING);
    void watchWord(
      this.#words,
      ControlWord.REQUEST,
      (value) => this.#serve(value),
      () => this.#closed,
    );
  }

  /** What to send to the worker. One worker at a time can attach. */
  handle(): WorkerQueueHandle {
    const { settings, controller, fn } = this.#engine;
    return {
      address: fn.identity.address,
      arena: fn.dma.arena.handle(),
      doorbells: this.#doorbells.handle(),
      layout: this.#layout,
      pageSize: controller.capabilities.pageSize,
      limits: this.#limits,
      namespaces: this.#namespaces().map(({ id, blockSize, blocks }) => ({ id, blockSize, blocks })),
      timeoutMs: settings.timeoutMs,
      abortTimeoutMs: settings.abortTimeoutMs,
    };
  }

  /** Whether a worker owns the queue now. */
  get owned(): boolean {
    return Atomics.load(this.#words, ControlWord.OWNER) !== 0;
  }

  /** Takes the queue back from a worker that ended without letting go, and makes it anew for the next. */
  reclaim(): Promise<void> {
    this.#reclaiming = this.#reclaiming.catch(() => {}).then(() => this.#reclaim());
    return this.#reclaiming;
  }

  async #reclaim(): Promise<void> {
    if (this.#closed || this.#engine.failure !== undefined || !this.owned) return;
    const { admin } = this.#engine;
    if (this.#created) {
      this.#created = false;
      await admin.deleteQueue(this.queueId);
    }
    await this.#create(admin);
    tell(this.#words, ControlWord.REQUEST, 0);
    tell(this.#words, ControlWord.OWNER, 0);
  }

  #serve(request: number): void {
    const kind = request & 3;
    if (kind === 0 || this.#closed) return;
    tell(this.#words, ControlWord.REQUEST, 0);
    const engine = this.#engine;
    if (kind === QueueRequest.ABORT) {
      engine.admin.abort(this.queueId, request >>> 2, engine.settings.abortTimeoutMs).catch(() => {});
    } else if (kind === QueueRequest.RECOVER) {
      void engine.recover(`a worker's queue ${this.queueId} does not go on`);
    } else {
      this.reclaim().catch(() => engine.recover(`queue ${this.queueId} could not be made anew`));
    }
  }

  freeze(): void {
    this.#created = false;
    tell(this.#words, ControlWord.STATE, this.#generation * 4 + QueueState.STOPPING);
  }

  prepare(): void {}

  /** Waits for nobody: a worker that is slow to stop gets its queue when it has. */
  async restore(admin: Admin): Promise<void> {
    if (this.#stopped) {
      await this.#create(admin);
      return;
    }
    this.#engine.settings.clock.after(ACKNOWLEDGE_POLL_MS, () => {
      if (this.#closed || this.#engine.failure !== undefined || this.#engine.recovering) return;
      this.restore(admin).catch(() => this.#engine.recover(`queue ${this.queueId} could not be made anew`));
    });
  }

  get #stopped(): boolean {
    return !this.owned || Atomics.load(this.#words, ControlWord.ACKNOWLEDGED) === this.#generation + 1;
  }

  async #create(admin: Admin): Promise<void> {
    const { completionOffset, listOffset } = this.#layout;
    this.#buffer.bytes.fill(0, completionOffset, listOffset);
    await this.#engine.createOn(admin, this.#layout, false);
    this.#created = true;
    this.#generation++;
    tell(this.#words, ControlWord.STATE, this.#generation * 4 + QueueState.RUNNING);
  }

  fail(): void {
    tell(this.#words, ControlWord.STATE, this.#generation * 4 + QueueState.FAILED);
  }

  /** Tells the worker to stop, deletes the queue and frees its memory. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.fail();
    Atomics.notify(this.#words, ControlWord.REQUEST);
    await this.#reclaiming.catch(() => {});
    await this.#engine.removeUser(this.queueId, () => this.#created);
    this.#engine.freeMemory(this.#buffer);
  }
}

/** Creates a queue for a worker. Throws `NOT_SUPPORTED` where threads cannot share what it takes. */
export async function openWorkerQueue(
  engine: Engine,
  limits: BlockLimits,
  namespaces: () => readonly NamespaceShape[],
  options: WorkerQueueOptions,
): Promise<WorkerQueue> {
  const { doorbells } = engine;
  const memory = engine.queueMemory(options.entries ?? 64, options.payloadBytes ?? 2 ** 20);
  const shared = typeof SharedArrayBuffer !== "undefined" && memory.buffer.words.buffer instanceof SharedArrayBuffer;
  if (!(doorbells instanceof ArenaWindow) || !shared) {
    engine.freeMemory(memory.buffer);
    throw new Ring3Error(
      "NOT_SUPPORTED",
      "queues in workers need doorbells and memory in a shared arena; use the queues of this thread",
    );
  }
  const queue = new WorkerQueue(engine, memory, doorbells, limits, namespaces);
  await engine.addUser(queue, memory);
  return queue;
}

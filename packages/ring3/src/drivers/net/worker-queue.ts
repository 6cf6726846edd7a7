// Queues in worker threads. The thread that owns the device sets them up and keeps out of them; the worker that owns one fills
// it and passes its packets. Hard about it: a reset of the device must find the worker outside of a burst, so the worker says
// when it is inside one, and the two look at each other's words in opposite order.
import { Ring3Error } from "../../binary/error.ts";
import { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import { ArenaWindow, type WindowHandle } from "../../memory/window.ts";
import { type Clock, sleep } from "../clock.ts";
import type { AttachedNetQueue, NetQueueHandle, NetQueueStatistics, NetWorkerQueue } from "./device.ts";
import { PacketPool, type PacketPoolOptions } from "./packet-pool.ts";
import type { Packets } from "./packets.ts";
import { QUEUE_WORDS, QueueControl, QueueWord } from "./queue-state.ts";
import type { RingQueue } from "./ring-queue.ts";

/** Bytes of arena memory that a worker gets for its bursts. */
const OWN_BYTES = 65536;
/** How long a worker may stay in a burst before it is taken for dead. */
const BURST_TIMEOUT_MS = 200;
const { CONTROL, OWNER, BUSY } = QueueWord;

/** What a family adds to it is where its rings lie. */
export interface RingQueueHandle<Place = unknown> extends NetQueueHandle {
  readonly place: Place & { readonly state: number };
  /** The registers that the worker writes to. */
  readonly registers: WindowHandle;
  /** Arena memory of the worker's own, for its `Packets`. */
  readonly own: { readonly offset: number; readonly size: number };
}

/** The memory of a worker's queue. */
export interface WorkerQueueMemory extends Disposable {
  readonly place: { readonly index: number; readonly state: number };
  /** Takes everything away from the device; what the driver sees stays until disposal. */
  unmap(): void;
}

export interface WorkerQueueOptions<Memory extends WorkerQueueMemory> {
  /** The driver family, by which `attachNetQueue` finds its like. */
  readonly kind: string;
  readonly address: string;
  readonly arena: Arena;
  readonly registers: Registers;
  readonly clock: Clock;
  readonly pool: PacketPoolOptions;
  readonly allocate: (pool: PacketPool) => Memory;
  /** Takes the queue from the device. */
  readonly close: (queue: WorkerQueue<Memory>) => Promise<void>;
}

export class WorkerQueue<Memory extends WorkerQueueMemory = WorkerQueueMemory> implements NetWorkerQueue {
  readonly index: number;
  readonly memory: Memory;
  readonly #handle: RingQueueHandle;
  readonly #owned: Disposable;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #clock: Clock;
  readonly #close: (queue: WorkerQueue<Memory>) => Promise<void>;
  #closed = false;

  private constructor(
    { arena, clock, close }: WorkerQueueOptions<Memory>,
    memory: Memory,
    owned: Disposable,
    handle: RingQueueHandle,
  ) {
    this.index = handle.index;
    this.memory = memory;
    this.#owned = owned;
    this.#handle = handle;
    this.#words = new Int32Array(arena.buffer as SharedArrayBuffer, memory.place.state, QUEUE_WORDS);
    this.#clock = clock;
    this.#close = close;
  }

  /** Makes a queue with a pool of its own. Throws `NOT_SUPPORTED` where threads cannot share what it takes. */
  static open<Memory extends WorkerQueueMemory>(options: WorkerQueueOptions<Memory>): WorkerQueue<Memory> {
    const { arena, registers, kind, address } = options;
    const shared = typeof SharedArrayBuffer !== "undefined" && arena.buffer instanceof SharedArrayBuffer;
    if (!(registers instanceof ArenaWindow) || !shared) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "queues in workers need mapped registers and memory in a shared arena; use the queues of this thread",
      );
    }
    using owned = new DisposableStack();
    const pool = owned.use(PacketPool.create(arena, options.pool));
    const own = owned.use(arena.reserve(OWN_BYTES));
    const memory = owned.use(options.allocate(pool));
    const { place } = memory;
    const handle = {
      kind,
      address,
      index: place.index,
      arena: arena.handle(),
      pool: pool.handle(),
      place,
      registers: registers.handle(),
      own: { offset: own.offset, size: own.size },
    };
    return new WorkerQueue(options, memory, owned.move(), handle);
  }

  handle(): NetQueueHandle {
    return this.#handle;
  }

  get owned(): boolean {
    return Atomics.load(this.#words, OWNER) !== 0;
  }

  /** The device has the queue, empty: its owner fills it. */
  renew(): void {
    Atomics.store(this.#words, CONTROL, QueueControl.RENEW);
  }

  /** Whether its owner has filled it. */
  get running(): boolean {
    return Atomics.load(this.#words, CONTROL) === QueueControl.RUNNING;
  }

  /** From now on the worker's bursts find nothing. */
  freeze(): void {
    Atomics.store(this.#words, CONTROL, QueueControl.STOPPED);
  }

  end(): void {
    Atomics.store(this.#words, CONTROL, QueueControl.ENDED);
  }

  /** Resolves once the worker is in no burst, or is taken for dead. */
  async quiesced(): Promise<void> {
    const clock = this.#clock;
    const deadline = clock.now() + BURST_TIMEOUT_MS;
    while (Atomics.load(this.#words, BUSY) !== 0 && clock.now() < deadline) await sleep(clock, 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.end();
    await this.quiesced();
    await this.#close(this);
    this.memory.unmap();
    // A worker that has the queue may be at work on its packets: their memory is theirs until it lets go.
    if (this.owned) void this.#released().then(() => this.#owned[Symbol.dispose]());
    else this.#owned[Symbol.dispose]();
  }

  async #released(): Promise<void> {
    while (this.owned) {
      const { async, value } = Atomics.waitAsync(this.#words, OWNER, 1);
      if (async) await value;
    }
  }
}

/** Makes the queue of a handle in the thread that owns it from now on; `ended` gives what its bursts throw at the end. */
export type AttachRings<Place> = (
  pool: PacketPool,
  place: Place,
  registers: Registers,
  options: { readonly emit: boolean; readonly ended: () => Error },
) => RingQueue;

/** A queue in the worker that has taken it over. */
export class AttachedRingQueue<Place> implements AttachedNetQueue {
  readonly index: number;
  readonly pool: PacketPool;
  readonly #queue: RingQueue;
  readonly #words: Int32Array;
  readonly #release: () => void;
  #open = true;

  /** Throws `NET_QUEUE_OWNED` where another thread has the queue. */
  constructor(handle: RingQueueHandle<Place>, arena: Arena | undefined, attach: AttachRings<Place>) {
    const attached = arena ?? Arena.attach(handle.arena, handle.own);
    const { place } = handle;
    this.index = handle.index;
    this.#words = new Int32Array(attached.buffer, place.state, QUEUE_WORDS);
    const detach = (): void => {
      if (arena === undefined) attached.detach();
    };
    if (Atomics.compareExchange(this.#words, OWNER, 0, 1) !== 0) {
      detach();
      throw new Ring3Error(
        "NET_QUEUE_OWNED",
        `queue ${handle.index} of ${handle.address} belongs to another thread: dispose it there first`,
      );
    }
    this.pool = PacketPool.attach(attached, handle.pool);
    const registers = ArenaWindow.attach(attached, handle.registers);
    const ended = (): Error =>
      new Ring3Error("FUNCTION_REMOVED", `queue ${handle.index} of ${handle.address} has ended with its driver`);
    this.#queue = attach(this.pool, place, registers, { emit: true, ended });
    this.#release = detach;
  }

  #inside<T>(burst: () => T): T {
    if (!this.#open) throw new Ring3Error("NET_CLOSED", `queue ${this.index} was let go by its thread`);
    Atomics.store(this.#words, BUSY, 1);
    try {
      return burst();
    } finally {
      Atomics.store(this.#words, BUSY, 0);
    }
  }

  rxBurst(packets: Packets, max?: number): number {
    return this.#inside(() => this.#queue.rxBurst(packets, max));
  }

  txBurst(packets: Packets, count: number, first?: number): number {
    return this.#inside(() => this.#queue.txBurst(packets, count, first));
  }

  txPending(): number {
    return this.#inside(() => this.#queue.txPending());
  }

  get ready(): boolean {
    return this.#open && (this.#queue.ready || Atomics.load(this.#words, CONTROL) === QueueControl.RENEW);
  }

  statistics(): NetQueueStatistics {
    return this.#queue.statistics();
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    Atomics.store(this.#words, OWNER, 0);
    Atomics.notify(this.#words, OWNER);
    this.#release();
  }
}

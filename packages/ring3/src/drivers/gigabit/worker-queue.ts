// Queues in worker threads. The thread that owns the device sets them up and keeps out of them; the worker that owns one fills
// it and passes its packets. Hard about it: a reset of the device must find the worker outside of a burst, so the worker says
// when it is inside one, and the two look at each other's words in opposite order.
import { Ring3Error } from "../../binary/error.ts";
import { Arena } from "../../memory/arena.ts";
import { ArenaWindow, type WindowHandle } from "../../memory/window.ts";
import type { PciFunction } from "../../pci/function.ts";
import { type Clock, sleep } from "../clock.ts";
import type { AttachedNetQueue, NetQueueHandle, NetQueueStatistics, NetWorkerQueue } from "../net/device.ts";
import { PacketPool, type PacketPoolOptions } from "../net/packet-pool.ts";
import type { Packets } from "../net/packets.ts";
import type { Chip } from "./chip.ts";
import { GigabitQueue } from "./queue.ts";
import { allocateQueue, type QueueMemory } from "./queue-memory.ts";
import { QueueControl, type QueuePlace, STATE_WORDS, StateWord } from "./queue-place.ts";

/** Bytes of arena memory that a worker gets for its bursts. */
const OWN_BYTES = 65536;
/** How long a worker may stay in a burst before it is taken for dead. */
const BURST_TIMEOUT_MS = 200;
const { CONTROL, OWNER, BUSY } = StateWord;

interface GigabitQueueHandle extends NetQueueHandle {
  readonly place: QueuePlace;
  readonly registers: WindowHandle;
  /** Arena memory of the worker's own, for its `Packets`. */
  readonly own: { readonly offset: number; readonly size: number };
}

export class WorkerQueue implements NetWorkerQueue {
  readonly index: number;
  readonly memory: QueueMemory;
  readonly #handle: GigabitQueueHandle;
  readonly #owned: Disposable;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #close: (queue: WorkerQueue) => Promise<void>;
  #closed = false;

  /** `owned`: what goes with the queue. */
  constructor(
    arena: Arena,
    memory: QueueMemory,
    owned: Disposable,
    handle: GigabitQueueHandle,
    close: (queue: WorkerQueue) => Promise<void>,
  ) {
    this.index = memory.place.index;
    this.memory = memory;
    this.#owned = owned;
    this.#handle = handle;
    this.#words = new Int32Array(arena.buffer as SharedArrayBuffer, memory.place.state, STATE_WORDS);
    this.#close = close;
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

  /** From now on the worker's bursts find nothing. */
  freeze(): void {
    Atomics.store(this.#words, CONTROL, QueueControl.STOPPED);
  }

  end(): void {
    Atomics.store(this.#words, CONTROL, QueueControl.ENDED);
  }

  /** Resolves once the worker is in no burst, or is taken for dead. */
  async quiesced(clock: Clock): Promise<void> {
    const deadline = clock.now() + BURST_TIMEOUT_MS;
    while (Atomics.load(this.#words, BUSY) !== 0 && clock.now() < deadline) await sleep(clock, 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.end();
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

/** Makes a queue with a pool of its own. Throws `NOT_SUPPORTED` where threads cannot share what it takes. */
export function openWorkerQueue(
  fn: PciFunction,
  chip: Chip,
  poolOptions: PacketPoolOptions,
  shape: { readonly index: number; readonly entries: number },
  close: (queue: WorkerQueue) => Promise<void>,
): WorkerQueue {
  const { arena } = fn.dma;
  const { registers } = chip;
  const shared = typeof SharedArrayBuffer !== "undefined" && arena.buffer instanceof SharedArrayBuffer;
  if (!(registers instanceof ArenaWindow) || !shared) {
    throw new Ring3Error(
      "NOT_SUPPORTED",
      "queues in workers need mapped registers and memory in a shared arena; use the queues of this thread",
    );
  }
  using owned = new DisposableStack();
  const pool = owned.use(PacketPool.create(arena, poolOptions));
  const own = owned.use(arena.reserve(OWN_BYTES));
  const memory = owned.use(allocateQueue(fn, chip, pool, shape));
  const handle = {
    kind: chip.driver,
    address: fn.identity.address,
    index: shape.index,
    arena: arena.handle(),
    pool: pool.handle(),
    place: memory.place,
    registers: registers.handle(),
    own: { offset: own.offset, size: own.size },
  };
  return new WorkerQueue(arena, memory, owned.move(), handle, close);
}

/** Takes a queue over in this thread. Throws `NET_QUEUE_OWNED` where another thread has it. */
export function attachGigabitQueue(handle: NetQueueHandle, arena?: Arena): AttachedNetQueue {
  return new AttachedGigabitQueue(handle as GigabitQueueHandle, arena);
}

class AttachedGigabitQueue implements AttachedNetQueue {
  readonly index: number;
  readonly pool: PacketPool;
  readonly #queue: GigabitQueue;
  readonly #words: Int32Array;
  readonly #release: () => void;
  #open = true;

  constructor(handle: GigabitQueueHandle, arena: Arena | undefined) {
    const attached = arena ?? Arena.attach(handle.arena, handle.own);
    const { place } = handle;
    this.index = handle.index;
    this.#words = new Int32Array(attached.buffer, place.state, STATE_WORDS);
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
    this.#queue = new GigabitQueue(this.pool, place, registers, { emit: true, ended });
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

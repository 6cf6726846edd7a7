// All pairs of queues of a device: those of this thread, those of workers, and spare ones. Hard about it: a device may take its
// queues only between its reset and DRIVER_OK (virtio 1.3, section 3.1.1; the kernel's vhost does no more), and uses the first
// so many of them, as VQ_PAIRS_SET says. So it gets spare rings from the start, for workers to come; and which pair of the
// device's a worker has may be another after each reset.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import type { Clock } from "../clock.ts";
import { touch } from "../net/function-watch.ts";
import type { PacketPool, PacketPoolOptions } from "../net/packet-pool.ts";
import { QUEUE_WORDS, QueueControl, signedWords } from "../net/queue-state.ts";
import { WorkerQueue } from "../net/worker-queue.ts";
import { pairProblem, VirtioNetQueue } from "./net-queue.ts";
import { allocatePair, type PairMemory, PairRings, type RingShape } from "./pair-memory.ts";
import { PairWord } from "./queue-place.ts";
import type { VirtioTransport } from "./transport.ts";

/** Pairs that a device with as many gets at its start, used or not. */
const READY_PAIRS = 8;

export type VirtioWorkerQueue = WorkerQueue<PairMemory>;

interface OwnPair {
  readonly memory: PairMemory;
  readonly queue: VirtioNetQueue;
}

/** What was negotiated, as far as rings are concerned. */
export interface PairSettings {
  /** Bits of `PairFeature`. */
  readonly features: number;
  /** Most bytes of a frame. */
  readonly frameBytes: number;
}

export interface PairSetOptions {
  readonly shape: RingShape;
  readonly emit: boolean;
  readonly clock: Clock;
  /** Gives what bursts throw once the driver has ended. */
  readonly ended: () => Error;
}

export class PairSet {
  readonly #fn: PciFunction;
  readonly #transport: VirtioTransport;
  readonly #options: PairSetOptions;
  readonly #own: OwnPair[] = [];
  readonly #workers: Set<VirtioWorkerQueue> = new Set();
  readonly #spare: PairRings[] = [];
  #settings: PairSettings = { features: 0, frameBytes: 0 };

  constructor(fn: PciFunction, transport: VirtioTransport, options: PairSetOptions) {
    this.#fn = fn;
    this.#transport = transport;
    this.#options = options;
  }

  /** Adds a pair for this thread. Throws as `allocatePair`. */
  add(pool: PacketPool): VirtioNetQueue {
    const { shape, emit, ended } = this.#options;
    const memory = allocatePair(this.#fn, this.#own.length, shape, new PairRings(this.#fn, shape), pool);
    const queue = new VirtioNetQueue(pool, memory.place, this.#transport.notifyRegisters, { emit, ended });
    this.#own.push({ memory, queue });
    return queue;
  }

  /** The first so many of the device's pairs are used: those of this thread, then those of workers. */
  get inUse(): number {
    return this.#own.length + this.#workers.size;
  }

  get #pairs(): PairRings[] {
    const used = [...this.#own, ...this.#workers].map(({ memory }) => memory.rings);
    return [...used, ...this.#spare];
  }

  /**
   * Makes rings, empty ones, for a device with `most` pairs that is being set up. Throws `NET_NO_QUEUE`, and `VIRTIO_PROTOCOL`
   * where the device does not take rings of this shape for all of them.
   */
  prepare(most: number): void {
    const { address } = this.#transport;
    const { shape } = this.#options;
    if (this.inUse > most) {
      throw new Ring3Error("NET_NO_QUEUE", `${address} has ${most} pairs of queues, not ${this.inUse}`);
    }
    const pairs = this.#fitting(Math.max(this.inUse, Math.min(most, READY_PAIRS)));
    if (pairs < this.inUse) {
      const rings = `${shape.kind} rings of ${shape.size} entries`;
      throw new Ring3Error("VIRTIO_PROTOCOL", `pair ${pairs} of ${address} does not take ${rings} as others do`);
    }
    while (this.#pairs.length > pairs) this.#spare.pop()?.[Symbol.dispose]();
    while (this.#pairs.length < pairs) this.#spare.push(new PairRings(this.#fn, shape));
    for (const rings of this.#pairs) rings.clear();
  }

  /** How many of the first pairs, up to `most`, take our rings. */
  #fitting(most: number): number {
    const { size } = this.#options.shape;
    for (let index = 0; index < 2 * most; index++) if (this.#transport.queueSize(index) < size) return index >> 1;
    return most;
  }

  /** Tells the device all rings. `vectorOf`: which interrupt tells of the packets of a pair. */
  enable(vectorOf: (pair: number) => number | undefined): void {
    const transport = this.#transport;
    const { size } = this.#options.shape;
    for (const [pair, rings] of this.#pairs.entries()) {
      const [receive, transmit] = rings.addresses;
      transport.enableQueue(2 * pair, size, receive, vectorOf(pair));
      transport.enableQueue(2 * pair + 1, size, transmit, undefined);
      rings.notifyOffsets = [transport.notifyOffset(2 * pair), transport.notifyOffset(2 * pair + 1)];
    }
  }

  /** The device runs: fills the queues of this thread, and lets workers do so. Throws `NET_INVALID`. */
  start(settings: PairSettings): void {
    this.#settings = settings;
    for (const [pair, { memory, queue }] of this.#own.entries()) {
      this.#tell(pair, memory);
      if (queue.renew()) continue;
      throw new Ring3Error(
        "NET_INVALID",
        `the packet pool has ${queue.pool.free} free buffers, and a ring of ${memory.place.receive.size} needs one for each ` +
          "entry; make the pool larger or the rings smaller",
      );
    }
    for (const worker of this.#workers) this.renew(worker);
  }

  /** Lets a worker fill its queue. */
  renew(worker: VirtioWorkerQueue): void {
    this.#tell(this.#own.length + [...this.#workers].indexOf(worker), worker.memory);
    worker.renew();
  }

  /** Says in a queue's words what its owner has to know of the device. */
  #tell(pair: number, { place, rings }: PairMemory): void {
    const words = signedWords(this.#fn.dma.arena, place.state, QUEUE_WORDS);
    words[PairWord.FEATURES] = this.#settings.features;
    words[PairWord.FRAME_BYTES] = this.#settings.frameBytes;
    words[PairWord.PAIR] = pair;
    [words[PairWord.RX_NOTIFY_AT], words[PairWord.TX_NOTIFY_AT]] = rings.notifyOffsets;
  }

  /**
   * Makes a queue for a worker. `ready` says that the device knows its rings already, and has only to be told to use them.
   * Throws `NET_NO_QUEUE`, `NOT_SUPPORTED`, and what memory throws.
   */
  open(
    driver: string,
    most: number,
    pool: PacketPoolOptions,
    close: (queue: VirtioWorkerQueue) => Promise<void>,
  ): { readonly queue: VirtioWorkerQueue; readonly ready: boolean } {
    const { address } = this.#transport;
    if (this.inUse >= most) {
      throw new Ring3Error("NET_NO_QUEUE", `${address} has ${most} pairs of queues, and all are in use`);
    }
    const { shape, clock } = this.#options;
    const taken = new Set([...this.#workers].map(({ index }) => index));
    let index = this.#own.length;
    while (taken.has(index)) index++;
    const ready = this.#spare.length > 0;
    const queue = WorkerQueue.open({
      kind: driver,
      address,
      arena: this.#fn.dma.arena,
      registers: this.#transport.notifyRegisters,
      clock,
      pool,
      allocate: (its) => {
        const rings = this.#spare.shift() ?? new PairRings(this.#fn, shape);
        return allocatePair(this.#fn, index, shape, rings, its);
      },
      close: async (closed) => {
        this.#workers.delete(closed);
        await close(closed);
      },
    });
    this.#workers.add(queue);
    return { queue, ready };
  }

  /** What the device did with a pair that it must not. */
  problem(): string | undefined {
    const running = [
      ...this.#own.filter(({ queue }) => queue.running),
      ...[...this.#workers].filter((worker) => worker.running),
    ];
    for (const { memory } of running) {
      const problem = pairProblem(this.#fn.dma.arena, memory.place);
      if (problem !== undefined) return `queue ${memory.place.index}: the device ${problem}`;
    }
    return undefined;
  }

  /** From now on bursts find nothing; resolves once no worker is in one. */
  async quiesce(): Promise<void> {
    for (const { queue } of this.#own) queue.control(QueueControl.STOPPED);
    for (const worker of this.#workers) worker.freeze();
    for (const worker of this.#workers) await worker.quiesced();
  }

  /** The device does not use this thread's buffers any more: they go back to the pool. */
  empty(): void {
    for (const { queue } of this.#own) queue.empty();
  }

  /** From now on bursts throw. */
  end(): void {
    for (const { queue } of this.#own) queue.control(QueueControl.ENDED);
    for (const worker of this.#workers) worker.end();
  }

  /** Gives everything back, after the end; the device does not use it any more. */
  async release(): Promise<void> {
    for (const worker of [...this.#workers]) await worker[Symbol.asyncDispose]();
    for (const { queue, memory } of this.#own) {
      queue.empty();
      queue.end();
      touch(() => memory[Symbol.dispose]());
    }
    for (const rings of this.#spare.splice(0)) touch(() => rings[Symbol.dispose]());
  }
}

// The driver of gigabit controllers: queues of its own rings, in this thread and in workers, on a chip that does what differs.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import type {
  NetCapabilities,
  NetDeviceOptions,
  NetStatistics,
  NetWorkerQueue,
  NetWorkerQueueOptions,
  ReceiveMode,
} from "../net/device.ts";
import { NetDriver } from "../net/driver.ts";
import { touch } from "../net/function-watch.ts";
import { QueueControl } from "../net/queue-state.ts";
import { poolBuffers } from "../net/settings.ts";
import { NO_STATISTICS, queueTotals } from "../net/statistics.ts";
import type { Chip, ChipSetup } from "./chip.ts";
import { GigabitQueue } from "./queue.ts";
import { allocateQueue, type QueueMemory } from "./queue-memory.ts";
import { StallWatch } from "./stall-watch.ts";
import { type GigabitWorkerQueue, openWorkerQueue } from "./worker-queue.ts";

const RING_ENTRIES = { least: 16, most: 4096, unit: 8 } as const;

export class GigabitDevice extends NetDriver<GigabitQueue, ChipSetup> {
  readonly driver: string;
  protected readonly setup: ChipSetup;
  readonly #chip: Chip;
  readonly #emit: boolean;
  readonly #memory: QueueMemory[] = [];
  readonly #stalls: StallWatch[] = [];
  readonly #workers: Map<number, GigabitWorkerQueue> = new Map();

  private constructor(fn: PciFunction, chip: Chip, options: NetDeviceOptions) {
    super(fn, options, {
      queues: { least: 0, most: chip.maxQueues },
      ringEntries: RING_ENTRIES,
      patient: chip.patient,
    });
    this.driver = chip.driver;
    this.#chip = chip;
    this.#emit = options.loops !== "typescript";
    this.setup = {
      mac: undefined,
      mtu: this.settings.mtu,
      filter: {},
      multicast: [],
      vlans: undefined,
      vlanStripping: options.vlanStripping ?? true,
      steered: this.#steered(),
      room: this.pool.room,
    };
  }

  /** Resets and sets up the controller and its queues. Throws `NET_INVALID`, `NET_REFUSED`, `NET_MAILBOX`, `TIMEOUT`. */
  static async start(fn: PciFunction, chip: Chip, options: NetDeviceOptions): Promise<GigabitDevice> {
    const device = new GigabitDevice(fn, chip, options);
    await device.life.start();
    return device;
  }

  protected makeQueue(index: number): GigabitQueue {
    const memory = allocateQueue(this.fn, this.#chip, this.pool, { index, entries: this.settings.ringEntries });
    this.#memory.push(memory);
    const ended = (): Error => this.endError;
    const queue = new GigabitQueue(this.pool, memory.place, this.#chip.registers, { emit: this.#emit, ended });
    this.#stalls.push(new StallWatch(queue));
    return queue;
  }

  protected async bringUp(): Promise<Uint8Array> {
    const chip = this.#chip;
    const { setup } = this;
    await chip.reset();
    this.interrupts.open();
    await chip.start(setup, this.interrupts);
    const { mac } = chip;
    for (const { addresses } of this.#memory) await chip.enableQueue(addresses, setup);
    for (const { memory } of this.#workers.values()) await chip.enableQueue(memory.addresses, setup);
    for (const queue of this.queues) {
      if (!queue.renew()) {
        throw new Ring3Error(
          "NET_INVALID",
          `the packet pool has ${this.pool.free} free buffers, and a ring of ${queue.place.entries} descriptors ` +
            "needs one for each; make the pool larger or the rings smaller",
        );
      }
    }
    for (const worker of this.#workers.values()) worker.renew();
    return mac;
  }

  get capabilities(): NetCapabilities {
    const { capabilities, maxQueues, steers } = this.#chip;
    return {
      ...capabilities,
      maxQueues,
      maxMtu: this.maxMtu(),
      receiveSteering: steers && this.setup.steered.length > 1,
    };
  }

  protected maxMtu(): number {
    return this.#chip.maxMtu(this.pool.room);
  }

  /** How interrupts come, and whether the burst loops are emitted. */
  get operation(): { readonly interrupts: string; readonly receiveMode: ReceiveMode; readonly emitted: boolean } {
    const emitted = this.queues.every((queue) => queue.emitted);
    return { interrupts: this.interrupts.kind, receiveMode: this.mode, emitted };
  }

  statistics(): NetStatistics {
    const own = queueTotals(this.queues);
    let counted: Omit<NetStatistics, "rx_dropped"> = NO_STATISTICS;
    touch(() => {
      counted = this.#chip.statistics();
    });
    const { rx_errors, rx_length_errors, tx_errors } = own;
    return { ...counted, rx_dropped: rx_errors + rx_length_errors, tx_dropped: counted.tx_dropped + tx_errors };
  }

  // --- Interrupts and filters ----------------------------------------------------------------------------------------

  protected arm(queue: number): void {
    this.#chip.arm(queue);
  }

  protected quiet(queue: number): void {
    this.#chip.quiet(queue);
  }

  protected acknowledge(): { readonly receive: boolean } {
    return this.#chip.acknowledge();
  }

  protected applyMac(mac: Uint8Array): Promise<void> {
    return this.#chip.applyMac(mac);
  }

  /** Buffers and rings are another size then, so everything is set up anew. */
  protected async applyMtu(mtu: number): Promise<void> {
    await this.#chip.applyMtu(mtu);
    this.setup.mtu = mtu;
    await this.life.restart("another MTU");
  }

  protected applyFilter(setup: ChipSetup): Promise<void> {
    return this.#chip.applyFilter(setup);
  }

  protected applyMulticast(setup: ChipSetup): Promise<void> {
    return this.#chip.applyMulticast(setup);
  }

  protected applyVlans(setup: ChipSetup): Promise<void> {
    return this.#chip.applyVlans(setup);
  }

  // --- Queues of workers ---------------------------------------------------------------------------------------------

  async openWorkerQueue(options: NetWorkerQueueOptions = {}): Promise<NetWorkerQueue> {
    await this.life.settled();
    const { queues, ringEntries } = this.settings;
    let index = queues;
    while (this.#workers.has(index)) index++;
    if (index >= this.#chip.maxQueues) {
      throw new Ring3Error("NET_NO_QUEUE", `${this.address} has ${this.#chip.maxQueues} queues, and all are in use`);
    }
    const buffers = options.buffers ?? poolBuffers(1, ringEntries);
    const pool = { buffers, bufferBytes: this.pool.bufferBytes, headroom: this.pool.headroom };
    const shape = { index, entries: ringEntries };
    const worker = openWorkerQueue(this.fn, this.#chip, this.clock, pool, shape, async (closed) => {
      this.#workers.delete(closed.index);
      if (this.failure !== undefined) return;
      touch(() => {
        this.#steer();
        this.#chip.disableQueue(closed.index);
      });
    });
    this.#workers.set(index, worker);
    try {
      await this.#chip.enableQueue(worker.memory.addresses, this.setup);
      worker.renew();
      this.#steer();
      return worker;
    } catch (error) {
      await worker[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Spreads what is received over the queues that there are now. */
  #steer(): void {
    this.setup.steered = this.#steered();
    this.#chip.applySteering(this.setup);
  }

  #steered(): readonly number[] {
    if (!this.#chip.steers) return [];
    return [...Array.from({ length: this.settings.queues }, (_, index) => index), ...this.#workers.keys()];
  }

  // --- What happens to the device ------------------------------------------------------------------------------------

  protected inspect(): string | undefined {
    let problem: string | undefined;
    const seen = touch(() => {
      const health = this.#chip.health();
      if (health === "absent") problem = "its registers read all ones";
      else if (health === "reset") problem = "it was reset by its parent";
      else this.setLink(this.#chip.link());
    });
    for (const stall of seen ? this.#stalls : []) problem ??= stall.look(this.link.up);
    return problem;
  }

  /** Waits until workers are outside of their bursts. */
  protected async quiesce(): Promise<void> {
    for (const queue of this.queues) queue.control(QueueControl.STOPPED);
    for (const worker of this.#workers.values()) worker.freeze();
    touch(() => this.#chip.stop());
    for (const worker of this.#workers.values()) await worker.quiesced();
  }

  protected endQueues(): void {
    for (const queue of this.queues) queue.control(QueueControl.ENDED);
    for (const worker of this.#workers.values()) worker.end();
  }

  protected stopDevice(): Promise<void> {
    touch(() => this.#chip.stop());
    return Promise.resolve();
  }

  protected async release(): Promise<void> {
    for (const worker of [...this.#workers.values()]) await worker[Symbol.asyncDispose]();
    for (const queue of this.queues) {
      queue.empty();
      queue.end();
    }
    for (const memory of this.#memory) touch(() => memory[Symbol.dispose]());
  }
}

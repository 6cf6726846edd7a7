// A gigabit controller's driver as its users see it: start and end, queues, link, filters, and the way back after a reset, which
// may be ours, the parent's or the platform's. The chip does what differs. Hard about it: while the device is being reset
// bursts must find nothing and touch nothing, and everything that was set before holds again after.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { sleep } from "../clock.ts";
import { DriverEvents } from "../events.ts";
import type {
  LinkState,
  NetCapabilities,
  NetDevice,
  NetDeviceOptions,
  NetEventMap,
  NetQueue,
  NetStatistics,
  NetWorkerQueue,
  NetWorkerQueueOptions,
  ReceiveMode,
  ReceiveModeFilter,
  ReceiveWaitOptions,
} from "../net/device.ts";
import { PacketPool } from "../net/packet-pool.ts";
import type { Packets } from "../net/packets.ts";
import { QueueControl } from "../net/queue-state.ts";
import { ReceiveWait } from "../net/receive-wait.ts";
import type { Chip, ChipSetup } from "./chip.ts";
import { removedError, watchFunction } from "./function-watch.ts";
import { GigabitInterrupts } from "./interrupts.ts";
import { GigabitQueue } from "./queue.ts";
import { allocateQueue, type QueueMemory } from "./queue-memory.ts";
import { type Recoverable, Recovery } from "./recovery.ts";
import { type GigabitSettings, settingsOf } from "./settings.ts";
import { StallWatch } from "./stall-watch.ts";
import { type GigabitWorkerQueue, openWorkerQueue } from "./worker-queue.ts";

/** How often the link and the device's health are looked at. */
const WATCH_MS = 200;
const LINK_TIMEOUT_MS = 10_000;
const DOWN: LinkState = { up: false, speedMbps: 0, fullDuplex: false };

/** A queue of this thread, with what belongs to it. */
interface OwnQueue {
  readonly memory: QueueMemory;
  readonly queue: GigabitQueue;
  readonly wait: ReceiveWait;
  readonly stall: StallWatch;
}

export class GigabitDevice implements NetDevice {
  readonly driver: string;
  readonly address: string;
  readonly events: DriverEvents<NetEventMap> = new DriverEvents();
  readonly pool: PacketPool;
  readonly #fn: PciFunction;
  readonly #chip: Chip;
  readonly #settings: GigabitSettings;
  readonly #setup: ChipSetup;
  readonly #interrupts: GigabitInterrupts;
  readonly #mode: ReceiveMode;
  readonly #own: OwnQueue[] = [];
  readonly #workers: Map<number, GigabitWorkerQueue> = new Map();
  #listening: Disposable | undefined;
  readonly #ownPool: boolean;
  readonly #recovery: Recovery;
  #watch: Disposable | undefined;
  #link: LinkState = DOWN;
  #mac: Uint8Array = new Uint8Array(6);
  #failure: Ring3Error | undefined;
  #ended: Promise<void> | undefined;

  private constructor(fn: PciFunction, chip: Chip, options: NetDeviceOptions) {
    this.#fn = fn;
    this.#chip = chip;
    this.#settings = settingsOf(options, chip.maxQueues);
    this.driver = chip.driver;
    this.address = fn.identity.address;
    const { queues, ringEntries, mtu, vlanStripping } = this.#settings;
    this.#interrupts = new GigabitInterrupts(
      fn,
      chip,
      { kind: options.interrupts, queues },
      {
        queue: (index) => this.#own[index]?.wait.wake(),
        other: () => this.#look(),
      },
    );
    this.#mode = options.receiveMode ?? (this.#interrupts.kind === "none" ? "polled" : "adaptive");
    if (this.#mode !== "polled" && this.#interrupts.kind === "none") {
      throw new Ring3Error("NET_INVALID", `${this.address}: to wait by interrupt, choose a kind of interrupts`);
    }
    this.#recovery = new Recovery(this.#recoverable());
    this.#ownPool = options.pool === undefined;
    this.pool = options.pool ?? PacketPool.create(fn.dma.arena, { buffers: poolBuffers(queues, ringEntries) });
    this.#setup = {
      mac: undefined,
      mtu,
      filter: {},
      multicast: [],
      vlans: undefined,
      vlanStripping,
      steered: steeredQueues(chip, queues, []),
      room: this.pool.room,
    };
  }

  /** Resets and sets up the controller and its queues. Throws `NET_INVALID`, `NET_REFUSED`, `NET_MAILBOX`, `TIMEOUT`. */
  static async start(fn: PciFunction, chip: Chip, options: NetDeviceOptions): Promise<GigabitDevice> {
    const device = new GigabitDevice(fn, chip, options);
    try {
      const { mtu } = device.#setup;
      device.#checkMtu(mtu);
      device.#allocate();
      device.#listening = watchFunction(fn, {
        recover: (reason) => void device.#recover(reason),
        end: (error) => void device.#end(error),
        letGo: () => void device.#letGo(),
      });
      fn.busMaster = true;
      await device.#bringUp();
      device.#keepWatch();
      return device;
    } catch (error) {
      const reason = isRing3Error(error) ? error : new Ring3Error("NET_FAILED", String(error), { cause: error });
      await device.#end(reason);
      throw fn.gone.aborted && isRing3Error(fn.gone.reason) ? fn.gone.reason : error;
    }
  }

  #allocate(): void {
    const { queues, ringEntries, emit, clock } = this.#settings;
    for (let index = 0; index < queues; index++) {
      const memory = allocateQueue(this.#fn, this.#chip, this.pool, { index, entries: ringEntries });
      const ended = (): Error => this.#endError();
      const queue = new GigabitQueue(this.pool, memory.place, this.#chip.registers, { emit, ended });
      const waited = {
        get ready(): boolean {
          return queue.ready;
        },
        arm: (): void => this.#arm(index),
      };
      const wait = new ReceiveWait(this.#mode, waited, clock);
      this.#own.push({ memory, queue, wait, stall: new StallWatch(queue) });
    }
  }

  /** Resets the device and sets up everything as the program had it. */
  async #bringUp(): Promise<void> {
    const chip = this.#chip;
    const setup = this.#setup;
    await chip.reset();
    this.#interrupts.open();
    await chip.start(setup, this.#interrupts);
    this.#mac = setup.mac ?? chip.mac;
    for (const { memory } of [...this.#own, ...this.#workers.values()]) {
      await chip.enableQueue(memory.addresses, setup);
    }
    for (const { queue, memory } of this.#own) {
      if (!queue.renew()) {
        throw new Ring3Error(
          "NET_INVALID",
          `the packet pool has ${this.pool.free} free buffers, and a ring of ${memory.place.entries} descriptors ` +
            "needs one for each; make the pool larger or the rings smaller",
        );
      }
    }
    for (const worker of this.#workers.values()) worker.renew();
  }

  get capabilities(): NetCapabilities {
    const { capabilities, maxQueues, steers } = this.#chip;
    const maxMtu = this.#chip.maxMtu(this.pool.room);
    return { ...capabilities, maxQueues, maxMtu, receiveSteering: steers && this.#setup.steered.length > 1 };
  }

  get queues(): readonly NetQueue[] {
    return this.#own.map(({ queue }) => queue);
  }

  /** How interrupts come, and whether the burst loops are emitted. */
  get operation(): { readonly interrupts: string; readonly receiveMode: ReceiveMode; readonly emitted: boolean } {
    const emitted = this.#own.every(({ queue }) => queue.emitted);
    return { interrupts: this.#interrupts.kind, receiveMode: this.#mode, emitted };
  }

  get failure(): Ring3Error | undefined {
    return this.#failure;
  }

  #queue(index: number): OwnQueue {
    const own = this.#own[index];
    if (own !== undefined) return own;
    throw new Ring3Error("NET_NO_QUEUE", `${this.address} has queues 0 to ${this.#own.length - 1} here, not ${index}`);
  }

  rxBurst(queue: number, packets: Packets, max?: number): number {
    return this.#queue(queue).queue.rxBurst(packets, max);
  }

  txBurst(queue: number, packets: Packets, count: number, first?: number): number {
    return this.#queue(queue).queue.txBurst(packets, count, first);
  }

  receivable(queue: number, options?: ReceiveWaitOptions): Promise<boolean> {
    const { wait } = this.#queue(queue);
    return this.#failure === undefined ? wait.wait(options) : Promise.reject(this.#endError());
  }

  #arm(queue: number): void {
    if (this.#recovery.running === undefined && this.#failure === undefined) this.#touch(() => this.#chip.arm(queue));
  }

  /** Runs `action`; registers that are gone or off are somebody else's news. */
  #touch(action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      return false;
    }
  }

  get link(): LinkState {
    return this.#link;
  }

  async waitForLink({ timeoutMs = LINK_TIMEOUT_MS, signal }: ReceiveWaitOptions = {}): Promise<LinkState> {
    const { clock } = this.#settings;
    const deadline = clock.now() + timeoutMs;
    for (;;) {
      if (this.#failure !== undefined) throw this.#endError();
      signal?.throwIfAborted();
      this.#look();
      if (this.#link.up) return this.#link;
      if (clock.now() >= deadline) {
        throw new Ring3Error("NET_NO_LINK", `${this.address} had no link within ${timeoutMs} ms; is it plugged in?`);
      }
      await sleep(clock, Math.min(20, timeoutMs), signal);
    }
  }

  statistics(): NetStatistics {
    let counted = { ...ZERO };
    this.#touch(() => {
      counted = this.#chip.statistics();
    });
    const own = this.#own.map(({ queue }) => queue.statistics());
    const dropped = own.reduce((sum, queue) => sum + queue.rx_errors + queue.rx_length_errors, 0);
    const refused = own.reduce((sum, queue) => sum + queue.tx_errors, 0);
    return { ...counted, rx_dropped: dropped, tx_dropped: counted.tx_dropped + refused };
  }

  get mac(): Uint8Array {
    return this.#mac.slice();
  }

  async setMac(mac: Uint8Array): Promise<void> {
    if (mac.length !== 6 || ((mac[0] as number) & 1) === 1 || mac.every((byte) => byte === 0)) {
      throw new Ring3Error("NET_INVALID", "a device's MAC address is six bytes, no multicast address and not all zero");
    }
    await this.#apply(() => this.#chip.applyMac(mac, this.#setup));
    this.#setup.mac = mac.slice();
    this.#mac = this.#setup.mac;
  }

  get mtu(): number {
    return this.#setup.mtu;
  }

  #checkMtu(mtu: number): void {
    const most = this.#chip.maxMtu(this.pool.room);
    if (Number.isInteger(mtu) && mtu >= 68 && mtu <= most) return;
    throw new Ring3Error(
      "NET_INVALID",
      `${this.address} takes an MTU of 68 to ${most} with buffers of ${this.pool.bufferBytes} bytes, not ${mtu}`,
    );
  }

  async setMtu(mtu: number): Promise<void> {
    this.#checkMtu(mtu);
    if (mtu === this.#setup.mtu) return;
    await this.#apply(() => this.#chip.applyMtu(mtu));
    this.#setup.mtu = mtu;
    await this.#recover("another MTU");
    if (this.#failure !== undefined) throw this.#endError();
  }

  async setReceiveMode(filter: ReceiveModeFilter): Promise<void> {
    await this.#change({ filter: { ...filter } }, (setup) => this.#chip.applyFilter(setup));
  }

  async setMulticast(addresses: readonly Uint8Array[]): Promise<void> {
    for (const address of addresses) {
      if (address.length !== 6 || ((address[0] as number) & 1) === 0) {
        throw new Ring3Error("NET_INVALID", "a multicast address is six bytes, the first of them odd");
      }
    }
    const copies = addresses.map((address) => address.slice());
    await this.#change({ multicast: copies }, (setup) => this.#chip.applyMulticast(setup));
  }

  async setVlans(ids: readonly number[] | undefined): Promise<void> {
    if (ids?.some((id) => !(Number.isInteger(id) && id >= 0 && id < 4096)) === true) {
      throw new Ring3Error("NET_INVALID", "a VLAN's id is a number from 0 to 4095");
    }
    await this.#change({ vlans: ids === undefined ? undefined : [...ids] }, (setup) => this.#chip.applyVlans(setup));
  }

  /** Applies a change, and keeps it for later resets where the device took it. */
  async #change(change: Partial<ChipSetup>, apply: (setup: ChipSetup) => Promise<void>): Promise<void> {
    await this.#apply(() => apply({ ...this.#setup, ...change }));
    Object.assign(this.#setup, change);
  }

  async #apply(action: () => Promise<void>): Promise<void> {
    await this.#recovery.running;
    if (this.#failure !== undefined) throw this.#endError();
    await action();
  }

  async openWorkerQueue(options: NetWorkerQueueOptions = {}): Promise<NetWorkerQueue> {
    await this.#recovery.running;
    if (this.#failure !== undefined) throw this.#endError();
    const { queues, ringEntries } = this.#settings;
    let index = queues;
    while (this.#workers.has(index)) index++;
    if (index >= this.#chip.maxQueues) {
      throw new Ring3Error("NET_NO_QUEUE", `${this.address} has ${this.#chip.maxQueues} queues, and all are in use`);
    }
    const buffers = options.buffers ?? poolBuffers(1, ringEntries);
    const pool = { buffers, bufferBytes: this.pool.bufferBytes, headroom: this.pool.headroom };
    const shape = { index, entries: ringEntries };
    const worker = openWorkerQueue(this.#fn, this.#chip, pool, shape, async (closed) => {
      this.#workers.delete(closed.index);
      if (this.#failure !== undefined) return;
      this.#touch(() => {
        this.#steer();
        this.#chip.disableQueue(closed.index);
      });
    });
    this.#workers.set(index, worker);
    try {
      await this.#chip.enableQueue(worker.memory.addresses, this.#setup);
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
    this.#setup.steered = steeredQueues(this.#chip, this.#own.length, [...this.#workers.keys()]);
    this.#chip.applySteering(this.#setup);
  }

  async reset(): Promise<void> {
    await this.#recover("the program asked for it");
    if (this.#failure !== undefined) throw this.#endError();
  }

  // --- What happens to the device ----------------------------------------------------------------------------------

  #keepWatch(): void {
    const { clock } = this.#settings;
    const again = (): void => {
      this.#watch = clock.after(WATCH_MS, () => {
        this.#look();
        if (this.#failure === undefined) again();
      });
    };
    again();
  }

  /** Looks at the link, at the device's health, and at queues that do not go on. */
  #look(): void {
    if (this.#recovery.running !== undefined || this.#failure !== undefined) return;
    let problem: string | undefined;
    const seen = this.#touch(() => {
      const health = this.#chip.health();
      if (health !== "well")
        problem = health === "absent" ? "its registers read all ones" : "it was reset by its parent";
      else this.#setLink(this.#chip.link());
    });
    for (const { stall } of seen ? this.#own : []) problem ??= stall.look(this.#link.up);
    if (problem !== undefined) void this.#recover(problem);
  }

  #setLink(link: LinkState): void {
    const { up, speedMbps, fullDuplex } = this.#link;
    if (link.up === up && link.speedMbps === speedMbps && link.fullDuplex === fullDuplex) return;
    this.#link = link;
    this.events.emit("link", link);
  }

  #recover(reason: string): Promise<void> {
    if (this.#recovery.running === undefined && this.#failure === undefined) this.#setLink(DOWN);
    return this.#recovery.start(reason);
  }

  #recoverable(): Recoverable {
    const over = (): boolean => this.#failure !== undefined;
    return {
      patient: this.#chip.patient,
      clock: this.#settings.clock,
      gone: this.#fn.gone,
      get over(): boolean {
        return over();
      },
      quiesce: () => this.#quiesce(),
      bringUp: () => this.#bringUp(),
      failed: (error) => this.#end(error),
      recovered: (reason) => {
        this.events.emit("reset", { reason });
        // Whoever waits looks again, now that interrupts can be armed.
        for (const { wait } of this.#own) wait.wake();
      },
    };
  }

  /** Stops the device and every queue, and waits until workers have let go of theirs. */
  async #quiesce(): Promise<void> {
    for (const { queue } of this.#own) queue.control(QueueControl.STOPPED);
    for (const worker of this.#workers.values()) worker.freeze();
    this.#touch(() => this.#chip.stop());
    for (const worker of this.#workers.values()) await worker.quiesced(this.#settings.clock);
  }

  async #letGo(): Promise<void> {
    await this.#end(removedError(this.#fn, "it was requested back"));
    await this.#fn[Symbol.asyncDispose]();
  }

  #endError(): Ring3Error {
    return this.#failure ?? new Ring3Error("NET_CLOSED", `the driver of ${this.address} was closed`);
  }

  #end(error: Ring3Error): Promise<void> {
    this.#ended ??= this.#finish(error);
    return this.#ended;
  }

  async #finish(error: Ring3Error): Promise<void> {
    this.#failure = error;
    this.#listening?.[Symbol.dispose]();
    this.#watch?.[Symbol.dispose]();
    for (const { queue, wait } of this.#own) {
      queue.control(QueueControl.ENDED);
      wait.end(error);
    }
    for (const worker of this.#workers.values()) worker.end();
    this.#touch(() => this.#chip.stop());
    this.#touch(() => this.#interrupts.close());
    if (!this.#fn.gone.aborted) {
      this.#touch(() => {
        this.#fn.busMaster = false;
      });
    }
    for (const worker of [...this.#workers.values()]) await worker[Symbol.asyncDispose]();
    for (const { queue, memory } of this.#own) {
      queue.empty();
      queue.end();
      this.#touch(() => memory[Symbol.dispose]());
    }
    if (this.#ownPool) this.#touch(() => this.pool[Symbol.dispose]());
    if (error.code !== "NET_CLOSED") this.events.emit("removed", { code: error.code, reason: error.message });
  }

  /** Stops the device, gives buffers and memory back. The function stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end(new Ring3Error("NET_CLOSED", `the driver of ${this.address} was closed`));
  }
}

const ZERO: Omit<NetStatistics, "rx_dropped"> = {
  rx_packets: 0,
  tx_packets: 0,
  rx_bytes: 0,
  tx_bytes: 0,
  rx_errors: 0,
  tx_errors: 0,
  tx_dropped: 0,
  multicast: 0,
  collisions: 0,
  rx_length_errors: 0,
  rx_crc_errors: 0,
  rx_missed_errors: 0,
  device: {},
};

function steeredQueues(chip: Chip, own: number, workers: readonly number[]): readonly number[] {
  return chip.steers ? [...Array.from({ length: own }, (_, index) => index), ...workers] : [];
}

/** Buffers for rings that are full both ways, and as many again for the program. */
function poolBuffers(queues: number, entries: number): number {
  return Math.max(1, queues) * entries * 3;
}

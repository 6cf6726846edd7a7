// What every driver of a network device does alike: queues and waiting for them, link, filters, and its life from start to end. A
// driver extends it with what its device does its own way. Hard about it: while the device is being brought back bursts must
// find nothing and touch nothing, and everything that was set before holds again after.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { type Clock, sleep } from "../clock.ts";
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
} from "./device.ts";
import { touch } from "./function-watch.ts";
import { type InterruptSource, NetInterrupts } from "./interrupts.ts";
import { LifeCycle } from "./life-cycle.ts";
import { PacketPool } from "./packet-pool.ts";
import type { Packets } from "./packets.ts";
import { ReceiveWait } from "./receive-wait.ts";
import { type NetSettings, netSettings, poolBuffers, type SettingLimits } from "./settings.ts";
import { checkMac, checkMulticast, checkVlans, type NetSetup } from "./setup.ts";

const LINK_TIMEOUT_MS = 10_000;
const DOWN: LinkState = { up: false, speedMbps: 0, fullDuplex: false };

/** What the driver's kind of devices is like. */
export interface DriverTraits extends SettingLimits {
  /** Whether a device that does not come back is waited for as long as it takes. */
  readonly patient: boolean;
}

/** `Q`: a queue as the driver sees it. `S`: how the device is to be set up. */
export abstract class NetDriver<Q extends NetQueue, S extends NetSetup> implements NetDevice {
  abstract readonly driver: string;
  readonly address: string;
  readonly events: DriverEvents<NetEventMap> = new DriverEvents();
  readonly pool: PacketPool;
  protected readonly fn: PciFunction;
  protected readonly settings: NetSettings;
  protected readonly interrupts: NetInterrupts;
  protected readonly life: LifeCycle;
  /** How `receivable` waits. */
  protected readonly mode: ReceiveMode;
  /** What holds now, and is set up again after a reset. */
  protected abstract readonly setup: S;
  readonly #queues: Q[] = [];
  /** Who waits for each of them. */
  readonly #waits: ReceiveWait[] = [];
  readonly #ownPool: boolean;
  #link: LinkState = DOWN;
  #mac: Uint8Array = new Uint8Array(6);

  /** Throws `NET_INVALID`. */
  protected constructor(fn: PciFunction, options: NetDeviceOptions, traits: DriverTraits) {
    this.fn = fn;
    this.address = fn.identity.address;
    this.settings = netSettings(options, traits);
    const { queues, ringEntries } = this.settings;
    const source: InterruptSource = { acknowledge: () => this.acknowledge(), quiet: (queue) => this.quiet(queue) };
    this.interrupts = new NetInterrupts(
      fn,
      source,
      { kind: options.interrupts, queues },
      { queue: (index) => this.#waits[index]?.wake(), other: () => this.life.look() },
    );
    this.mode = options.receiveMode ?? (this.interrupts.kind === "none" ? "polled" : "adaptive");
    if (this.mode !== "polled" && this.interrupts.kind === "none") {
      throw new Ring3Error("NET_INVALID", `${this.address}: to wait by interrupt, choose a kind of interrupts`);
    }
    this.#ownPool = options.pool === undefined;
    this.pool = options.pool ?? PacketPool.create(fn.dma.arena, { buffers: poolBuffers(queues, ringEntries) });
    this.life = new LifeCycle(fn, this.clock, {
      patient: traits.patient,
      prepare: () => this.#prepare(),
      bringUp: () => this.#bringUp(),
      started: () => this.#checkMtu(this.setup.mtu),
      quiesce: () => this.quiesce(),
      inspect: () => this.inspect(),
      lost: () => this.setLink(DOWN),
      recovered: (reason) => this.#recovered(reason),
      finish: (error) => this.#finish(error),
    });
  }

  // --- What a driver does its own way; the life cycle calls it in this order -----------------------------------------

  /** Makes the memory and the loops of a queue, which the device does not have yet. */
  protected abstract makeQueue(index: number): Q;
  /** Resets the device and sets up everything as the program had it; resolves with the device's MAC address. */
  protected abstract bringUp(): Promise<Uint8Array>;
  /** Lets one interrupt come for the queue. */
  protected abstract arm(queue: number): void;
  /** As in {@link InterruptSource}. */
  protected abstract quiet(queue: number): void;
  /** As in {@link InterruptSource}. */
  protected abstract acknowledge(): { readonly receive: boolean };
  /** Says what is wrong with the device, if something is, and sets the link. */
  protected abstract inspect(): string | undefined;
  /** Lets bursts find nothing, in this thread and in others, before the device is brought up again. */
  protected abstract quiesce(): Promise<void>;
  /** Lets bursts throw `endError`, for good. */
  protected abstract endQueues(): void;
  /** Ends DMA and interrupts of a device that is there. */
  protected abstract stopDevice(): Promise<void>;
  /** Gives buffers and memory back. */
  protected abstract release(): Promise<void>;
  /** Largest MTU of device and pool, as far as is known. */
  protected abstract maxMtu(): number;
  protected abstract applyMac(mac: Uint8Array): Promise<void>;
  /** Tells the device; what it takes to keep to the MTU is done when it resolves. */
  protected abstract applyMtu(mtu: number): Promise<void>;
  protected abstract applyFilter(setup: S): Promise<void>;
  protected abstract applyMulticast(setup: S): Promise<void>;
  protected abstract applyVlans(setup: S): Promise<void>;

  abstract readonly capabilities: NetCapabilities;
  abstract statistics(): NetStatistics;
  abstract openWorkerQueue(options?: NetWorkerQueueOptions): Promise<NetWorkerQueue>;

  // --- Queues --------------------------------------------------------------------------------------------------------

  get queues(): readonly Q[] {
    return this.#queues;
  }

  /** What belongs to one of the queues of this thread. */
  #of<T>(list: readonly T[], queue: number): T {
    const found = list[queue];
    if (found !== undefined) return found;
    throw new Ring3Error("NET_NO_QUEUE", `${this.address} has queues 0 to ${list.length - 1} here, not ${queue}`);
  }

  rxBurst(queue: number, packets: Packets, max?: number): number {
    return this.#of(this.#queues, queue).rxBurst(packets, max);
  }

  txBurst(queue: number, packets: Packets, count: number, first?: number): number {
    return this.#of(this.#queues, queue).txBurst(packets, count, first);
  }

  receivable(queue: number, options?: ReceiveWaitOptions): Promise<boolean> {
    const wait = this.#of(this.#waits, queue);
    return this.failure === undefined ? wait.wait(options) : Promise.reject(this.failure);
  }

  // --- Link and filters ----------------------------------------------------------------------------------------------

  get link(): LinkState {
    return this.#link;
  }

  protected setLink(link: LinkState): void {
    const { up, speedMbps, fullDuplex } = this.#link;
    if (link.up === up && link.speedMbps === speedMbps && link.fullDuplex === fullDuplex) return;
    this.#link = link;
    this.events.emit("link", link);
  }

  async waitForLink({ timeoutMs = LINK_TIMEOUT_MS, signal }: ReceiveWaitOptions = {}): Promise<LinkState> {
    const deadline = this.clock.now() + timeoutMs;
    for (;;) {
      if (this.failure !== undefined) throw this.failure;
      signal?.throwIfAborted();
      this.life.look();
      if (this.#link.up) return this.#link;
      if (this.clock.now() >= deadline) {
        throw new Ring3Error("NET_NO_LINK", `${this.address} had no link within ${timeoutMs} ms; is it plugged in?`);
      }
      await sleep(this.clock, Math.min(20, timeoutMs), signal);
    }
  }

  get mac(): Uint8Array {
    return this.#mac.slice();
  }

  async setMac(mac: Uint8Array): Promise<void> {
    checkMac(mac);
    const copy = mac.slice();
    await this.#change({ mac: copy }, () => this.applyMac(copy));
    this.#mac = copy;
  }

  get mtu(): number {
    return this.setup.mtu;
  }

  async setMtu(mtu: number): Promise<void> {
    this.#checkMtu(mtu);
    await this.life.settled();
    if (mtu === this.setup.mtu) return;
    await this.applyMtu(mtu);
    this.setup.mtu = mtu;
  }

  #checkMtu(mtu: number): void {
    const most = this.maxMtu();
    if (Number.isInteger(mtu) && mtu >= 68 && mtu <= most) return;
    throw new Ring3Error(
      "NET_INVALID",
      `${this.address} takes an MTU of 68 to ${most} with buffers of ${this.pool.bufferBytes} bytes, not ${mtu}`,
    );
  }

  async setReceiveMode(filter: ReceiveModeFilter): Promise<void> {
    await this.#change({ filter: { ...filter } }, (setup) => this.applyFilter(setup));
  }

  async setMulticast(addresses: readonly Uint8Array[]): Promise<void> {
    checkMulticast(addresses);
    const multicast = addresses.map((address) => address.slice());
    await this.#change({ multicast }, (setup) => this.applyMulticast(setup));
  }

  async setVlans(ids: readonly number[] | undefined): Promise<void> {
    checkVlans(ids);
    await this.#change({ vlans: ids?.slice() }, (setup) => this.applyVlans(setup));
  }

  /** Applies a change, and keeps it for later resets where the device took it. */
  async #change(change: Partial<NetSetup>, apply: (setup: S) => Promise<void>): Promise<void> {
    await this.life.settled();
    await apply({ ...this.setup, ...change });
    Object.assign(this.setup, change);
  }

  // --- Life ----------------------------------------------------------------------------------------------------------

  protected get clock(): Clock {
    return this.settings.clock;
  }

  get failure(): Ring3Error | undefined {
    return this.life.failure;
  }

  /** What bursts throw after the end. */
  protected get endError(): Ring3Error {
    return this.failure ?? new Ring3Error("NET_CLOSED", `the driver of ${this.address} was closed`);
  }

  async reset(): Promise<void> {
    await this.life.restart("the program asked for it");
  }

  #prepare(): void {
    this.#checkMtu(this.setup.mtu);
    for (let index = 0; index < this.settings.queues; index++) {
      const queue = this.makeQueue(index);
      const waited = {
        get ready(): boolean {
          return queue.ready;
        },
        arm: (): void => {
          if (this.life.well) touch(() => this.arm(index));
        },
      };
      this.#queues.push(queue);
      this.#waits.push(new ReceiveWait(this.mode, waited, this.clock));
    }
  }

  async #bringUp(): Promise<void> {
    const mac = await this.bringUp();
    this.#mac = this.setup.mac ?? mac;
  }

  #recovered(reason: string): void {
    this.events.emit("reset", { reason });
    // Whoever waits looks again, now that interrupts can be armed.
    for (const wait of this.#waits) wait.wake();
  }

  async #finish(error: Ring3Error): Promise<void> {
    this.endQueues();
    for (const wait of this.#waits) wait.end(error);
    if (!this.fn.gone.aborted) {
      try {
        await this.stopDevice();
      } catch (failed) {
        // Without bus mastering the device reaches no memory, whatever it does.
        if (!isRing3Error(failed)) throw failed;
      }
    }
    touch(() => this.interrupts.close());
    if (!this.fn.gone.aborted) {
      touch(() => {
        this.fn.busMaster = false;
      });
    }
    await this.release();
    if (this.#ownPool) touch(() => this.pool[Symbol.dispose]());
    if (error.code !== "NET_CLOSED") this.events.emit("removed", { code: error.code, reason: error.message });
  }

  /** Stops the device, gives buffers and memory back. The function stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.life.end(this.endError);
  }
}

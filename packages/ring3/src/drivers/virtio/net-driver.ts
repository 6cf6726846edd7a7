// The driver of modern virtio network devices: virtio 1.3, section 5.1. Start and end, queues, link, filters, and the way back
// after a reset, which may be ours, the platform's, or what a device gets that breaks the rules of its rings. Hard about it:
// while the device is being reset bursts must find nothing, and everything that was set before holds again after.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { Feature, NetFeature } from "../../specs/virtio/features.ts";
import { IsrStatus, VIRTIO_DEVICE_ID_BASE, VIRTIO_VENDOR_ID, VirtioDeviceId } from "../../specs/virtio/registers.ts";
import { type Clock, sleep, systemClock } from "../clock.ts";
import { DriverEvents } from "../events.ts";
import { GigabitInterrupts } from "../gigabit/interrupts.ts";
import type {
  LinkState,
  NetCapabilities,
  NetDevice,
  NetDeviceOptions,
  NetEventMap,
  NetQueue,
  NetStatistics,
  NetWorkerQueue,
  ReceiveMode,
  ReceiveModeFilter,
  ReceiveWaitOptions,
} from "../net/device.ts";
import { PacketPool } from "../net/packet-pool.ts";
import type { Packets } from "../net/packets.ts";
import { ReceiveWait } from "../net/receive-wait.ts";
import { ControlQueue } from "./control-queue.ts";
import { NET_HEADER_BYTES, VirtioNetQueue } from "./net-queue.ts";
import { NetConfiguration, NetFilters, type NetSetup, wantedFeatures } from "./net-setup.ts";
import { PairMemory } from "./pair-memory.ts";
import { VirtioTransport } from "./transport.ts";

export interface VirtioNetDriverOptions extends NetDeviceOptions {
  /** Packed rings where the device offers them; true by default. */
  readonly packed?: boolean;
  readonly clock?: Clock;
}

const WATCH_MS = 200;
const RETRY_MS = 500;
const RETRIES = 5;
const LINK_TIMEOUT_MS = 10_000;
/** A device that breaks the rules so often within a while is given up. */
const BROKEN_LIMIT = 8;
const BROKEN_WINDOW_MS = 10_000;
const DOWN: LinkState = { up: false, speedMbps: 0, fullDuplex: false };

interface OwnQueue {
  readonly queue: VirtioNetQueue;
  readonly wait: ReceiveWait;
}

/**
 * A virtio network device, in use. `openNetDevice` starts it.
 *
 * @example
 * import { VirtioNetDriver } from "ring3/virtio";
 * await using nic = await VirtioNetDriver.start(fn, { queues: 2, packed: false });
 * console.log(nic.link.up, nic.operation.ring);
 */
export class VirtioNetDriver implements NetDevice {
  readonly driver = "virtio-net";
  readonly address: string;
  readonly events: DriverEvents<NetEventMap> = new DriverEvents();
  readonly pool: PacketPool;
  readonly #fn: PciFunction;
  readonly #clock: Clock;
  readonly #options: VirtioNetDriverOptions;
  readonly #transport: VirtioTransport;
  readonly #configuration: NetConfiguration;
  readonly #interrupts: GigabitInterrupts;
  readonly #mode: ReceiveMode;
  readonly #setup: NetSetup;
  readonly #own: OwnQueue[];
  readonly #listening: Disposable[] = [];
  readonly #ownPool: boolean;
  readonly #mapping: { readonly iova: number } & Disposable;
  readonly #broken: number[] = [];
  #memory: PairMemory[] = [];
  #control: ControlQueue | undefined;
  #filters: NetFilters;
  #mac: Uint8Array = new Uint8Array(6);
  #maxPairs = 1;
  #deviceMtu = 65_535;
  #entries = 0;
  #packed = false;
  #link: LinkState = DOWN;
  #watch: Disposable | undefined;
  #recovering: Promise<void> | undefined;
  #again: string | undefined;
  #failure: Ring3Error | undefined;
  #ended: Promise<void> | undefined;
  #resets = 0;

  private constructor(fn: PciFunction, options: VirtioNetDriverOptions) {
    const { queues = 1, ringEntries = 256, mtu = 1500 } = options;
    const whole = (name: string, value: number, least: number, most: number): void => {
      if (Number.isInteger(value) && value >= least && value <= most) return;
      throw new Ring3Error("NET_INVALID", `${name} is a whole number from ${least} to ${most}, not ${value}`);
    };
    whole("queues", queues, 1, 0x8000);
    whole("ringEntries", ringEntries, 2, 32_768);
    whole("mtu", mtu, 68, 65_535);
    this.#fn = fn;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.address = fn.identity.address;
    this.#transport = new VirtioTransport(fn, this.#clock);
    this.#configuration = new NetConfiguration(this.#transport);
    this.#filters = new NetFilters(this.#transport, undefined);
    this.#setup = { mac: undefined, mtu, filter: {}, multicast: [], vlans: undefined };
    const chip = {
      acknowledge: () => ({ receive: IsrStatus.QUEUE.test(this.#transport.takeInterruptStatus()) }),
      quiet: (index: number) => this.#own[index]?.queue.quiet(),
    };
    this.#interrupts = new GigabitInterrupts(
      fn,
      chip,
      { kind: options.interrupts, queues },
      { queue: (index) => this.#own[index]?.wait.wake(), other: () => this.#look() },
    );
    this.#mode = options.receiveMode ?? (this.#interrupts.kind === "none" ? "polled" : "adaptive");
    if (this.#mode !== "polled" && this.#interrupts.kind === "none") {
      throw new Ring3Error("NET_INVALID", `${this.address}: to wait by interrupt, choose a kind of interrupts`);
    }
    this.#ownPool = options.pool === undefined;
    this.pool = options.pool ?? PacketPool.create(fn.dma.arena, { buffers: 3 * queues * ringEntries });
    if (this.pool.headroom < NET_HEADER_BYTES) {
      throw new Ring3Error(
        "NET_INVALID",
        `virtio puts ${NET_HEADER_BYTES} bytes before each frame, and the pool has a headroom of ${this.pool.headroom}`,
      );
    }
    this.#mapping = this.pool.map(fn.dma);
    this.#own = Array.from({ length: queues }, (_, index) => {
      const queue = new VirtioNetQueue(index, this.pool, () => this.#endError());
      const waited = {
        get ready(): boolean {
          return queue.ready;
        },
        arm: (): void => queue.arm(),
      };
      return { queue, wait: new ReceiveWait(this.#mode, waited, this.#clock) };
    });
  }

  /**
   * Takes the function over. Rejects with `WRONG_DEVICE`, `VIRTIO_LEGACY`, `VIRTIO_NO_IOMMU`, `VIRTIO_PROTOCOL`,
   * `VIRTIO_REFUSED`, `NET_INVALID`, `NET_NO_QUEUE`, `TIMEOUT`.
   */
  static async start(fn: PciFunction, options: VirtioNetDriverOptions = {}): Promise<VirtioNetDriver> {
    const { vendorId, deviceId, address } = fn.identity;
    if (vendorId !== VIRTIO_VENDOR_ID || deviceId !== VIRTIO_DEVICE_ID_BASE + VirtioDeviceId.NET) {
      const ids = `${vendorId.toString(16).padStart(4, "0")}:${deviceId.toString(16).padStart(4, "0")}`;
      throw new Ring3Error("WRONG_DEVICE", `${address} is ${ids}, no modern virtio network device (1af4:1041)`);
    }
    const driver = new VirtioNetDriver(fn, options);
    try {
      driver.#watchFunction();
      fn.busMaster = true;
      await driver.#bringUp();
      driver.#checkMtu(driver.#setup.mtu);
      driver.#keepWatch();
      return driver;
    } catch (error) {
      const reason = isRing3Error(error) ? error : new Ring3Error("NET_FAILED", String(error), { cause: error });
      await driver.#end(reason);
      throw fn.gone.aborted && isRing3Error(fn.gone.reason) ? fn.gone.reason : error;
    }
  }

  /** Resets the device and sets up everything as the program had it: section 3.1.1. */
  async #bringUp(): Promise<void> {
    const transport = this.#transport;
    const { negotiated } = transport;
    await transport.reset();
    for (const { queue } of this.#own) queue.empty();
    this.#interrupts.open();
    transport.negotiate(wantedFeatures(this.#setup, this.#options.packed !== false));
    const packed = negotiated.has(Feature.RING_PACKED);
    this.#maxPairs = this.#configuration.maxPairs();
    this.#deviceMtu = this.#configuration.maxMtu();
    const pairs = this.#own.length;
    if (pairs > this.#maxPairs) {
      throw new Ring3Error("NET_NO_QUEUE", `${this.address} has ${this.#maxPairs} pairs of queues, not ${pairs}`);
    }
    if (negotiated.has(NetFeature.MQ) && !negotiated.has(NetFeature.CTRL_VQ)) {
      throw new Ring3Error(
        "VIRTIO_PROTOCOL",
        `${this.address} has several queues and no control queue to switch them on`,
      );
    }
    const rings = this.#makeRings(pairs, packed);
    this.#makeControl(packed);
    const msix = this.#interrupts.kind === "msix";
    transport.configVector(msix ? this.#interrupts.otherVector : undefined);
    for (const [index, { receive, transmit }] of rings.entries()) {
      transport.enableQueue(
        2 * index,
        this.#entries,
        receive.addresses,
        msix ? this.#interrupts.vectorOf(index) : undefined,
      );
      transport.enableQueue(2 * index + 1, this.#entries, transmit.addresses, undefined);
    }
    this.#control?.enable();
    const notify = transport.notifyRegisters;
    const places = rings.map((_, index) => [transport.notifyOffset(2 * index), transport.notifyOffset(2 * index + 1)]);
    transport.driverOk();
    this.#filters = new NetFilters(transport, this.#control);
    await this.#filters.applyPairs(pairs);
    await this.#filters.apply(this.#setup);
    this.#mac = this.#setup.mac?.slice() ?? this.#configuration.mac();
    for (const [index, { queue }] of this.#own.entries()) {
      const { receive, transmit } = rings[index] as (typeof rings)[number];
      const [receiveNotify = 0, transmitNotify = 0] = places[index] ?? [];
      queue.start({
        index,
        pool: this.pool,
        poolIova: this.#mapping.iova,
        receive,
        transmit,
        notify,
        receiveNotify,
        transmitNotify,
        mergeable: negotiated.has(NetFeature.MRG_RXBUF),
        checksum: negotiated.has(NetFeature.CSUM),
        frameBytes: Math.min(this.pool.room, this.#deviceMtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES),
      });
    }
    this.#setLink(this.#configuration.link());
  }

  /** Memory for the rings, of the size that both sides take; made once, unless the device comes back another. */
  #makeRings(pairs: number, packed: boolean): ReturnType<PairMemory["rings"]>[] {
    let entries = this.#options.ringEntries ?? 256;
    for (let index = 0; index < 2 * pairs; index++) {
      const size = this.#transport.queueSize(index);
      if (size === 0) throw new Ring3Error("VIRTIO_PROTOCOL", `${this.address} has no queue ${index}`);
      entries = Math.min(entries, size);
    }
    if (!packed) entries = 2 ** Math.floor(Math.log2(entries));
    if (entries !== this.#entries || packed !== this.#packed || this.#memory.length !== pairs) {
      for (const memory of this.#memory.splice(0)) memory[Symbol.dispose]();
      this.#entries = entries;
      this.#packed = packed;
      for (let pair = 0; pair < pairs; pair++) this.#memory.push(new PairMemory(this.#fn, entries, packed));
    }
    const eventIndex = this.#transport.negotiated.has(Feature.EVENT_IDX);
    return this.#memory.map((memory) => memory.rings(eventIndex));
  }

  #makeControl(packed: boolean): void {
    const { negotiated } = this.#transport;
    this.#control?.[Symbol.dispose]();
    this.#control = undefined;
    if (!negotiated.has(NetFeature.CTRL_VQ)) return;
    // Behind the queues of all pairs, section 5.1.2.
    const index = 2 * (negotiated.has(NetFeature.MQ) ? this.#maxPairs : 1);
    const size = this.#transport.queueSize(index);
    if (size < 2) throw new Ring3Error("VIRTIO_PROTOCOL", `the control queue of ${this.address} has ${size} entries`);
    this.#control = new ControlQueue(this.#fn, this.#transport, index, size, packed, this.#clock);
  }

  get capabilities(): NetCapabilities {
    const { negotiated } = this.#transport;
    return {
      maxQueues: this.#maxPairs,
      maxMtu: this.#maxMtu,
      receiveChecksums: negotiated.has(NetFeature.GUEST_CSUM),
      ipv4Checksum: false,
      l4Checksum: negotiated.has(NetFeature.CSUM),
      vlanOffload: false,
      vlanFilter: this.#transport.offered().has(NetFeature.CTRL_VLAN),
      promiscuous: true,
      receiveSteering: this.#own.length > 1,
    };
  }

  get #maxMtu(): number {
    return Math.min(this.#deviceMtu, this.pool.room - ETHERNET_HEADER_BYTES - VLAN_TAG_BYTES);
  }

  /** How the device is driven. */
  get operation(): {
    readonly interrupts: string;
    readonly receiveMode: ReceiveMode;
    readonly ring: "split" | "packed";
    readonly ringEntries: number;
    readonly resets: number;
  } {
    const ring = this.#transport.negotiated.has(Feature.RING_PACKED) ? "packed" : "split";
    const { kind } = this.#interrupts;
    return { interrupts: kind, receiveMode: this.#mode, ring, ringEntries: this.#entries, resets: this.#resets };
  }

  get queues(): readonly NetQueue[] {
    return this.#own.map(({ queue }) => queue);
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

  get link(): LinkState {
    return this.#link;
  }

  async waitForLink({ timeoutMs = LINK_TIMEOUT_MS, signal }: ReceiveWaitOptions = {}): Promise<LinkState> {
    const deadline = this.#clock.now() + timeoutMs;
    for (;;) {
      if (this.#failure !== undefined) throw this.#endError();
      signal?.throwIfAborted();
      this.#look();
      if (this.#link.up) return this.#link;
      if (this.#clock.now() >= deadline) {
        throw new Ring3Error("NET_NO_LINK", `${this.address} had no link within ${timeoutMs} ms; is it plugged in?`);
      }
      await sleep(this.#clock, Math.min(20, timeoutMs), signal);
    }
  }

  statistics(): NetStatistics {
    const queues = this.#own.map(({ queue }) => queue.statistics());
    const sum = (pick: (queue: (typeof queues)[number]) => number): number => queues.reduce((s, q) => s + pick(q), 0);
    const lengthErrors = sum((queue) => queue.rx_length_errors);
    return {
      rx_packets: sum((queue) => queue.rx_packets),
      tx_packets: sum((queue) => queue.tx_packets),
      rx_bytes: sum((queue) => queue.rx_bytes),
      tx_bytes: sum((queue) => queue.tx_bytes),
      rx_errors: lengthErrors,
      tx_errors: sum((queue) => queue.tx_errors),
      rx_dropped: lengthErrors,
      tx_dropped: sum((queue) => queue.tx_errors),
      multicast: 0,
      collisions: 0,
      rx_length_errors: lengthErrors,
      rx_crc_errors: 0,
      rx_missed_errors: 0,
      device: {},
    };
  }

  get mac(): Uint8Array {
    return this.#mac.slice();
  }

  async setMac(mac: Uint8Array): Promise<void> {
    if (mac.length !== 6 || ((mac[0] as number) & 1) === 1 || mac.every((byte) => byte === 0)) {
      throw new Ring3Error("NET_INVALID", "a device's MAC address is six bytes, no multicast address and not all zero");
    }
    await this.#apply(() => this.#filters.applyMac(mac));
    this.#setup.mac = mac.slice();
    this.#mac = mac.slice();
  }

  get mtu(): number {
    return this.#setup.mtu;
  }

  #checkMtu(mtu: number): void {
    if (Number.isInteger(mtu) && mtu >= 68 && mtu <= this.#maxMtu) return;
    throw new Ring3Error(
      "NET_INVALID",
      `${this.address} takes an MTU of 68 to ${this.#maxMtu} with buffers of ${this.pool.bufferBytes} bytes, not ${mtu}`,
    );
  }

  async setMtu(mtu: number): Promise<void> {
    this.#checkMtu(mtu);
    await this.#apply(async () => {});
    this.#setup.mtu = mtu;
  }

  async setReceiveMode(filter: ReceiveModeFilter): Promise<void> {
    const next = { ...this.#setup, filter: { ...filter } };
    await this.#apply(() => this.#filters.applyReceive(next));
    this.#setup.filter = next.filter;
  }

  async setMulticast(addresses: readonly Uint8Array[]): Promise<void> {
    for (const address of addresses) {
      if (address.length !== 6 || ((address[0] as number) & 1) === 0) {
        throw new Ring3Error("NET_INVALID", "a multicast address is six bytes, the first of them odd");
      }
    }
    const next = { ...this.#setup, multicast: addresses.map((address) => address.slice()) };
    await this.#apply(() => this.#filters.applyReceive(next));
    this.#setup.multicast = next.multicast;
  }

  async setVlans(ids: readonly number[] | undefined): Promise<void> {
    if (ids?.some((id) => !(Number.isInteger(id) && id >= 0 && id < 4096)) === true) {
      throw new Ring3Error("NET_INVALID", "a VLAN's id is a number from 0 to 4095");
    }
    const before = this.#setup.vlans;
    if (ids !== undefined && !this.capabilities.vlanFilter) {
      throw new Ring3Error("NOT_SUPPORTED", `${this.address} does not filter VLANs`);
    }
    if (before !== undefined && ids !== undefined) await this.#apply(() => this.#filters.changeVlans(before, ids));
    this.#setup.vlans = ids?.slice();
    // Whether VLANs are filtered at all is negotiated.
    if ((before === undefined) !== (ids === undefined))
      await this.#recoverOrThrow("VLANs are filtered, or not any more");
  }

  async #apply(action: () => Promise<void>): Promise<void> {
    await this.#recovering;
    if (this.#failure !== undefined) throw this.#endError();
    await action();
  }

  /** Queues here take notifications by the registers of this thread; see `queues` for several of them. */
  openWorkerQueue(): Promise<NetWorkerQueue> {
    const message = `queues of ${this.address} belong to the thread that opened it: start it with more \`queues\``;
    return Promise.reject(new Ring3Error("NOT_SUPPORTED", message));
  }

  async reset(): Promise<void> {
    await this.#recoverOrThrow("the program asked for it");
  }

  async #recoverOrThrow(reason: string): Promise<void> {
    await this.#recover(reason);
    if (this.#failure !== undefined) throw this.#endError();
  }

  // ---- What happens to the device

  #keepWatch(): void {
    this.#watch = this.#clock.after(WATCH_MS, () => {
      this.#look();
      if (this.#failure === undefined) this.#keepWatch();
    });
  }

  /** Looks at the device's health, its rings and its link. */
  #look(): void {
    if (this.#recovering !== undefined || this.#failure !== undefined) return;
    let problem: string | undefined;
    this.#touch(() => {
      const health = this.#transport.health();
      if (health === "absent") problem = "its registers read all ones";
      else if (health === "needs-reset") problem = "the device asked for a reset";
      else if (health === "reset") problem = "somebody reset the device";
      else this.#setLink(this.#configuration.link());
    });
    const broken = this.#own.find(({ queue }) => queue.problem !== undefined)?.queue;
    if (broken !== undefined) problem = `queue ${broken.index}: the device ${broken.problem}`;
    if (problem !== undefined) void this.#recoverBroken(problem);
  }

  #recoverBroken(problem: string): Promise<void> {
    const now = this.#clock.now();
    while (this.#broken.length > 0 && now - (this.#broken[0] as number) > BROKEN_WINDOW_MS) this.#broken.shift();
    this.#broken.push(now);
    if (this.#broken.length <= BROKEN_LIMIT) return this.#recover(problem);
    const message = `${this.address} had to be reset ${BROKEN_LIMIT} times within ${BROKEN_WINDOW_MS / 1000} s; the last reason: ${problem}`;
    return this.#end(new Ring3Error("NET_FAILED", message));
  }

  #setLink(link: LinkState): void {
    const { up, speedMbps, fullDuplex } = this.#link;
    if (link.up === up && link.speedMbps === speedMbps && link.fullDuplex === fullDuplex) return;
    this.#link = link;
    this.events.emit("link", link);
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

  #recover(reason: string): Promise<void> {
    if (this.#failure !== undefined) return Promise.resolve();
    if (this.#recovering !== undefined) {
      this.#again = reason;
      return this.#recovering;
    }
    this.#recovering = this.#recoverUntilWell(reason).finally(() => {
      this.#recovering = undefined;
      for (const { wait } of this.#own) wait.wake();
    });
    return this.#recovering;
  }

  async #recoverUntilWell(reason: string): Promise<void> {
    this.#setLink(DOWN);
    for (let failed = 0; ; ) {
      this.#again = undefined;
      try {
        for (const { queue } of this.#own) queue.stop("stopped");
        await this.#bringUp();
        if (this.#again === undefined) {
          this.#resets++;
          this.events.emit("reset", { reason });
          return;
        }
      } catch (error) {
        if (this.#failure !== undefined) return;
        if (++failed > RETRIES) {
          await this.#end(isRing3Error(error) ? error : new Ring3Error("NET_FAILED", String(error), { cause: error }));
          return;
        }
        try {
          await sleep(this.#clock, RETRY_MS, this.#fn.gone);
        } catch {
          return;
        }
      }
      if (this.#failure !== undefined) return;
    }
  }

  #watchFunction(): void {
    const { events, gone } = this.#fn;
    const onGone = (): void => {
      const { reason } = gone;
      void this.#end(isRing3Error(reason) ? reason : new Ring3Error("FUNCTION_REMOVED", String(reason)));
    };
    gone.addEventListener("abort", onGone, { once: true });
    const anew = (reason: string): void => {
      this.#touch(() => {
        this.#fn.busMaster = true;
      });
      void this.#recover(reason);
    };
    this.#listening.push(
      { [Symbol.dispose]: () => gone.removeEventListener("abort", onGone) },
      events.on("removal-requested", () => void this.#letGo()),
      events.on("removed", ({ reason }) => void this.#end(removedError(this.#fn, reason))),
      events.on("error", ({ description }) => void this.#recover(description)),
      events.on("recovered", ({ description }) => anew(description)),
      events.on("resumed", ({ sleptMs }) => anew(`the machine slept for ${sleptMs} ms`)),
      events.on("reset", () => anew("somebody reset the function")),
      events.on("power", ({ state }) => {
        if (state === "D0") anew("the function was powered down");
      }),
    );
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
    for (const listening of this.#listening.splice(0)) listening[Symbol.dispose]();
    this.#watch?.[Symbol.dispose]();
    for (const { queue, wait } of this.#own) {
      queue.stop("ended");
      wait.end(error);
    }
    if (!this.#fn.gone.aborted) {
      try {
        await this.#transport.reset();
      } catch (failed) {
        // Without bus mastering the device reaches no memory, whatever it does.
        if (!isRing3Error(failed)) throw failed;
      }
    }
    this.#touch(() => this.#interrupts.close());
    if (!this.#fn.gone.aborted) {
      this.#touch(() => {
        this.#fn.busMaster = false;
      });
    }
    for (const { queue } of this.#own) queue.empty();
    for (const memory of this.#memory.splice(0)) this.#touch(() => memory[Symbol.dispose]());
    this.#touch(() => this.#control?.[Symbol.dispose]());
    this.#touch(() => this.#mapping[Symbol.dispose]());
    if (this.#ownPool) this.#touch(() => this.pool[Symbol.dispose]());
    if (error.code !== "NET_CLOSED") this.events.emit("removed", { code: error.code, reason: error.message });
  }

  /** Resets the device, gives buffers and memory back. The function stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end(new Ring3Error("NET_CLOSED", `the driver of ${this.address} was closed`));
  }
}

function removedError(fn: PciFunction, reason: string): Ring3Error {
  const { gone } = fn;
  if (gone.aborted && isRing3Error(gone.reason)) return gone.reason;
  return new Ring3Error("FUNCTION_REMOVED", `${fn.identity.address} was taken away: ${reason}`);
}

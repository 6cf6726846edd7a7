// The driver of modern virtio network devices: virtio 1.3, section 5.1. Hard about it: a device that breaks the rules of its
// rings, or asks for a reset, has to be reset, and one that does so for ever has to be given up.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { Feature, NetFeature } from "../../specs/virtio/features.ts";
import { IsrStatus, VIRTIO_DEVICE_ID_BASE, VIRTIO_VENDOR_ID, VirtioDeviceId } from "../../specs/virtio/registers.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { NetCapabilities, NetDeviceOptions, NetStatistics, NetWorkerQueue, ReceiveMode } from "../net/device.ts";
import { NetDriver } from "../net/driver.ts";
import { touch } from "../net/function-watch.ts";
import type { NetSetup } from "../net/setup.ts";
import { NO_STATISTICS, queueTotals } from "../net/statistics.ts";
import { ControlQueue } from "./control-queue.ts";
import { NET_HEADER_BYTES, VirtioNetQueue } from "./net-queue.ts";
import { NetConfiguration, NetFilters, wantedFeatures } from "./net-setup.ts";
import { PairMemory } from "./pair-memory.ts";
import { VirtioTransport } from "./transport.ts";

export interface VirtioNetDriverOptions extends NetDeviceOptions {
  /** Packed rings where the device offers them; true by default. */
  readonly packed?: boolean;
  readonly clock?: Clock;
}

/** Of the split ring, section 2.7; a power of two is made of it later. */
const RING_ENTRIES = { least: 2, most: 32_768, unit: 1 } as const;
/** A device that breaks the rules so often within a while is given up. */
const BROKEN_LIMIT = 8;
const BROKEN_WINDOW_MS = 10_000;

/**
 * A virtio network device, in use. `openNetDevice` starts it.
 *
 * @example
 * import { VirtioNetDriver } from "ring3/virtio";
 * await using nic = await VirtioNetDriver.start(fn, { queues: 2, packed: false });
 * console.log(nic.link.up, nic.operation.ring);
 */
export class VirtioNetDriver extends NetDriver<VirtioNetQueue, NetSetup> {
  readonly driver = "virtio-net";
  protected readonly setup: NetSetup;
  readonly #mayPack: boolean;
  readonly #transport: VirtioTransport;
  readonly #configuration: NetConfiguration;
  readonly #broken: number[] = [];
  #mapping: Disposable | undefined;
  /** The pool's first byte as the device sees it. */
  #poolIova = 0;
  #memory: PairMemory[] = [];
  #control: ControlQueue | undefined;
  #filters: NetFilters;
  #maxPairs = 1;
  #deviceMtu = 65_535;
  #entries = 0;
  #packed = false;

  private constructor(fn: PciFunction, transport: VirtioTransport, options: VirtioNetDriverOptions) {
    super(fn, options, { queues: { least: 1, most: 0x8000 }, ringEntries: RING_ENTRIES, patient: false });
    if (this.pool.headroom < NET_HEADER_BYTES) {
      throw new Ring3Error(
        "NET_INVALID",
        `virtio puts ${NET_HEADER_BYTES} bytes before each frame, and the pool has a headroom of ${this.pool.headroom}`,
      );
    }
    this.#mayPack = options.packed !== false;
    this.#transport = transport;
    this.#configuration = new NetConfiguration(transport);
    this.#filters = new NetFilters(transport, undefined);
    this.setup = { mac: undefined, mtu: this.settings.mtu, filter: {}, multicast: [], vlans: undefined };
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
    const transport = new VirtioTransport(fn, options.clock ?? systemClock);
    const driver = new VirtioNetDriver(fn, transport, options);
    await driver.life.start();
    return driver;
  }

  protected makeQueue(index: number): VirtioNetQueue {
    if (this.#mapping === undefined) {
      const mapping = this.pool.map(this.fn.dma);
      this.#mapping = mapping;
      this.#poolIova = mapping.iova;
    }
    return new VirtioNetQueue(index, this.pool, () => this.endError);
  }

  /** Section 3.1.1. */
  protected async bringUp(): Promise<Uint8Array> {
    const transport = this.#transport;
    const { negotiated } = transport;
    await transport.reset();
    for (const queue of this.queues) queue.empty();
    this.interrupts.open();
    transport.negotiate(wantedFeatures(this.setup, this.#mayPack));
    const packed = negotiated.has(Feature.RING_PACKED);
    this.#maxPairs = this.#configuration.maxPairs();
    this.#deviceMtu = this.#configuration.maxMtu();
    const pairs = this.queues.length;
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
    const msix = this.interrupts.kind === "msix";
    transport.configVector(msix ? this.interrupts.otherVector : undefined);
    for (const [index, { receive, transmit }] of rings.entries()) {
      const vector = msix ? this.interrupts.vectorOf(index) : undefined;
      transport.enableQueue(2 * index, this.#entries, receive.addresses, vector);
      transport.enableQueue(2 * index + 1, this.#entries, transmit.addresses, undefined);
    }
    this.#control?.enable();
    const notify = transport.notifyRegisters;
    const places = rings.map((_, index) => [transport.notifyOffset(2 * index), transport.notifyOffset(2 * index + 1)]);
    transport.driverOk();
    this.#filters = new NetFilters(transport, this.#control);
    await this.#filters.applyPairs(pairs);
    await this.#filters.apply(this.setup);
    for (const [index, queue] of this.queues.entries()) {
      const { receive, transmit } = rings[index] as (typeof rings)[number];
      const [receiveNotify = 0, transmitNotify = 0] = places[index] ?? [];
      queue.start({
        index,
        pool: this.pool,
        poolIova: this.#poolIova,
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
    this.setLink(this.#configuration.link());
    return this.#configuration.mac();
  }

  /** Memory for the rings, of the size that both sides take; made once, unless the device comes back another. */
  #makeRings(pairs: number, packed: boolean): ReturnType<PairMemory["rings"]>[] {
    let entries = this.settings.ringEntries;
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
      for (let pair = 0; pair < pairs; pair++) this.#memory.push(new PairMemory(this.fn, entries, packed));
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
    this.#control = new ControlQueue(this.fn, this.#transport, index, size, packed, this.clock);
  }

  get capabilities(): NetCapabilities {
    const { negotiated } = this.#transport;
    return {
      maxQueues: this.#maxPairs,
      maxMtu: this.maxMtu(),
      receiveChecksums: negotiated.has(NetFeature.GUEST_CSUM),
      ipv4Checksum: false,
      l4Checksum: negotiated.has(NetFeature.CSUM),
      vlanOffload: false,
      vlanFilter: this.#transport.offered().has(NetFeature.CTRL_VLAN),
      promiscuous: true,
      receiveSteering: this.queues.length > 1,
    };
  }

  protected maxMtu(): number {
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
    const ring = this.#packed ? "packed" : "split";
    const { kind } = this.interrupts;
    return { interrupts: kind, receiveMode: this.mode, ring, ringEntries: this.#entries, resets: this.life.resets };
  }

  /** The device counts nothing itself. */
  statistics(): NetStatistics {
    const { rx_packets, rx_bytes, tx_packets, tx_bytes, rx_length_errors, tx_errors } = queueTotals(this.queues);
    const received = {
      rx_packets,
      rx_bytes,
      rx_errors: rx_length_errors,
      rx_dropped: rx_length_errors,
      rx_length_errors,
    };
    return { ...NO_STATISTICS, ...received, tx_packets, tx_bytes, tx_errors, tx_dropped: tx_errors };
  }

  // --- Interrupts and filters ----------------------------------------------------------------------------------------

  protected arm(queue: number): void {
    this.queues[queue]?.arm();
  }

  protected quiet(queue: number): void {
    this.queues[queue]?.quiet();
  }

  protected acknowledge(): { readonly receive: boolean } {
    return { receive: IsrStatus.QUEUE.test(this.#transport.takeInterruptStatus()) };
  }

  protected applyMac(mac: Uint8Array): Promise<void> {
    return this.#filters.applyMac(mac);
  }

  /** The device has a limit, and no setting. */
  protected applyMtu(): Promise<void> {
    return Promise.resolve();
  }

  protected applyFilter(setup: NetSetup): Promise<void> {
    return this.#filters.applyReceive(setup);
  }

  protected applyMulticast(setup: NetSetup): Promise<void> {
    return this.#filters.applyReceive(setup);
  }

  protected async applyVlans({ vlans }: NetSetup): Promise<void> {
    const before = this.setup.vlans;
    if (vlans !== undefined && !this.capabilities.vlanFilter) {
      throw new Ring3Error("NOT_SUPPORTED", `${this.address} does not filter VLANs`);
    }
    if (before !== undefined && vlans !== undefined) {
      await this.#filters.changeVlans(before, vlans);
    } else if (before !== vlans) {
      // Whether VLANs are filtered at all is negotiated.
      this.setup.vlans = vlans;
      await this.life.restart("VLANs are filtered, or not any more");
    }
  }

  /** Queues here take notifications by the registers of this thread; see `queues` for several of them. */
  openWorkerQueue(): Promise<NetWorkerQueue> {
    const message = `queues of ${this.address} belong to the thread that opened it: start it with more \`queues\``;
    return Promise.reject(new Ring3Error("NOT_SUPPORTED", message));
  }

  // --- What happens to the device ------------------------------------------------------------------------------------

  protected inspect(): string | undefined {
    let problem: string | undefined;
    touch(() => {
      const health = this.#transport.health();
      if (health === "absent") problem = "its registers read all ones";
      else if (health === "needs-reset") problem = "the device asked for a reset";
      else if (health === "reset") problem = "somebody reset the device";
      else this.setLink(this.#configuration.link());
    });
    const broken = this.queues.find((queue) => queue.problem !== undefined);
    if (broken !== undefined) problem = `queue ${broken.index}: the device ${broken.problem}`;
    if (problem === undefined || !this.#isTooMuch()) return problem;
    const often = `${BROKEN_LIMIT} times within ${BROKEN_WINDOW_MS / 1000} s`;
    const message = `${this.address} had to be reset ${often}; the last reason: ${problem}`;
    void this.life.end(new Ring3Error("NET_FAILED", message));
    return undefined;
  }

  /** Whether the device had too many problems lately, with one more now. */
  #isTooMuch(): boolean {
    const now = this.clock.now();
    const broken = this.#broken;
    while (broken.length > 0 && now - (broken[0] as number) > BROKEN_WINDOW_MS) broken.shift();
    return broken.push(now) > BROKEN_LIMIT;
  }

  protected quiesce(): Promise<void> {
    for (const queue of this.queues) queue.stop("stopped");
    return Promise.resolve();
  }

  protected endQueues(): void {
    for (const queue of this.queues) queue.stop("ended");
  }

  protected stopDevice(): Promise<void> {
    return this.#transport.reset();
  }

  protected release(): Promise<void> {
    for (const queue of this.queues) queue.empty();
    for (const memory of this.#memory.splice(0)) touch(() => memory[Symbol.dispose]());
    touch(() => this.#control?.[Symbol.dispose]());
    touch(() => this.#mapping?.[Symbol.dispose]());
    return Promise.resolve();
  }
}

// The driver of modern virtio network devices: virtio 1.3, section 5.1. Hard about it: a device that breaks the rules of its
// rings, or asks for a reset, has to be reset, and one that does so for ever has to be given up.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { Feature, NetFeature } from "../../specs/virtio/features.ts";
import { IsrStatus, VIRTIO_DEVICE_ID_BASE, VIRTIO_VENDOR_ID, VirtioDeviceId } from "../../specs/virtio/registers.ts";
import { type Clock, systemClock } from "../clock.ts";
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
import { poolBuffers } from "../net/settings.ts";
import type { NetSetup } from "../net/setup.ts";
import { NO_STATISTICS, queueTotals } from "../net/statistics.ts";
import { ControlQueue } from "./control-queue.ts";
import type { VirtioNetQueue } from "./net-queue.ts";
import { NetConfiguration, NetFilters, wantedFeatures } from "./net-setup.ts";
import type { RingShape } from "./pair-memory.ts";
import { PairSet, type VirtioWorkerQueue } from "./pair-set.ts";
import { PairFeature } from "./queue-place.ts";
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
  readonly #shape: RingShape;
  readonly #pairs: PairSet;
  readonly #transport: VirtioTransport;
  readonly #configuration: NetConfiguration;
  readonly #broken: number[] = [];
  #control: ControlQueue | undefined;
  #filters: NetFilters;
  #maxPairs = 1;
  #deviceMtu = 65_535;

  private constructor(
    fn: PciFunction,
    transport: VirtioTransport,
    shapeFor: (ringEntries: number) => RingShape,
    options: VirtioNetDriverOptions,
  ) {
    super(fn, options, { queues: { least: 1, most: 0x8000 }, ringEntries: RING_ENTRIES, patient: false });
    this.#transport = transport;
    this.#shape = shapeFor(this.settings.ringEntries);
    const emit = options.loops !== "typescript";
    this.#pairs = new PairSet(fn, transport, {
      shape: this.#shape,
      emit,
      clock: this.clock,
      ended: () => this.endError,
    });
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
    // After a reset the device says how large its queues can be.
    await transport.reset();
    const driver = new VirtioNetDriver(fn, transport, (entries) => shapeOf(transport, entries, options), options);
    await driver.life.start();
    return driver;
  }

  protected makeQueue(): VirtioNetQueue {
    return this.#pairs.add(this.pool);
  }

  /** Section 3.1.1. */
  protected async bringUp(): Promise<Uint8Array> {
    const transport = this.#transport;
    const { negotiated } = transport;
    await transport.reset();
    this.#pairs.empty();
    this.interrupts.open();
    const packed = this.#shape.kind === "packed";
    transport.negotiate(wantedFeatures(this.setup, packed));
    if (packed !== negotiated.has(Feature.RING_PACKED)) {
      throw new Ring3Error("VIRTIO_PROTOCOL", `${this.address} does not offer packed rings any more`);
    }
    this.#maxPairs = this.#configuration.maxPairs();
    this.#deviceMtu = this.#configuration.maxMtu();
    if (negotiated.has(NetFeature.MQ) && !negotiated.has(NetFeature.CTRL_VQ)) {
      throw new Ring3Error(
        "VIRTIO_PROTOCOL",
        `${this.address} has several queues and no control queue to switch them on`,
      );
    }
    this.#pairs.prepare(this.#maxPairs);
    this.#makeControl(packed);
    const msix = this.interrupts.kind === "msix";
    transport.configVector(msix ? this.interrupts.otherVector : undefined);
    this.#pairs.enable((pair) => (msix ? this.interrupts.vectorOf(pair) : undefined));
    this.#control?.enable();
    transport.driverOk();
    this.#filters = new NetFilters(transport, this.#control);
    await this.#filters.applyPairs(this.#pairs.inUse);
    await this.#filters.apply(this.setup);
    this.#pairs.start({
      features:
        (negotiated.has(Feature.EVENT_IDX) ? PairFeature.EVENT_INDEX : 0) |
        (negotiated.has(NetFeature.MRG_RXBUF) ? PairFeature.MERGEABLE : 0) |
        (negotiated.has(NetFeature.CSUM) ? PairFeature.CHECKSUM : 0),
      frameBytes: Math.min(this.pool.room, this.#deviceMtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES),
    });
    this.setLink(this.#configuration.link());
    return this.#configuration.mac();
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
      receiveSteering: this.#pairs.inUse > 1,
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
    /** Whether the burst loops are emitted. */
    readonly emitted: boolean;
  } {
    return {
      interrupts: this.interrupts.kind,
      receiveMode: this.mode,
      ring: this.#shape.kind,
      ringEntries: this.#shape.size,
      resets: this.life.resets,
      emitted: this.queues.every((queue) => queue.emitted),
    };
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

  // --- Queues of workers ---------------------------------------------------------------------------------------------

  /** Where the device was not given enough rings at its start it is reset; and so it is when a worker's queue is closed. */
  async openWorkerQueue(options: NetWorkerQueueOptions = {}): Promise<NetWorkerQueue> {
    await this.life.settled();
    const buffers = options.buffers ?? poolBuffers(1, this.#shape.size);
    const pool = { buffers, bufferBytes: this.pool.bufferBytes, headroom: this.pool.headroom };
    const { queue, ready } = this.#pairs.open(this.driver, this.#maxPairs, pool, async () => {
      // The device lets go of a queue's buffers, and of its place among the first, in a reset only.
      if (this.failure === undefined) await this.life.recover("a worker's queue was closed");
    });
    try {
      if (ready) await this.#use(queue);
      else await this.life.restart("a queue was opened for a worker");
      return queue;
    } catch (error) {
      await queue[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Has a device that knows the queue's rings use them; where the device is reset meanwhile, that does it. */
  async #use(queue: VirtioWorkerQueue): Promise<void> {
    try {
      await this.#filters.applyPairs(this.#pairs.inUse);
    } catch (error) {
      if (this.life.well) throw error;
    }
    if (this.life.well) this.#pairs.renew(queue);
    else await this.life.settled();
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
    problem = this.#pairs.problem() ?? problem;
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
    return this.#pairs.quiesce();
  }

  protected endQueues(): void {
    this.#pairs.end();
  }

  protected stopDevice(): Promise<void> {
    return this.#transport.reset();
  }

  protected async release(): Promise<void> {
    await this.#pairs.release();
    touch(() => this.#control?.[Symbol.dispose]());
  }
}

/** The rings that a device that was reset takes: packed where it can, and not larger than its first pair's. */
function shapeOf(transport: VirtioTransport, entries: number, { packed }: VirtioNetDriverOptions): RingShape {
  const most = Math.min(entries, transport.queueSize(0), transport.queueSize(1));
  if (most === 0) throw new Ring3Error("VIRTIO_PROTOCOL", `${transport.address} has no pair of queues`);
  if (packed !== false && transport.offered().has(Feature.RING_PACKED)) return { kind: "packed", size: most };
  return { kind: "split", size: 2 ** Math.floor(Math.log2(most)) };
}

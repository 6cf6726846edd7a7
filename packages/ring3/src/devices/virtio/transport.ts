// A modern (non-transitional) virtio function on PCI: virtio 1.3, section 4.1, with the status machine of section 2.1. What
// the device does with its buffers is the subclass's. Hard about it: everything that the driver writes may be wrong, at any
// moment, and the worst answer to it is DEVICE_NEEDS_RESET.
import { Ring3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import type { BarIndex } from "../../pci/function.ts";
import { Feature, type FeatureSet } from "../../specs/virtio/features.ts";
import {
  IsrStatus,
  VIRTIO_COMMON_SIZE,
  VIRTIO_DEVICE_ID_BASE,
  VIRTIO_NO_VECTOR,
  VIRTIO_VENDOR_ID,
  VirtioCommon,
} from "../../specs/virtio/registers.ts";
import type { IoEventFd } from "../../virtual/declaration.ts";
import {
  type MemoryMap,
  msix,
  pcie,
  pm,
  type ResetKind,
  StateFields,
  type StateRecord,
  VirtualFunction,
} from "../../virtual/index.ts";
import { type DeviceClock, machineClock } from "../clock.ts";
import { CommonConfiguration } from "./common-configuration.ts";
import type { QueueRegisters } from "./queue-registers.ts";
import { virtioCapability, virtioWindow } from "./window-capability.ts";

/** What every virtio device can be asked for. */
export interface VirtioOptions {
  readonly name?: string;
  /** Entries of each queue at most: a power of two up to 1024; 256 by default. */
  readonly queueSize?: number;
  /** Bytes between the places where queues are notified: 4 (default), or 0 for one place for all. */
  readonly notifyMultiplier?: 0 | 4;
  /** Whether packed rings are offered; yes by default. */
  readonly packed?: boolean;
  /** Whether IN_ORDER is offered; no by default. */
  readonly inOrder?: boolean;
  /** Whether NOTIF_CONFIG_DATA is offered; no by default. */
  readonly notificationConfigData?: boolean;
  readonly clock?: DeviceClock;
  readonly arena?: Arena;
}

/** What a kind of virtio device is. */
export interface VirtioModel {
  readonly name: string;
  readonly deviceId: number;
  readonly classCode: number;
  readonly queues: number;
  /** Features of the device itself. */
  readonly features: Iterable<number>;
  /** Bytes of its configuration. */
  readonly configSize: number;
}

const BAR = 0;
/** Each structure has a page of its own, so that clients can treat them differently. */
const Region = {
  COMMON: 0x0000,
  ISR: 0x1000,
  DEVICE: 0x2000,
  NOTIFY: 0x3000,
  VECTORS: 0x4000,
  PENDING: 0x6000,
} as const;
const BAR_SIZE = 0x8000;
const PAGE = 0x1000;
const MAXIMUM_QUEUE_SIZE = 1024;
/** What one notification may cost before others get their turn, in the units that `serveOne` counts. */
const BURST = 256;
/** Subsystem id of a non-transitional device: 0x40 or higher, section 4.1.2.1. */
const SUBSYSTEM_ID = 0x0040;

/** A virtio function. Subclasses serve its queues. */
export abstract class VirtioFunction extends VirtualFunction {
  /** Configuration as the driver reads it; change it and call {@link configChanged}. */
  protected readonly deviceConfig: Uint8Array;
  protected readonly clock: DeviceClock;
  readonly #common: CommonConfiguration;
  readonly #multiplier: number;
  /** The configuration changed since the driver read it last. */
  #configDirty = false;
  #isr = 0;
  #suspended = false;

  protected constructor(model: VirtioModel, options: VirtioOptions) {
    const { queueSize = 256, notifyMultiplier = 4 } = options;
    if (queueSize < 1 || queueSize > MAXIMUM_QUEUE_SIZE || (queueSize & (queueSize - 1)) !== 0) {
      throw new Ring3Error(
        "VIRTIO_OPTION",
        `queueSize is a power of two up to ${MAXIMUM_QUEUE_SIZE}, not ${queueSize}`,
      );
    }
    const window = { read: noWindow, write: noWindow } as { read: WindowRead; write: WindowWrite };
    super({
      name: options.name ?? model.name,
      modelVersion: 1,
      vendorId: VIRTIO_VENDOR_ID,
      deviceId: VIRTIO_DEVICE_ID_BASE + model.deviceId,
      subsystemVendorId: VIRTIO_VENDOR_ID,
      subsystemId: SUBSYSTEM_ID + model.deviceId,
      revision: 1,
      classCode: model.classCode,
      interruptPin: "A",
      bars: { [BAR]: { size: BAR_SIZE, ioEventFds: doorbells(model.queues, notifyMultiplier) } },
      capabilities: [
        pm(),
        pcie(),
        msix({
          vectors: model.queues + 1,
          table: { bar: BAR, offset: Region.VECTORS },
          pendingBits: { bar: BAR, offset: Region.PENDING },
        }),
        virtioCapability("COMMON", { bar: BAR, offset: Region.COMMON, size: VIRTIO_COMMON_SIZE }),
        virtioCapability("ISR", { bar: BAR, offset: Region.ISR, size: 4 }),
        virtioCapability("DEVICE", { bar: BAR, offset: Region.DEVICE, size: Math.ceil(model.configSize / 4) * 4 }),
        virtioCapability(
          "NOTIFY",
          { bar: BAR, offset: Region.NOTIFY, size: Math.max(4, notifyMultiplier * model.queues) },
          notifyMultiplier,
        ),
        virtioWindow({
          read: (bar, offset, width) => window.read(bar, offset, width),
          write: (bar, offset, width, value) => window.write(bar, offset, width, value),
        }),
      ],
      ...(options.arena === undefined ? {} : { arena: options.arena }),
    });
    window.read = (bar, offset, width) => this.#windowRead(bar, offset, width);
    window.write = (bar, offset, width, value) => this.#windowWrite(bar, offset, width, value);
    this.clock = options.clock ?? machineClock;
    this.#multiplier = notifyMultiplier;
    this.deviceConfig = new Uint8Array(Math.ceil(model.configSize / 4) * 4);
    const features = [
      ...model.features,
      Feature.VERSION_1,
      Feature.ACCESS_PLATFORM,
      Feature.INDIRECT_DESC,
      Feature.EVENT_IDX,
      Feature.RING_RESET,
      ...((options.packed ?? true) ? [Feature.RING_PACKED] : []),
      ...(options.inOrder ? [Feature.IN_ORDER] : []),
      ...(options.notificationConfigData ? [Feature.NOTIF_CONFIG_DATA] : []),
    ];
    this.#common = new CommonConfiguration(
      {
        features,
        queues: model.queues,
        queueSize,
        vectors: this.interrupts.available.msix,
        oneNotifyPlace: notifyMultiplier === 0,
      },
      {
        reset: () => this.#resetState(),
        accepts: (accepted) => this.acceptsFeatures(accepted),
        featuresChosen: () => this.featuresChosen(),
        driverReady: () => this.#notifyAll(),
        enable: (queue) => this.#enable(queue),
        queueReset: (queue) => this.queueReset(queue),
      },
    );
  }

  // ---- the subclass's side

  /**
   * Takes one buffer of `queue` and does what it asks for. Returns what that cost (1 for something small, and 1 for every
   * 64 KiB that it moved), 0 where there is no buffer or it has to wait.
   */
  protected abstract serveOne(queue: QueueRegisters): number;
  /** The driver notified `queue`. By default every buffer in it is served. */
  protected notified(queue: QueueRegisters): void {
    this.serve(queue);
  }
  /** Whether the device may answer FEATURES_OK with yes: what depends on each other is there. */
  protected acceptsFeatures(_features: FeatureSet): boolean {
    return true;
  }
  /** FEATURES_OK was accepted. */
  protected featuresChosen(): void {}
  /** The device was reset: what is under way must not touch the guest any more. */
  protected abstract deviceReset(): void;
  /** One queue was reset by the driver. */
  protected queueReset(_queue: QueueRegisters): void {}
  /** DMA is held back, for a pause or for ever: what is under way must not touch the guest before it is allowed again. */
  protected held(): void {}
  /** Ends what is under way, before the function is saved; nothing new is taken meanwhile. */
  protected finishAll(): void | Promise<void> {}
  /** Memory goes away under what is under way. */
  protected memoryGone(_map: MemoryMap): void {}
  protected writeConfig(_offset: number, _value: number): void {}
  /** A state was taken over. */
  protected restored(): void {}
  protected abstract saveModel(): StateRecord;
  /** Throws `STATE_INVALID` before it changes anything. */
  protected abstract restoreModel(fields: StateFields): void;

  /** What the driver accepted. */
  protected get negotiated(): FeatureSet {
    return this.#common.negotiated;
  }

  protected get queues(): readonly QueueRegisters[] {
    return this.#common.queues;
  }

  /** Whether buffers may be given back: DRIVER_OK, bus mastering, and no error. */
  protected get answering(): boolean {
    return this.#common.alive && this.memory.busMaster;
  }

  /** Whether buffers may be taken, too: not while the function is about to be saved. */
  protected get running(): boolean {
    return this.answering && !this.#suspended;
  }

  /** device_status, for tests and tools. */
  get deviceStatus(): number {
    return this.#common.status;
  }

  protected offers(feature: number): boolean {
    return this.#common.offered.has(feature);
  }

  /** Serves buffers until none is left, at most a burst at a time; the rest in a later turn. */
  protected serve(queue: QueueRegisters): void {
    const { ring } = queue;
    if (ring === undefined || queue.serving || !this.running) return;
    queue.serving = true;
    this.guarded(() => {
      let budget = BURST;
      do {
        for (let cost = 1; budget > 0 && cost > 0 && this.running && queue.ring === ring; budget -= cost) {
          cost = this.serveOne(queue);
        }
        if (!this.answering || queue.ring !== ring) return;
        this.publish(queue);
        if (budget <= 0) {
          this.serveLater(queue);
          return;
        }
      } while (this.running && !this.stalled(queue) && ring.rearm());
    });
    queue.serving = false;
  }

  /** Whether buffers that are there cannot be served now; the subclass calls `serve` when they can. */
  protected stalled(_queue: QueueRegisters): boolean {
    return false;
  }

  /** Calls `notified` in a later turn of the event loop. */
  protected serveLater(queue: QueueRegisters): void {
    if (queue.scheduled) return;
    queue.scheduled = true;
    this.clock.soon(() => {
      queue.scheduled = false;
      if (this.running && queue.ring !== undefined) this.notified(queue);
    });
  }

  /** Shows the driver what was used, and interrupts it where it wants that. */
  protected publish(queue: QueueRegisters): void {
    if (queue.ring?.flush() === true) this.#interrupt(IsrStatus.QUEUE.mask, queue.vector);
  }

  /** The configuration changed: the driver is told. */
  protected configChanged(): void {
    this.#configDirty = true;
    this.#interruptConfig();
  }

  #interruptConfig(): void {
    if (this.#common.driverReady) this.#interrupt(IsrStatus.CONFIG.mask, this.#common.configVector);
  }

  /** Runs what touches rings and guest memory: a broken rule stops the device until it is reset. */
  protected guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#needReset(error);
    }
  }

  #needReset(error: unknown): void {
    this.fail(error);
    if (this.#common.needReset()) this.#interruptConfig();
  }

  #interrupt(cause: number, vector: number): void {
    if (this.interrupts.mode === "msix") {
      // Configuration changes show in ISR status in any case, section 4.1.4.5.1.
      if (cause === IsrStatus.CONFIG.mask) this.#isr |= cause;
      if (vector !== VIRTIO_NO_VECTOR) this.interrupts.raise(vector);
      return;
    }
    this.#isr |= cause;
    this.interrupts.level(true);
  }

  // ---- registers

  protected override read8(_bar: BarIndex, offset: number): number {
    const at = offset % PAGE;
    switch (offset - at) {
      case Region.COMMON:
        return (this.#common.read(at & ~1) >>> (8 * (at & 1))) & 0xff;
      case Region.ISR:
        return at === 0 ? this.#takeIsr() : 0;
      case Region.DEVICE:
        return this.#readConfig(at);
      default:
        return 0;
    }
  }

  protected override read16(bar: BarIndex, offset: number): number {
    if (offset < PAGE) return this.#common.read(offset);
    return this.read8(bar, offset) | (this.read8(bar, offset + 1) << 8);
  }

  protected override read32(bar: BarIndex, offset: number): number {
    return (this.read16(bar, offset) | (this.read16(bar, offset + 2) << 16)) >>> 0;
  }

  protected override write8(_bar: BarIndex, offset: number, value: number): void {
    const at = offset % PAGE;
    switch (offset - at) {
      case Region.COMMON: {
        const shift = 8 * (at & 1);
        // A byte of a wider field keeps the rest; of status and generation only the first can be written.
        if (at === VirtioCommon.DEVICE_STATUS) this.#common.writeStatus(value);
        else if (at !== VirtioCommon.CONFIG_GENERATION) {
          const rest = this.#common.read(at & ~1) & ~(0xff << shift);
          this.#common.write(at & ~1, rest | (value << shift));
        }
        return;
      }
      case Region.DEVICE:
        if (at < this.deviceConfig.length) this.writeConfig(at, value);
        return;
      case Region.NOTIFY:
        this.#notify(at, value);
        return;
    }
  }

  protected override write16(bar: BarIndex, offset: number, value: number): void {
    if (offset < PAGE) this.#common.write(offset, value);
    else if (offset >= Region.NOTIFY && offset < Region.NOTIFY + PAGE) this.#notify(offset - Region.NOTIFY, value);
    else {
      this.write8(bar, offset, value & 0xff);
      this.write8(bar, offset + 1, value >>> 8);
    }
  }

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    if (offset >= Region.NOTIFY && offset < Region.NOTIFY + PAGE) {
      this.#notify(offset - Region.NOTIFY, value & 0xffff);
      return;
    }
    this.write16(bar, offset, value & 0xffff);
    this.write16(bar, offset + 2, value >>> 16);
  }

  #enable(queue: QueueRegisters): void {
    this.guarded(() => queue.enable(this.memory, this.negotiated));
    // A queue that was reset comes back while the device runs.
    if (this.running && queue.enabled) this.notified(queue);
  }

  #notify(offset: number, value: number): void {
    const index = this.#multiplier === 0 ? value : Math.floor(offset / this.#multiplier);
    const queue = this.queues[index];
    if (queue?.ring !== undefined && this.running) this.notified(queue);
  }

  #notifyAll(): void {
    for (const queue of this.queues) if (queue.ring !== undefined && this.running) this.notified(queue);
  }

  #takeIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    this.interrupts.level(false);
    return isr;
  }

  #readConfig(offset: number): number {
    // The generation changes when a change can be seen, so that it cannot wrap between two reads, section 4.1.4.3.1.
    if (this.#configDirty) {
      this.#configDirty = false;
      this.#common.generation = (this.#common.generation + 1) & 0xff;
    }
    return this.deviceConfig[offset] ?? 0;
  }

  #windowRead(bar: number, offset: number, width: 1 | 2 | 4): number {
    if (!this.#inWindow(bar, offset, width)) return 0;
    return width === 1 ? this.read8(BAR, offset) : width === 2 ? this.read16(BAR, offset) : this.read32(BAR, offset);
  }

  #windowWrite(bar: number, offset: number, width: 1 | 2 | 4, value: number): void {
    if (!this.#inWindow(bar, offset, width)) return;
    if (width === 1) this.write8(BAR, offset, value);
    else if (width === 2) this.write16(BAR, offset, value);
    else this.write32(BAR, offset, value);
  }

  /** The window shows the structures and not the vector table, section 4.1.4.9.2. */
  #inWindow(bar: number, offset: number, width: number): boolean {
    return bar === BAR && offset + width <= Region.VECTORS;
  }

  // ---- the function's side

  protected override onReset(_kind: ResetKind): void {
    this.#suspended = false;
    this.#resetState();
  }

  protected override onSuspend(): void | Promise<void> {
    this.#suspended = true;
    return this.finishAll();
  }

  protected override onResume(): void {
    this.#suspended = false;
    this.#resume();
  }

  protected override onDisconnect(): void {
    this.#suspended = false;
  }

  #resetState(): void {
    this.#isr = 0;
    this.#common.reset();
    this.interrupts.level(false);
    this.deviceReset();
  }

  protected override onBusMaster(on: boolean): void {
    if (on) this.#resume();
    else this.held();
  }

  /** What came while nobody looked is served in a later turn: maps come back one by one. */
  #resume(): void {
    for (const queue of this.queues) if (queue.ring !== undefined && this.running) this.serveLater(queue);
  }

  protected override onUnmap(map: MemoryMap): void {
    for (const { ring } of this.queues) ring?.unmapped(map.iova, map.size);
    this.memoryGone(map);
  }

  protected override saveDevice(): StateRecord {
    return {
      common: this.#common.save(),
      configDirty: this.#configDirty,
      isr: this.#isr,
      config: this.deviceConfig.slice(),
      model: this.saveModel(),
    };
  }

  protected override restoreDevice(state: StateRecord): void {
    const fields = new StateFields(state, "virtio");
    const configDirty = fields.boolean("configDirty");
    const isr = fields.number("isr", { maximum: 3 });
    const config = fields.bytes("config", this.deviceConfig.length);
    this.#resetState();
    try {
      this.#common.restore(fields.record("common"), this.memory);
      this.restoreModel(fields.record("model"));
    } catch (error) {
      this.#resetState();
      throw error;
    }
    this.deviceConfig.set(config);
    this.#configDirty = configDirty;
    this.#isr = isr;
    this.restored();
    this.#resume();
  }
}

/** Notifications that need no message: the place says which queue it is, or the value. */
function doorbells(queues: number, multiplier: number): IoEventFd[] {
  return Array.from({ length: queues }, (_, queue) => ({
    offset: Region.NOTIFY + multiplier * queue,
    size: 2,
    ...(multiplier === 0 ? { match: BigInt(queue) } : {}),
  }));
}

type WindowRead = (bar: number, offset: number, width: 1 | 2 | 4) => number;
type WindowWrite = (bar: number, offset: number, width: 1 | 2 | 4, value: number) => void;

function noWindow(): number {
  return 0;
}

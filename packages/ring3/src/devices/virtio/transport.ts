// A modern (non-transitional) virtio function on PCI: virtio 1.3, section 4.1, with the status machine of section 2.1. What
// the device does with its buffers is the subclass's. Hard about it: everything that the driver writes may be wrong, at any
// moment, and the worst answer to it is DEVICE_NEEDS_RESET.
import { isRing3Error } from "../../binary/error.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { FeatureSet } from "../../specs/virtio/features.ts";
import { IsrStatus, VIRTIO_NO_VECTOR, VirtioCommon } from "../../specs/virtio/registers.ts";
import { type MemoryMap, type ResetKind, StateFields, type StateRecord, VirtualFunction } from "../../virtual/index.ts";
import { type DeviceClock, machineClock } from "../clock.ts";
import { CommonConfiguration } from "./common-configuration.ts";
import {
  BAR,
  checkOptions,
  configurationBytes,
  DEFAULT_QUEUE_SIZE,
  declareFunction,
  offeredFeatures,
  PAGE,
  Region,
  type VirtioModel,
  type VirtioOptions,
} from "./function-declaration.ts";
import type { QueueRegisters } from "./queue-registers.ts";

export type { VirtioModel, VirtioOptions } from "./function-declaration.ts";

/** What one notification may cost before others get their turn, in the units that `serveOne` counts. */
const BURST = 256;

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
  /** Calls that are inside {@link guarded}: with memory that is reached by messages, anything may come meanwhile. */
  #inside = 0;
  #resets = 0;
  /** The status before a reset that came while something was going on: it reads as 0 when that has ended. */
  #outlived: number | undefined;

  protected constructor(model: VirtioModel, options: VirtioOptions) {
    checkOptions(options);
    const { queueSize = DEFAULT_QUEUE_SIZE, notifyMultiplier = 4 } = options;
    const window = { read: noWindow, write: noWindow } as { read: WindowRead; write: WindowWrite };
    super(
      declareFunction(model, options, {
        read: (bar, offset, width) => window.read(bar, offset, width),
        write: (bar, offset, width, value) => window.write(bar, offset, width, value),
      }),
    );
    window.read = (bar, offset, width) => this.#windowRead(bar, offset, width);
    window.write = (bar, offset, width, value) => this.#windowWrite(bar, offset, width, value);
    this.clock = options.clock ?? machineClock;
    this.#multiplier = notifyMultiplier;
    this.deviceConfig = new Uint8Array(configurationBytes(model));
    this.#common = new CommonConfiguration(
      {
        features: offeredFeatures(model, options),
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
    if (this.#inside > 0) {
      this.serveLater(queue);
      return;
    }
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

  /**
   * Whether rings and guest memory are being touched further out on the stack: while the client is asked for memory, other
   * devices of the process go on, and may have something for this one.
   */
  protected get busy(): boolean {
    return this.#inside > 0;
  }

  /** Runs what touches rings and guest memory: a broken rule stops the device until it is reset. */
  protected guarded(act: () => void): void {
    const resets = this.#resets;
    this.#inside++;
    try {
      act();
    } catch (error) {
      // What belongs to a life before a reset says nothing about this one.
      if (resets === this.#resets) this.#needReset(error);
      else if (!isRing3Error(error)) this.fail(error);
    } finally {
      this.#inside--;
      if (this.#inside === 0) this.#outlived = undefined;
    }
  }

  /** Counts resets: whoever exchanges messages with the client may find that there was one. */
  protected get resets(): number {
    return this.#resets;
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
        return (this.#readCommon(at & ~1) >>> (8 * (at & 1))) & 0xff;
      case Region.ISR:
        return at === 0 ? this.#takeIsr() : 0;
      case Region.DEVICE:
        return this.#readConfig(at);
      default:
        return 0;
    }
  }

  protected override read16(bar: BarIndex, offset: number): number {
    if (offset < PAGE) return this.#readCommon(offset);
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

  #readCommon(offset: number): number {
    const value = this.#common.read(offset);
    if (offset !== VirtioCommon.DEVICE_STATUS || this.#outlived === undefined) return value;
    return (value & ~0xff) | this.#outlived;
  }

  /** The driver has something in `queue`. */
  #tell(queue: QueueRegisters): void {
    if (this.#inside > 0) this.serveLater(queue);
    else this.notified(queue);
  }

  #enable(queue: QueueRegisters): void {
    this.guarded(() => queue.enable(this.memory, this.negotiated));
    // A queue that was reset comes back while the device runs.
    if (this.running && queue.enabled) this.#tell(queue);
  }

  #notify(offset: number, value: number): void {
    const index = this.#multiplier === 0 ? value : Math.floor(offset / this.#multiplier);
    const queue = this.queues[index];
    if (queue?.ring !== undefined && this.running) this.#tell(queue);
  }

  #notifyAll(): void {
    for (const queue of this.queues) if (queue.ring !== undefined && this.running) this.#tell(queue);
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
    this.#resets++;
    if (this.#inside > 0 && this.#common.status !== 0) this.#outlived ??= this.#common.status;
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

  /** What was used lies in the driver's memory, and may be more than the state knows of. */
  protected override onStale(): void {
    if (this.#common.driverReady && this.#common.needReset()) this.#interruptConfig();
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
    // Without MSI-X the line is the OR of the causes, section 4.1.4.5.1.
    if (isr !== 0 && this.interrupts.mode !== "msix") this.interrupts.level(true);
    this.restored();
    this.#resume();
  }
}

type WindowRead = (bar: number, offset: number, width: 1 | 2 | 4) => number;
type WindowWrite = (bar: number, offset: number, width: 1 | 2 | 4, value: number) => void;

function noWindow(): number {
  return 0;
}

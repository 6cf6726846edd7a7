// The common configuration structure: features, device status, queues. Virtio 1.3, sections 2.1, 2.2 and 4.1.4.3. Every field
// begins at an even offset, so that accesses of any width come here as halfwords.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { Feature, FeatureSet } from "../../specs/virtio/features.ts";
import { DeviceStatus, VIRTIO_NO_VECTOR, VirtioCommon } from "../../specs/virtio/registers.ts";
import type { StateRecord } from "../../virtual/state.ts";
import type { StateFields } from "../../virtual/state-fields.ts";
import { QueueRegisters } from "./queue-registers.ts";
import type { RingMemory } from "./virtqueue.ts";

/** What the registers ask of their function. */
export interface CommonListener {
  /** Zero was written to the status. */
  reset(): void;
  /** Whether these features, all of them offered, go together. */
  accepts(features: FeatureSet): boolean;
  /** FEATURES_OK was accepted. */
  featuresChosen(): void;
  /** DRIVER_OK was set. */
  driverReady(): void;
  /** A queue is to be enabled. */
  enable(queue: QueueRegisters): void;
  queueReset(queue: QueueRegisters): void;
}

export interface CommonOptions {
  readonly features: Iterable<number>;
  readonly queues: number;
  readonly queueSize: number;
  /** MSI-X vectors of the function. */
  readonly vectors: number;
  /** Whether all queues are notified at one place. */
  readonly oneNotifyPlace: boolean;
}

export class CommonConfiguration {
  readonly offered: FeatureSet;
  /** What the driver accepted, once it has. */
  readonly negotiated: FeatureSet = new FeatureSet();
  readonly queues: readonly QueueRegisters[];
  configVector: number = VIRTIO_NO_VECTOR;
  generation = 0;
  readonly #listener: CommonListener;
  readonly #vectors: number;
  readonly #oneNotifyPlace: boolean;
  readonly #written: FeatureSet = new FeatureSet();
  #status = 0;
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;

  constructor(options: CommonOptions, listener: CommonListener) {
    this.offered = new FeatureSet(options.features);
    this.queues = Array.from({ length: options.queues }, (_, index) => new QueueRegisters(index, options.queueSize));
    this.#vectors = options.vectors;
    this.#oneNotifyPlace = options.oneNotifyPlace;
    this.#listener = listener;
  }

  get status(): number {
    return this.#status;
  }

  get driverReady(): boolean {
    return DeviceStatus.DRIVER_OK.test(this.#status);
  }

  /** DRIVER_OK, and neither side gave up. */
  get alive(): boolean {
    const stopped = DeviceStatus.DEVICE_NEEDS_RESET.mask | DeviceStatus.FAILED.mask;
    return (this.#status & (DeviceStatus.DRIVER_OK.mask | stopped)) === DeviceStatus.DRIVER_OK.mask;
  }

  /** Sets DEVICE_NEEDS_RESET; `false` where it was set. */
  needReset(): boolean {
    if (DeviceStatus.DEVICE_NEEDS_RESET.test(this.#status)) return false;
    this.#status |= DeviceStatus.DEVICE_NEEDS_RESET.mask;
    return true;
  }

  reset(): void {
    this.#status = 0;
    this.#deviceFeatureSelect = 0;
    this.#driverFeatureSelect = 0;
    this.#queueSelect = 0;
    this.configVector = VIRTIO_NO_VECTOR;
    this.#written.clear();
    this.negotiated.clear();
    for (const queue of this.queues) queue.reset();
  }

  /** The halfword at `offset`, an even one. */
  read(offset: number): number {
    const queue = this.queues[this.#queueSelect];
    const half = (word: number, first: number): number => (offset === first ? word & 0xffff : word >>> 16);
    switch (offset) {
      case VirtioCommon.DEVICE_FEATURE_SELECT:
      case VirtioCommon.DEVICE_FEATURE_SELECT + 2:
        return half(this.#deviceFeatureSelect, VirtioCommon.DEVICE_FEATURE_SELECT);
      case VirtioCommon.DEVICE_FEATURE:
      case VirtioCommon.DEVICE_FEATURE + 2:
        return half(this.offered.word(this.#deviceFeatureSelect), VirtioCommon.DEVICE_FEATURE);
      case VirtioCommon.DRIVER_FEATURE_SELECT:
      case VirtioCommon.DRIVER_FEATURE_SELECT + 2:
        return half(this.#driverFeatureSelect, VirtioCommon.DRIVER_FEATURE_SELECT);
      case VirtioCommon.DRIVER_FEATURE:
      case VirtioCommon.DRIVER_FEATURE + 2:
        return half(this.#written.word(this.#driverFeatureSelect), VirtioCommon.DRIVER_FEATURE);
      case VirtioCommon.CONFIG_MSIX_VECTOR:
        return this.configVector;
      case VirtioCommon.NUM_QUEUES:
        return this.queues.length;
      case VirtioCommon.DEVICE_STATUS:
        return this.#status | (this.generation << 8);
      case VirtioCommon.QUEUE_SELECT:
        return this.#queueSelect;
      case VirtioCommon.QUEUE_SIZE:
        return queue?.size ?? 0;
      case VirtioCommon.QUEUE_MSIX_VECTOR:
        return queue?.vector ?? VIRTIO_NO_VECTOR;
      case VirtioCommon.QUEUE_ENABLE:
        return queue?.enabled ? 1 : 0;
      case VirtioCommon.QUEUE_NOTIFY_OFF:
        return this.#oneNotifyPlace ? 0 : (queue?.index ?? 0);
      case VirtioCommon.QUEUE_NOTIFY_DATA:
        return queue?.index ?? 0;
      default: {
        // A queue's reset is done before its register can be read, so QUEUE_RESET is always 0 here.
        const at = offset - VirtioCommon.QUEUE_DESC_LOW;
        if (at < 0 || offset >= VirtioCommon.QUEUE_NOTIFY_DATA || queue === undefined) return 0;
        return ((queue.addresses[at >> 2] as number) >>> (8 * (at & 2))) & 0xffff;
      }
    }
  }

  /** Writes the halfword at `offset`, an even one. */
  write(offset: number, value: number): void {
    const merge = (word: number, first: number): number =>
      (offset === first ? (word & 0xffff_0000) | value : (word & 0xffff) | (value << 16)) >>> 0;
    switch (offset) {
      case VirtioCommon.DEVICE_FEATURE_SELECT:
      case VirtioCommon.DEVICE_FEATURE_SELECT + 2:
        this.#deviceFeatureSelect = merge(this.#deviceFeatureSelect, VirtioCommon.DEVICE_FEATURE_SELECT);
        return;
      case VirtioCommon.DRIVER_FEATURE_SELECT:
      case VirtioCommon.DRIVER_FEATURE_SELECT + 2:
        this.#driverFeatureSelect = merge(this.#driverFeatureSelect, VirtioCommon.DRIVER_FEATURE_SELECT);
        return;
      case VirtioCommon.DRIVER_FEATURE:
      case VirtioCommon.DRIVER_FEATURE + 2: {
        if (DeviceStatus.FEATURES_OK.test(this.#status)) return;
        const word = this.#written.word(this.#driverFeatureSelect);
        this.#written.setWord(this.#driverFeatureSelect, merge(word, VirtioCommon.DRIVER_FEATURE));
        return;
      }
      case VirtioCommon.CONFIG_MSIX_VECTOR:
        this.configVector = this.#checkedVector(value);
        return;
      case VirtioCommon.DEVICE_STATUS:
        this.writeStatus(value & 0xff);
        return;
      case VirtioCommon.QUEUE_SELECT:
        this.#queueSelect = value;
        return;
    }
    const queue = this.queues[this.#queueSelect];
    if (queue !== undefined) this.#writeQueue(queue, offset, value);
  }

  #writeQueue(queue: QueueRegisters, offset: number, value: number): void {
    switch (offset) {
      case VirtioCommon.QUEUE_SIZE:
        queue.resize(value, this.negotiated.has(Feature.RING_PACKED));
        return;
      case VirtioCommon.QUEUE_MSIX_VECTOR:
        queue.vector = this.#checkedVector(value);
        return;
      case VirtioCommon.QUEUE_ENABLE:
        if (value === 1 && DeviceStatus.FEATURES_OK.test(this.#status)) this.#listener.enable(queue);
        return;
      case VirtioCommon.QUEUE_RESET:
        if (value !== 1 || !this.negotiated.has(Feature.RING_RESET)) return;
        queue.reset();
        this.#listener.queueReset(queue);
        return;
      default: {
        const at = offset - VirtioCommon.QUEUE_DESC_LOW;
        if (at < 0 || offset >= VirtioCommon.QUEUE_NOTIFY_DATA || queue.enabled) return;
        const word = queue.addresses[at >> 2] as number;
        queue.addresses[at >> 2] = (at & 2) === 0 ? (word & 0xffff_0000) | value : (word & 0xffff) | (value << 16);
      }
    }
  }

  #checkedVector(vector: number): number {
    return vector < this.#vectors ? vector : VIRTIO_NO_VECTOR;
  }

  /** Bits are set one after the other and never taken back, but all at once by zero; DEVICE_NEEDS_RESET is the device's. */
  writeStatus(value: number): void {
    if (value === 0) {
      this.#listener.reset();
      return;
    }
    let set = value & ~this.#status & ~DeviceStatus.DEVICE_NEEDS_RESET.mask;
    if (DeviceStatus.FEATURES_OK.test(set)) {
      if (this.#featuresFit()) {
        this.negotiated.copy(this.#written);
        this.#listener.featuresChosen();
      } else set &= ~DeviceStatus.FEATURES_OK.mask;
    }
    if (!DeviceStatus.FEATURES_OK.test(this.#status | set)) set &= ~DeviceStatus.DRIVER_OK.mask;
    this.#status |= set;
    if (DeviceStatus.DRIVER_OK.test(set)) this.#listener.driverReady();
  }

  #featuresFit(): boolean {
    const features = this.#written;
    return features.has(Feature.VERSION_1) && features.within(this.offered) && this.#listener.accepts(features);
  }

  save(): StateRecord {
    return {
      status: this.#status,
      features: [this.#written.low, this.#written.high],
      selects: [this.#deviceFeatureSelect, this.#driverFeatureSelect, this.#queueSelect],
      configVector: this.configVector,
      generation: this.generation,
      queues: this.queues.map((queue) => queue.save()),
    };
  }

  /** Takes what `save` gave, after a reset. Throws `STATE_INVALID`; reset again then. */
  restore(fields: StateFields, memory: RingMemory): void {
    const status = fields.number("status", { maximum: 0xff });
    const [low = 0, high = 0] = fields.numbers("features", 0xffff_ffff, 2);
    const selects = fields.numbers("selects", 0xffff_ffff, 3);
    const queues = fields.records("queues", this.queues.length);
    this.#written.low = low;
    this.#written.high = high;
    const chosen = DeviceStatus.FEATURES_OK.test(status);
    if (queues.length !== this.queues.length || (chosen && !this.#featuresFit())) {
      throw new Ring3Error(
        "STATE_INVALID",
        "a virtio device with other queues or features saved the state; give it to one with equal options",
      );
    }
    if (chosen) this.negotiated.copy(this.#written);
    this.configVector = fields.number("configVector", { maximum: 0xffff });
    this.generation = fields.number("generation", { maximum: 0xff });
    [this.#deviceFeatureSelect = 0, this.#driverFeatureSelect = 0, this.#queueSelect = 0] = selects;
    try {
      for (const [i, queue] of this.queues.entries()) queue.restore(queues[i] as StateFields, memory, this.negotiated);
    } catch (error) {
      if (!isRing3Error(error, "VIRTIO_RING")) throw error;
      throw new Ring3Error("STATE_INVALID", `a saved queue is none: ${error.message}`, { cause: error });
    }
    this.#status = status;
  }
}

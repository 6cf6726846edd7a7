// What a driver has written about one virtqueue, and the ring that follows from it: virtio 1.3, section 4.1.4.3.
import { Feature, type FeatureSet } from "../../specs/virtio/features.ts";
import { VIRTIO_NO_VECTOR } from "../../specs/virtio/registers.ts";
import type { StateRecord } from "../../virtual/state.ts";
import type { StateFields } from "../../virtual/state-fields.ts";
import { PackedQueue } from "./packed-queue.ts";
import type { QueueSettings } from "./ring-area.ts";
import { SplitQueue } from "./split-queue.ts";
import type { RingMemory, Virtqueue } from "./virtqueue.ts";

const AREAS = 3;

/** One virtqueue of a function. */
export class QueueRegisters {
  readonly index: number;
  /** The largest size; 0 where there is no such queue. */
  readonly maximum: number;
  size: number;
  vector: number = VIRTIO_NO_VECTOR;
  /** There once the queue is enabled. */
  ring: Virtqueue | undefined;
  /** Whether it is being served, or will be in a later turn: neither starts twice. */
  serving = false;
  scheduled = false;
  /** Halves of the three addresses: descriptor, driver, device, low before high. */
  readonly addresses: Uint32Array = new Uint32Array(2 * AREAS);

  constructor(index: number, maximum: number) {
    this.index = index;
    this.maximum = maximum;
    this.size = maximum;
  }

  get enabled(): boolean {
    return this.ring !== undefined;
  }

  reset(): void {
    this.size = this.maximum;
    this.vector = VIRTIO_NO_VECTOR;
    this.ring = undefined;
    this.addresses.fill(0);
  }

  /** Takes a size from the driver; one that cannot be is ignored. */
  resize(size: number, packed: boolean): void {
    if (this.enabled || size < 1 || size > this.maximum) return;
    if (packed || (size & (size - 1)) === 0) this.size = size;
  }

  /** Makes the ring. Throws `VIRTIO_RING` where what the driver wrote is no ring. */
  enable(memory: RingMemory, features: FeatureSet): void {
    if (this.enabled || this.maximum === 0) return;
    const address = (area: number): number =>
      (this.addresses[2 * area + 1] as number) * 2 ** 32 + (this.addresses[2 * area] as number);
    const settings: QueueSettings = {
      size: this.size,
      descriptor: address(0),
      driver: address(1),
      device: address(2),
      indirect: features.has(Feature.INDIRECT_DESC),
      eventIndex: features.has(Feature.EVENT_IDX),
    };
    this.ring = features.has(Feature.RING_PACKED)
      ? new PackedQueue(memory, settings)
      : new SplitQueue(memory, settings);
  }

  save(): StateRecord {
    const { available = 0, used = 0, held = 0 } = this.ring?.position ?? {};
    return {
      size: this.size,
      vector: this.vector,
      enabled: this.enabled,
      addresses: Array.from(this.addresses),
      available,
      used,
      held,
    };
  }

  /** Throws `STATE_INVALID` or `VIRTIO_RING`. */
  restore(fields: StateFields, memory: RingMemory, features: FeatureSet): void {
    this.reset();
    this.size = fields.number("size", { maximum: this.maximum });
    this.vector = fields.number("vector", { maximum: 0xffff });
    this.addresses.set(fields.numbers("addresses", 0xffff_ffff, 2 * AREAS));
    if (!fields.boolean("enabled")) return;
    this.enable(memory, features);
    this.ring?.restorePosition({
      available: fields.number("available", { maximum: 0xffff }),
      used: fields.number("used", { maximum: 0xffff }),
      held: fields.number("held", { maximum: 0xffff }),
    });
  }
}

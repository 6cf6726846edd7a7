// What a device model sees of a virtqueue, whichever of the two layouts it has: take buffers, give them back, publish what
// was given back, and ask to be notified again.
import type { MemoryMap } from "../../virtual/guest-memory.ts";
import type { ChainMemory, DescriptorChain } from "./descriptor-chain.ts";

/** What a ring needs of guest memory. */
export interface RingMemory extends ChainMemory {
  find(iova: number, size: number, access: "read" | "write"): MemoryMap | undefined;
}

/** Where a queue stands: what is saved with the device. Counters of 16 bits; in packed rings bit 15 is the wrap counter. */
export interface QueuePosition {
  readonly available: number;
  readonly used: number;
  /** Packed: slots of buffers that the device holds. */
  readonly held: number;
}

/** The device's side of a virtqueue. Every call throws `VIRTIO_RING` or `DMA_FAULT` where the driver broke a rule. */
export interface Virtqueue {
  readonly size: number;
  /** Where the next buffer is expected; assigning a former value takes back what was taken since. */
  readonly position: QueuePosition;
  restorePosition(position: QueuePosition): void;
  /** Takes the next available buffer into `chain`; `false` where there is none. */
  pop(chain: DescriptorChain): boolean;
  /** Takes back the pops since `position` was read; nothing must have been used in between. */
  rewind(position: QueuePosition): void;
  /** Gives a buffer back, `written` bytes of it filled; the driver sees it after `flush`. */
  use(head: number, span: number, written: number): void;
  /** Makes all used buffers visible at once; whether the driver wants an interrupt for them. */
  flush(): boolean;
  /** Asks for a notification of the next available buffer; `true` where one is there already. */
  rearm(): boolean;
  /** Forgets typed arrays over memory that goes away; they are looked up again at the next use. */
  unmapped(iova: number, size: number): void;
}

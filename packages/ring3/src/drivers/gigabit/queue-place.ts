// Where a queue lies: descriptors in DMA memory, and what only the driver sees in memory that no device reaches. Plain numbers,
// so that a queue can travel to another thread, and so that the TypeScript rings and the emitted loops work on the same words.
import { isRing3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import { DAMAGED, DESCRIPTOR_BYTES } from "../../specs/gigabit/descriptors.ts";
import type { PacketPoolHandle } from "../net/packet-pool.ts";
import { QUEUE_WORDS } from "../net/queue-state.ts";

/** Whose descriptors: the 82574's (extended) or the 82576's (advanced). */
export type DescriptorFormat = "e1000e" | "igb";

export interface QueuePlace {
  readonly index: number;
  readonly format: DescriptorFormat;
  /** Descriptors of each ring, a multiple of 8. */
  readonly entries: number;
  /** Arena offsets of the descriptors. */
  readonly receive: number;
  readonly transmit: number;
  /** Arena offset of {@link privateBytes} bytes, a multiple of 64: state words, then the slots. */
  readonly state: number;
  readonly pool: PacketPoolHandle;
  /** The pool's first byte as the device sees it. */
  readonly poolIova: number;
  /** Most bytes that the device puts into a buffer. */
  readonly receiveBytes: number;
  /** Most bytes of a frame to be sent, without the FCS. */
  readonly frameBytes: number;
  /** Offsets of the two tail registers. */
  readonly receiveTail: number;
  readonly transmitTail: number;
}

/**
 * The family's words of a queue's state, beside those of `QueueWord`. RX_SKIP: 1 while in a frame that is dropped because it
 * needs several buffers. TX_CLEAN: the oldest descriptor that was not seen done. TX_OFFLOAD and TX_FLAGS: what the device's
 * context holds.
 */
export const StateWord = { RX_HEAD: 0, RX_SKIP: 1, TX_TAIL: 16, TX_CLEAN: 17, TX_OFFLOAD: 22, TX_FLAGS: 23 } as const;

/** A receive slot is the place of its buffer. A transmit slot is that (-1: none) and the last descriptor of its segment. */
export const TRANSMIT_SLOT_WORDS = 2;
/** A segment, whose last descriptor asks the device to report, ends at the latest after this many packets. */
export const SEGMENT_PACKETS = 32;
/** An Ethernet header: what a frame has at least. */
export const LEAST_FRAME_BYTES = 14;

/** Bytes of the descriptors of both rings: first those to receive. */
export function descriptorBytes(entries: number): number {
  return 2 * entries * DESCRIPTOR_BYTES;
}

/** Bytes of a queue's private memory. */
export function privateBytes(entries: number): number {
  return 4 * (QUEUE_WORDS + entries * (1 + TRANSMIT_SLOT_WORDS));
}

/** Arena offsets of the slots. */
export function slotOffsets({ state, entries }: QueuePlace): { readonly receive: number; readonly transmit: number } {
  const receive = state + 4 * QUEUE_WORDS;
  return { receive, transmit: receive + 4 * entries };
}

/** Tells the device a tail; where the registers are gone or off, an event says so. */
export function ringTail(registers: Registers, offset: number, value: number): void {
  try {
    registers.write32(offset, value);
  } catch (error) {
    if (!isRing3Error(error)) throw error;
  }
}

/** The status bits that say that a frame is damaged. */
export function damagedMask(format: DescriptorFormat): number {
  return format === "igb" ? DAMAGED.IGB : DAMAGED.E1000E;
}

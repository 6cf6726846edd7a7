// Where a queue lies: descriptors in DMA memory, and what only the driver sees in memory that no device reaches. Plain numbers,
// so that a queue can travel to another thread, and so that the TypeScript rings and the emitted loops work on the same words.
import { isRing3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import { DAMAGED, DESCRIPTOR_BYTES } from "../../specs/gigabit/descriptors.ts";
import type { PacketPoolHandle } from "../net/packet-pool.ts";

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
 * State words. RX_SKIP: 1 while in a frame that is dropped because it needs several buffers. TX_CLEAN: the oldest descriptor
 * that was not seen done. TX_OFFLOAD and TX_FLAGS: what the device's context holds. Counters wrap; bytes have two words.
 * CONTROL to FILLED: how the threads agree: what may be done, whether a worker has the queue and is in a burst, whether the
 * receive ring holds buffers.
 */
export const StateWord = {
  RX_HEAD: 0,
  RX_SKIP: 1,
  RX_PACKETS: 2,
  RX_BYTES_LOW: 4,
  RX_BYTES_HIGH: 5,
  RX_ERRORS: 6,
  RX_LENGTH_ERRORS: 7,
  RX_NO_BUFFER: 8,
  TX_TAIL: 16,
  TX_CLEAN: 17,
  TX_PACKETS: 18,
  TX_ERRORS: 19,
  TX_BYTES_LOW: 20,
  TX_BYTES_HIGH: 21,
  TX_OFFLOAD: 22,
  TX_FLAGS: 23,
  CONTROL: 32,
  OWNER: 33,
  BUSY: 34,
  FILLED: 35,
} as const;
/** The control words have a cache line of their own, since another thread looks at them. */
export const STATE_WORDS = 48;
/**
 * Values of CONTROL. STOPPED: the device is being reset, hands off. RENEW: it works again, and whoever owns the queue fills it
 * anew. ENDED: for good.
 */
export const QueueControl = { STOPPED: 0, RENEW: 1, RUNNING: 2, ENDED: 3 } as const;

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
  return 4 * (STATE_WORDS + entries * (1 + TRANSMIT_SLOT_WORDS));
}

/** Arena offsets of the slots. */
export function slotOffsets({ state, entries }: QueuePlace): { readonly receive: number; readonly transmit: number } {
  const receive = state + 4 * STATE_WORDS;
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

/** `count` signed words of the arena: 32-bit integers are what the compiler keeps in registers. */
export function signedWords(arena: Arena, offset: number, count: number): Int32Array {
  return new Int32Array(arena.buffer, offset, count);
}

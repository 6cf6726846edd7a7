// Where a pair of virtqueues lies: rings in DMA memory, and what only the driver sees in memory that no device reaches. Plain
// numbers, so that a queue can travel to another thread, and so that the TypeScript rings and the emitted loops work on the
// same words. What may be another after a reset of the device stands in words and not here.
import type { Arena } from "../../memory/arena.ts";
import { NetHeader } from "../../specs/virtio/structs.ts";
import type { PacketPoolHandle } from "../net/packet-pool.ts";
import { QUEUE_WORDS, signedWords } from "../net/queue-state.ts";

/** Bytes of the header before each frame. */
export const NET_HEADER_BYTES: number = NetHeader.size;

export type RingKind = "split" | "packed";

export interface RingPlace {
  readonly kind: RingKind;
  /** Entries; of a split ring a power of two. */
  readonly size: number;
  /** Arena offset of what the device reaches, a multiple of 64. */
  readonly memory: number;
  /** The same for the device. */
  readonly iova: number;
  /** Arena offset of {@link ringStateBytes}. */
  readonly state: number;
}

export interface VirtioQueuePlace {
  readonly index: number;
  readonly receive: RingPlace;
  readonly transmit: RingPlace;
  /** Arena offset of the pair's words: those of `QueueWord` and {@link PairWord}. */
  readonly state: number;
  readonly pool: PacketPoolHandle;
  /** The pool's first byte as the device sees it. */
  readonly poolIova: number;
}

/**
 * The family's words of a queue's state, beside those of `QueueWord`. RX_SKIP: buffers that are left of a frame that is dropped.
 * The others are said by whoever sets the device up, before the queue is filled: FEATURES has bits of {@link PairFeature};
 * FRAME_BYTES is the most that a frame has; PAIR is the pair that the device knows the queue as; RX_NOTIFY_AT and TX_NOTIFY_AT
 * say where notifications go.
 */
export const PairWord = {
  RX_SKIP: 1,
  FEATURES: 9,
  FRAME_BYTES: 10,
  PAIR: 11,
  RX_NOTIFY_AT: 12,
  TX_NOTIFY_AT: 13,
} as const;
/** What was negotiated: the event index; frames in several buffers; checksums that the device completes. */
export const PairFeature = { EVENT_INDEX: 1, MERGEABLE: 2, CHECKSUM: 4 } as const;

/**
 * Words of a ring. NEXT: where the next buffer is put; a split ring's counts to 2^16. SEEN is a split ring's: the device's index
 * when we last looked. NEXT_TURN and TAKEN_TURN are a packed ring's: the flags, in the upper half of a word, that say in this
 * round that a descriptor is the device's, or ours again. PROBLEM: a {@link RingProblem}; VALUE is what the device said, and MOST
 * what it may say. LIMIT: most bytes that the device writes to a buffer, 0 where it only reads. NOTIFY: an emitted loop saw that
 * the device wants to be notified.
 */
export const RingWord = {
  FREE: 0,
  NEXT: 1,
  TAKEN: 2,
  SEEN: 3,
  NEXT_TURN: 4,
  TAKEN_TURN: 5,
  PROBLEM: 6,
  VALUE: 7,
  MOST: 8,
  EVENT_INDEX: 9,
  LIMIT: 10,
  NOTIFY: 11,
} as const;
/** What a device did that it must not: an identifier, a length, an index of the used ring that cannot be. */
export const RingProblem = { NONE: 0, IDENTIFIER: 1, LENGTH: 2, INDEX: 3 } as const;

const RING_WORDS = 16;

/** Behind the words: the token of each buffer that the device has (-1: none), and the identifiers that are free, as a stack. */
export function ringStateBytes(size: number): number {
  return 4 * (RING_WORDS + 2 * size);
}

/** Arena offsets of the two tables. */
export function ringTables({ state, size }: RingPlace): { readonly tokens: number; readonly identifiers: number } {
  const tokens = state + 4 * RING_WORDS;
  return { tokens, identifiers: tokens + 4 * size };
}

/** The words of a ring. */
export function ringWords(arena: Arena, { state }: RingPlace): Int32Array {
  return signedWords(arena, state, RING_WORDS);
}

/** Bytes of a pair's private memory: its words, then those of the two rings. */
export function pairStateBytes(size: number): number {
  return 4 * QUEUE_WORDS + 2 * ringStateBytes(size);
}

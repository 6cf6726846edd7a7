// The words of a queue that only the driver sees, in memory that no device reaches but every thread: what a queue counted, and
// how the threads agree about it. The words in between are the driver family's own.
import type { Arena } from "../../memory/arena.ts";

/**
 * Words of the state. Counters wrap; bytes have two words. CONTROL to FILLED: what may be done, whether a worker has the queue
 * and is in a burst, whether the rings hold buffers. A family's own words are 0, 1, 9 to 17, and 22 to 31.
 */
export const QueueWord = {
  RX_PACKETS: 2,
  RX_BYTES_LOW: 4,
  RX_BYTES_HIGH: 5,
  RX_ERRORS: 6,
  RX_LENGTH_ERRORS: 7,
  RX_NO_BUFFER: 8,
  TX_PACKETS: 18,
  TX_ERRORS: 19,
  TX_BYTES_LOW: 20,
  TX_BYTES_HIGH: 21,
  CONTROL: 32,
  OWNER: 33,
  BUSY: 34,
  FILLED: 35,
} as const;
/** The control words have a cache line of their own, since another thread looks at them. */
export const QUEUE_WORDS = 48;
/**
 * Values of CONTROL. STOPPED: the device is being reset, hands off. RENEW: it works again, and whoever owns the queue fills it
 * anew. ENDED: for good.
 */
export const QueueControl = { STOPPED: 0, RENEW: 1, RUNNING: 2, ENDED: 3 } as const;

/** `count` signed words of the arena: 32-bit integers are what the compiler keeps in registers. */
export function signedWords(arena: Arena, offset: number, count: number): Int32Array {
  return new Int32Array(arena.buffer, offset, count);
}

/** Adds to a counter of two words. */
export function addBytes(state: Int32Array, low: number, bytes: number): void {
  addCount(state, low + 1, addCount(state, low, bytes));
}

/**
 * Adds to a counter of one word, which wraps, and gives the carry. By halves and without a branch, because V8 throws a burst's
 * code away when a sum leaves 32 bits for the first time, or a branch is taken for the first time: amidst traffic, after 2 GiB.
 */
export function addCount(state: Int32Array, word: number, count: number): number {
  const before = state[word] as number;
  const low = (before & 0xffff) + (count & 0xffff);
  const high = (before >>> 16) + (count >>> 16) + (low >>> 16);
  state[word] = (high << 16) | (low & 0xffff);
  return high >>> 16;
}

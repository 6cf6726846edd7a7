// A virtqueue as a driver of packets uses it: every buffer is one descriptor, and comes back with a token that the driver gave.
// Split and packed rings are two classes of one shape. Hard about both: the device writes while we read and may say anything,
// so each word is read once, and an identifier counts only while its buffer is with the device.
import type { QueueAddresses } from "./transport.ts";

/** Where a ring lies: one zeroed run of memory, as words and for the device. */
export interface RingPlace {
  readonly size: number;
  readonly words: Uint32Array;
  readonly halfwords: Uint16Array;
  readonly iova: number;
  /** Whether the event index was negotiated. */
  readonly eventIndex: boolean;
}

export interface BufferRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  /** Buffers that can be put. */
  readonly free: number;
  /** What the device did that it must not, in words; from then on {@link take} gives nothing. */
  readonly problem: string | undefined;
  /** Bytes that the device wrote to the buffer that was taken last. */
  readonly length: number;
  /** Whether a buffer has come back: one load, safe to spin on. */
  readonly ready: boolean;
  /**
   * Puts a buffer of `length` bytes; `token` is not negative. There must be a free one. The device sees it at
   * {@link publish}.
   */
  put(iova: number, length: number, deviceWrites: boolean, token: number): void;
  /** Shows the device what was put; whether it wants to be notified. */
  publish(): boolean;
  /** The token of a buffer that came back, -1 where there is none. */
  take(): number;
  /** Asks for one interrupt when the next buffer comes back. */
  arm(): void;
  /** Asks for no interrupts. */
  disarm(): void;
  /** Calls `give` with every token that the device has; the ring is empty afterwards. The device must not use it any more. */
  drain(give: (token: number) => void): void;
}

/** Orders our stores before our later loads: any locked operation does. */
const fenceWord: Int32Array = new Int32Array(1);
export function fence(): void {
  Atomics.add(fenceWord, 0, 1);
}

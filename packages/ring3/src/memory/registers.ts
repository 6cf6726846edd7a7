// What a driver reads and writes: a block of device registers. Every call is one access of exactly its width, or an error;
// no access is merged, split, repeated or dropped.

/**
 * A block of device registers, mapped or reached by messages; the caller cannot tell but by speed.
 *
 * Offsets are in bytes from the block's start. An offset that is negative, misaligned for the width, or whose access
 * would pass the end throws `Ring3Error` `REGISTER_RANGE`. Access after the region went away throws `REGION_REVOKED`;
 * while memory decoding is off or the function sleeps in D3, `REGION_DISABLED`. No access ever raises a signal.
 */
export interface Registers {
  /** Size in bytes. */
  readonly size: number;
  /** Where the block's first byte lies in the arena, for emitted loops; `undefined` where it is not mapped. */
  readonly arenaOffset: number | undefined;
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
  /** One 64-bit access. Where the device takes only 32-bit accesses use two, in the order that its datasheet names. */
  read64(offset: number): bigint;
  write8(offset: number, value: number): void;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
  write64(offset: number, value: bigint): void;
}

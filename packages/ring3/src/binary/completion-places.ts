// Where a device writes completions, for whoever wants to find one among all that a device writes: fault plans. The specs
// give it for their device families, since they know which registers and commands say where queues lie.

/** Reads memory that the driver mapped; `undefined` where it mapped none. */
export type MemoryReader = (iova: number, size: number) => Uint8Array | undefined;

/** An entry of a completion queue. */
export interface CompletionPlace {
  readonly queue: number;
  /** IOVA of its first byte. */
  readonly iova: number;
  readonly entries: number;
}

/** Follows a driver's register writes, and tells completions from other memory. */
export interface CompletionPlaces {
  /** A register of 32 bits was written. */
  written(bar: number, offset: number, value: number, memory: MemoryReader): void;
  /** The entry that became valid by a write of the device to `size` bytes from `iova` on. */
  completed(iova: number, size: number): CompletionPlace | undefined;
  /** Changes an entry of 16 bytes so that one thing about it is wrong. */
  spoil(entry: Uint8Array, field: string, place: CompletionPlace, value: number | undefined): void;
}

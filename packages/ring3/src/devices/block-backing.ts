// Where a disk's bytes are: what block devices (nvme, virtio-blk) ask of the thing behind them, and the two that need no
// system: memory, and nothing at all. A file is `fileBacking` of `ring3/linux`, which has the same shape.
import { Ring3Error } from "../binary/error.ts";
import { ArenaRange } from "../memory/arena-range.ts";

/** Says whether anybody still waits for an operation. */
export interface Cancellation {
  /** Once true, the buffers of the operation belong to somebody else: they must be neither written nor read. */
  readonly aborted: boolean;
}

/**
 * The bytes of a disk. Offsets and sizes are in bytes, whole blocks, inside `sizeBytes`.
 *
 * An operation either is done when it returns nothing, or returns a promise. It fails by throwing or rejecting; an `errno`
 * of `ENOSPC`, `EDQUOT`, `EFBIG` (no room) or `EROFS`, `EACCES`, `EBADF` (read only) on the error reaches the guest as such.
 */
export interface BlockBacking {
  readonly sizeBytes: number;
  readonly readOnly?: boolean;
  /** Why no operation needs this backing's methods: `bytes` holds the contents, or `null` (nothing is kept or delivered). */
  readonly contents?: Uint8Array | null;
  /** Where `contents` is, if it lies in an arena: emitted loops reach it there. */
  readonly range?: ArenaRange;
  /** Fills `target`. Where it returns a promise, it looks at `cancellation` each time before it writes to `target`. */
  read(offset: number, target: Uint8Array, cancellation?: Cancellation): Promise<void> | void;
  /**
   * Puts `source` in its place; done means that a reader of any kind sees it, not that it survives a power cut. Where it
   * returns a promise it has copied `source` before, or looks at `cancellation` each time before it reads it.
   */
  write(offset: number, source: Uint8Array, cancellation?: Cancellation): Promise<void> | void;
  /** Everything written before survives a power cut. */
  flush(): Promise<void> | void;
  /** Gives the range's space back; it reads as zeros afterwards. */
  discard?(offset: number, size: number): Promise<void> | void;
  /** Makes the range read as zeros; its space stays allocated. */
  zero?(offset: number, size: number): Promise<void> | void;
}

/**
 * A disk in memory: of `size` zero bytes, or these bytes themselves. A range of the device's own arena makes the fastest
 * disk; it must not be disposed before the device.
 */
export function memoryBacking(
  content: number | Uint8Array | ArenaRange,
): BlockBacking & { readonly contents: Uint8Array } {
  const range = content instanceof ArenaRange ? content : undefined;
  const bytes =
    content instanceof ArenaRange ? content.bytes : typeof content === "number" ? new Uint8Array(content) : content;
  const clear = (offset: number, size: number): void => void bytes.fill(0, offset, offset + size);
  return {
    sizeBytes: bytes.length,
    contents: bytes,
    ...(range === undefined ? {} : { range }),
    read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
    write: (offset, source) => bytes.set(source, offset),
    flush() {},
    discard: clear,
    zero: clear,
  };
}

/**
 * A disk that keeps nothing: reads leave the guest's memory as it is, writes vanish. For measuring what everything but
 * the data costs.
 */
export function nullBacking(sizeBytes: number): BlockBacking & { readonly contents: null } {
  return { sizeBytes, contents: null, read() {}, write() {}, flush() {}, discard() {}, zero() {} };
}

/** Checks what a device was given. Throws `BACKING_INVALID`. */
export function checkBacking(backing: BlockBacking, blockSize: number): void {
  if (!Number.isSafeInteger(backing.sizeBytes) || backing.sizeBytes < 0) {
    throw new Ring3Error("BACKING_INVALID", `a disk of ${backing.sizeBytes} bytes cannot be; give a whole number`);
  }
  if (backing.sizeBytes < blockSize) {
    throw new Ring3Error(
      "BACKING_INVALID",
      `${backing.sizeBytes} bytes hold no block of ${blockSize}; make the disk larger (truncate -s 1G disk.img)`,
    );
  }
}

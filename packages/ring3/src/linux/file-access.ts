// Reads and writes at an offset: config space and regions that are not mapped go this way. Small accesses reuse one
// buffer, since the kernel turns each into one access of that width where the device allows it.
import { Ring3Error } from "../binary/error.ts";
import { systemCallError } from "./errno.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";

/** Reads into `bytes` from `offset`; returns how many bytes came, or minus the errno. */
export function tryReadAt(fd: FileDescriptor, offset: number, bytes: Uint8Array): number {
  const number = fd.number;
  return native.attemptCall(() => native.pread(number, bytes, bytes.length, offset));
}

/** Writes `bytes` at `offset`; returns how many bytes went, or minus the errno. */
export function tryWriteAt(fd: FileDescriptor, offset: number, bytes: Uint8Array): number {
  const number = fd.number;
  return native.attemptCall(() => native.pwrite(number, bytes, bytes.length, offset));
}

/** Fills `bytes` from `offset`. Throws `SYSTEM_CALL`, with `EIO` where the file gives fewer. */
export function readAt(fd: FileDescriptor, offset: number, bytes: Uint8Array): void {
  checkWhole("pread", tryReadAt(fd, offset, bytes), bytes.length);
}

/** Writes all of `bytes` at `offset`. Throws `SYSTEM_CALL`, with `EIO` where the file takes fewer. */
export function writeAt(fd: FileDescriptor, offset: number, bytes: Uint8Array): void {
  checkWhole("pwrite", tryWriteAt(fd, offset, bytes), bytes.length);
}

/** Little-endian integers of a file, one call each, without allocation. */
export class FileIntegers {
  readonly #fd: FileDescriptor;
  readonly #bytes: Uint8Array = new Uint8Array(8);
  readonly #view: DataView = new DataView(this.#bytes.buffer);
  readonly #widths: readonly Uint8Array[] = [1, 2, 4, 8].map((width) => new Uint8Array(this.#bytes.buffer, 0, width));

  constructor(fd: FileDescriptor) {
    this.#fd = fd;
  }

  /** Reads 1, 2 or 4 bytes as an unsigned number. Throws `SYSTEM_CALL`. */
  read(offset: number, width: 1 | 2 | 4): number {
    readAt(this.#fd, offset, this.#of(width));
    return width === 4
      ? this.#view.getUint32(0, true)
      : width === 2
        ? this.#view.getUint16(0, true)
        : this.#view.getUint8(0);
  }

  /** Writes the low 1, 2 or 4 bytes of `value`. Throws `SYSTEM_CALL`. */
  write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#view.setUint32(0, value, true);
    writeAt(this.#fd, offset, this.#of(width));
  }

  read64(offset: number): bigint {
    readAt(this.#fd, offset, this.#bytes);
    return this.#view.getBigUint64(0, true);
  }

  write64(offset: number, value: bigint): void {
    this.#view.setBigUint64(0, value, true);
    writeAt(this.#fd, offset, this.#bytes);
  }

  #of(width: 1 | 2 | 4): Uint8Array {
    return this.#widths[width === 4 ? 2 : width - 1] as Uint8Array;
  }
}

function checkWhole(call: string, result: number, size: number): void {
  if (result === size) return;
  if (result < 0) throw systemCallError(call, -result);
  throw new Ring3Error("SYSTEM_CALL", `${call}: ${result} of ${size} bytes: the range passes the region's end`, {
    errno: "EIO",
    call,
  });
}

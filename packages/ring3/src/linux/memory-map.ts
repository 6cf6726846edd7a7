// mmap: what may be mapped, and how. Touching a page beyond the end of a file raises SIGBUS, which kills the process, so a
// file is mapped only within its size and only where it cannot shrink.
import { fstatSync } from "node:fs";
import { Ring3Error } from "../binary/error.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";

const READ_WRITE = 1 | 2;
export const MAP = { SHARED: 0x01, PRIVATE: 0x02, FIXED: 0x10, ANONYMOUS: 0x20, NORESERVE: 0x4000 } as const;
export const ADVICE = { DONTNEED: 4, HUGEPAGE: 14 } as const;
const SC_PAGESIZE = 30;
const F_GET_SEALS = 1034;
const SEAL_SHRINK = 0x2;

/** How a file is mapped. */
export interface MapOptions {
  /**
   * Whether stores reach the file (the default). Otherwise stores change a private copy of the page, and the descriptor
   * need not be writable; there is no mapping here on which a store is fatal.
   */
  readonly shared?: boolean;
  /**
   * What to do with a file that somebody may truncate later (any but a device and a memfd sealed against shrinking):
   * `refuse` by default, since a peer that truncates it would kill this process; `accept` for files that are your own.
   */
  readonly mayShrink?: "refuse" | "accept";
}

/** Bytes of a page of this system: 4096, on some arm64 systems 16384 or 65536. */
export const pageSize: number = native.sysconf(SC_PAGESIZE);

export function mapFlags(options: MapOptions): number {
  return options.shared === false ? MAP.PRIVATE | MAP.NORESERVE : MAP.SHARED;
}

/** Throws `NOT_MAPPABLE` where mapping this would fail, or could kill the process later. */
export function checkMappable(fd: FileDescriptor, offset: number, size: number, options: MapOptions): void {
  if (!(Number.isSafeInteger(offset) && offset >= 0 && offset % pageSize === 0 && size > 0 && size % pageSize === 0)) {
    throw new Ring3Error("NOT_MAPPABLE", `${size} bytes at ${offset} are not whole pages of ${pageSize} bytes`);
  }
  const status = fstatSync(fd.number);
  if (!status.isFile()) return;
  if (offset + size > status.size) {
    throw new Ring3Error("NOT_MAPPABLE", `${size} bytes at ${offset} pass the end of a file of ${status.size} bytes`);
  }
  const seals = native.attemptCall(() => native.fcntl(fd.number, F_GET_SEALS, 0));
  if (options.mayShrink !== "accept" && (seals < 0 || (seals & SEAL_SHRINK) === 0)) {
    throw new Ring3Error(
      "NOT_MAPPABLE",
      "the file is not sealed against shrinking, so whoever truncates it would kill this process: seal the memfd with " +
        'F_SEAL_SHRINK, or accept the risk for a file of your own (mayShrink: "accept")',
    );
  }
}

/** Maps at an address that the kernel chooses. */
export function mapAnywhere(fd: number, offset: number, size: number, flags: number): number {
  return native.systemCall("mmap", () => native.mmap(0, size, READ_WRITE, flags, fd, offset));
}

/** Maps over `address`. Where that fails the place holds anonymous memory, never a hole. */
export function mapOver(address: number, fd: number, offset: number, size: number, flags: number): void {
  try {
    native.systemCall("mmap", () => native.mmap(address, size, READ_WRITE, flags | MAP.FIXED, fd, offset));
  } catch (error) {
    mapAnonymousOver(address, size);
    throw error;
  }
}

/** Maps fresh zero memory over `address`, committed page by page as it is touched. */
export function mapAnonymousOver(address: number, size: number): void {
  const flags = MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE | MAP.FIXED;
  native.systemCall("mmap", () => native.mmap(address, size, READ_WRITE, flags, -1, 0));
}

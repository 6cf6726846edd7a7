// Memory with a file descriptor: what two processes map to share bytes.
import { Ring3Error } from "../binary/error.ts";
import { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";

const MFD = { CLOEXEC: 1, ALLOW_SEALING: 2, HUGETLB: 4, HUGE_2MB: 21 << 26 } as const;
const F_ADD_SEALS = 1033;
const SEAL = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8 } as const;
const HUGE_PAGE = 2 ** 21;

export interface MemoryFileOptions {
  /** Shown in `/proc/self/maps`. */
  readonly name?: string;
  /** Pages of 2 MiB from the system's pool; fails where `vm.nr_hugepages` is too small. */
  readonly huge?: boolean;
  /** Whether it can neither shrink nor grow from the start; yes by default. */
  readonly sealed?: boolean;
}

/** A memfd of `size` zero bytes that, unless told otherwise, can neither shrink nor grow. */
export function createMemoryFile(
  size: number,
  { name = "ring3", huge = false, sealed = true }: MemoryFileOptions = {},
): FileDescriptor {
  const unit = huge ? HUGE_PAGE : 1;
  if (!(Number.isSafeInteger(size) && size > 0 && size % unit === 0)) {
    throw new Ring3Error("SIZE_INVALID", `${size} is not a size in whole ${huge ? "huge pages of 2 MiB" : "bytes"}`);
  }
  const flags = MFD.CLOEXEC | MFD.ALLOW_SEALING | (huge ? MFD.HUGETLB | MFD.HUGE_2MB : 0);
  const fd = new FileDescriptor(native.systemCall("memfd_create", () => native.memfdCreate(name, flags)));
  try {
    native.systemCall("ftruncate", () => native.ftruncate(fd.number, size));
    if (sealed) seal(fd, SEAL.SHRINK | SEAL.GROW);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Makes the file unwritable from now on; private mappings of it can still be changed. */
export function sealAgainstWriting(fd: FileDescriptor): void {
  seal(fd, SEAL.WRITE | SEAL.SEAL);
}

/** Keeps a peer's memory file from being truncated under a mapping, where the file allows it; `false` where not. */
export function sealAgainstShrinking(fd: FileDescriptor): boolean {
  return native.attemptCall(() => native.fcntl(fd.number, F_ADD_SEALS, SEAL.SHRINK)) === 0;
}

function seal(fd: FileDescriptor, seals: number): void {
  native.systemCall("fcntl F_ADD_SEALS", () => native.fcntl(fd.number, F_ADD_SEALS, seals));
}

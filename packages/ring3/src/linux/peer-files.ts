// What a descriptor that a peer sent is, and what may be done with it: a peer can send anything, and a file that it
// truncates under a mapping, or a call on it that waits, would be the end of this process or a long pause of it.
import { fstatSync, readlinkSync, type Stats } from "node:fs";
import type { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";

const F_GETFL = 3;
const F_SETFL = 4;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const SEAL_SHRINK = 2;
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const STATFS_BYTES = 120;

/** File systems whose files are read and written without another process having a say in it (linux/magic.h). */
const LOCAL_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0x0102_1994, // tmpfs, and every memfd
  0x9584_58f6, // hugetlbfs
  0x8584_58f6, // ramfs
  0xef53, // ext2 to ext4
  0x5846_5342, // XFS
  0x9123_683e, // btrfs
  0xf2f5_2010, // F2FS
  0x2fc1_2fc1, // ZFS
  0x794c_7630, // overlayfs
]);
const HUGETLBFS = 0x9584_58f6;

/** A file that a peer sent. */
export interface PeerFile {
  /** The same for all descriptors of one file. */
  readonly identity: string;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Whether it cannot get shorter any more, so that a mapping of it is safe. */
  readonly sealed: boolean;
  /** Whether reads and writes of it depend on no other process (no FUSE, no network). */
  readonly local: boolean;
  readonly hugePages: boolean;
}

/**
 * Looks at a descriptor, and seals the file against shrinking where that is possible. `undefined` for what is no regular
 * file.
 */
export function examinePeerFile(fd: FileDescriptor): PeerFile | undefined {
  const status: Stats = fstatSync(fd.number);
  if (!status.isFile()) return undefined;
  const number = fd.number;
  const access = native.attemptCall(() => native.fcntl(number, F_GETFL, 0)) & O_ACCMODE;
  const seals = native.attemptCall(() => native.fcntl(number, F_GET_SEALS, 0));
  const sealed =
    seals >= 0 &&
    ((seals & SEAL_SHRINK) !== 0 || native.attemptCall(() => native.fcntl(number, F_ADD_SEALS, SEAL_SHRINK)) === 0);
  // Only tmpfs and hugetlbfs know seals.
  const magic = seals >= 0 && status.blksize <= 65536 ? 0x0102_1994 : fileSystem(number);
  return {
    identity: `${status.dev}:${status.ino}:${access}`,
    sizeBytes: status.size,
    readable: access === O_RDONLY || access === O_RDWR,
    writable: access === O_RDWR,
    sealed,
    local: LOCAL_FILE_SYSTEMS.has(magic),
    hugePages: magic === HUGETLBFS,
  };
}

/**
 * Whether the descriptor is an eventfd. It does not block from now on, for its other owners either: a counter that is full
 * would else stop whoever signals it.
 */
export function becomesSignal(fd: FileDescriptor): boolean {
  try {
    if (readlinkSync(`/proc/self/fd/${fd.number}`) !== "anon_inode:[eventfd]") return false;
  } catch {
    return false;
  }
  const number = fd.number;
  const flags = native.attemptCall(() => native.fcntl(number, F_GETFL, 0));
  if (flags < 0) return false;
  return (
    (flags & O_NONBLOCK) !== 0 || native.attemptCall(() => native.fcntl(number, F_SETFL, flags | O_NONBLOCK)) === 0
  );
}

function fileSystem(fd: number): number {
  const status = new BigUint64Array(STATFS_BYTES / 8);
  const result = native.attemptCall(() => native.fstatfs(fd, new Uint8Array(status.buffer)));
  return result < 0 ? 0 : Number((status[0] as bigint) & 0xffff_ffffn);
}

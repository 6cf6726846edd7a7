// RLIMIT_MEMLOCK, the limit that everybody meets first: need against limit before the call, and the fix in the error.
// type1 counts locked memory of the process (VmLck); iommufd counts pinned memory (VmPin) of all the user's processes.
import { Ring3Error } from "../binary/error.ts";
import { lockedMemory, lockedMemoryLimit, mayLockWithoutLimit } from "../linux/limits.ts";
import { mebibytes } from "./advice.ts";

type LockedCounter = "VmLck" | "VmPin";

function usedBytes(counter: LockedCounter): number {
  const { lockedBytes, pinnedBytes } = lockedMemory();
  return counter === "VmLck" ? lockedBytes : pinnedBytes;
}

/** Bytes that the process may still pin; `undefined` for no limit. */
export function lockableBytes(counter: LockedCounter): number | undefined {
  const limit = lockedMemoryLimit().current;
  if (limit === undefined || mayLockWithoutLimit()) return undefined;
  return Math.max(0, limit - usedBytes(counter));
}

/** Throws `MEMLOCK_LIMIT` where pinning `size` more bytes would exceed the limit. */
export function checkLockable(size: number, counter: LockedCounter): void {
  const left = lockableBytes(counter);
  if (left !== undefined && size > left) throw lockedMemoryError(size, counter);
}

/** The error for memory that could not be pinned; `undefined` where no limit is set, so memory itself is short. */
export function lockedMemoryError(size: number, counter: LockedCounter): Ring3Error | undefined {
  const limit = lockedMemoryLimit().current;
  if (limit === undefined || mayLockWithoutLimit()) return undefined;
  const used = usedBytes(counter);
  const wanted = Math.ceil((used + size) / 1024);
  return new Ring3Error(
    "MEMLOCK_LIMIT",
    `pinning ${mebibytes(size)} for DMA would exceed RLIMIT_MEMLOCK: ${mebibytes(used)} of ${mebibytes(limit)} are in use; ` +
      `allow at least ${wanted} KiB: \`ulimit -l ${wanted}\` where the hard limit allows, LimitMEMLOCK= in a systemd unit, ` +
      'or "<user> - memlock unlimited" in /etc/security/limits.d',
    { errno: "ENOMEM" },
  );
}

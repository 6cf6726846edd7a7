// Names and short meanings of errno values. The numbers of x86-64 and arm64 are the same (asm-generic/errno*.h).
import { Ring3Error } from "../binary/error.ts";

/** Number, and what it usually means, by name. */
export const ERRNO = {
  EPERM: [1, "not permitted"],
  ENOENT: [2, "no such file or object"],
  ESRCH: [3, "no such process"],
  EINTR: [4, "interrupted by a signal"],
  EIO: [5, "the device or its link answered with an error"],
  ENXIO: [6, "no such device or address"],
  E2BIG: [7, "the kernel does not know a field that is set"],
  ENOEXEC: [8, "not an executable format"],
  EBADF: [9, "not an open file descriptor, or opened the wrong way"],
  ECHILD: [10, "no child process"],
  EAGAIN: [11, "nothing there now, try again"],
  ENOMEM: [12, "out of memory, or of locked memory (RLIMIT_MEMLOCK)"],
  EACCES: [13, "no permission on the file"],
  EFAULT: [14, "memory or an address that is not accessible"],
  EBUSY: [16, "somebody else is using it"],
  EEXIST: [17, "it exists already, or overlaps what does"],
  EXDEV: [18, "across file systems"],
  ENODEV: [19, "no such device, or its driver let it go"],
  ENOTDIR: [20, "not a directory"],
  EISDIR: [21, "a directory"],
  EINVAL: [22, "an argument that the kernel does not take"],
  ENFILE: [23, "the system has too many open files"],
  EMFILE: [24, "the process has too many open files (RLIMIT_NOFILE)"],
  ENOTTY: [25, "the call does not exist for this kind of file"],
  ETXTBSY: [26, "the file is being executed"],
  EFBIG: [27, "the file would be too large"],
  ENOSPC: [28, "no space left"],
  ESPIPE: [29, "not seekable"],
  EROFS: [30, "a read-only file system"],
  EMLINK: [31, "too many links"],
  EPIPE: [32, "the other side has closed"],
  EDOM: [33, "out of the function's domain"],
  ERANGE: [34, "out of range"],
  EDEADLK: [35, "would deadlock"],
  ENAMETOOLONG: [36, "the name is too long"],
  ENOSYS: [38, "this kernel does not have the call"],
  ENOTEMPTY: [39, "not empty"],
  ELOOP: [40, "too many symbolic links"],
  ENODATA: [61, "no data"],
  ETIME: [62, "a timer ran out"],
  EPROTO: [71, "protocol error"],
  EBADMSG: [74, "a malformed message"],
  EOVERFLOW: [75, "a value is too large for its type"],
  ENOTSOCK: [88, "not a socket"],
  EDESTADDRREQ: [89, "a destination address is required"],
  EMSGSIZE: [90, "a message or array is too long or too short"],
  EPROTOTYPE: [91, "the wrong type for the socket"],
  ENOPROTOOPT: [92, "the protocol has no such option"],
  EPROTONOSUPPORT: [93, "the protocol is not supported"],
  EOPNOTSUPP: [95, "not supported here"],
  EAFNOSUPPORT: [97, "the address family is not supported"],
  EADDRINUSE: [98, "the address is in use"],
  EADDRNOTAVAIL: [99, "the address is not available"],
  ENETDOWN: [100, "the network is down"],
  ENETUNREACH: [101, "the network cannot be reached"],
  ECONNABORTED: [103, "the connection was aborted"],
  ECONNRESET: [104, "the other side broke the connection off"],
  ENOBUFS: [105, "the socket's buffer overflowed"],
  EISCONN: [106, "connected already"],
  ENOTCONN: [107, "not connected"],
  ESHUTDOWN: [108, "shut down"],
  ETIMEDOUT: [110, "timed out"],
  ECONNREFUSED: [111, "nobody listens there"],
  EHOSTUNREACH: [113, "the host cannot be reached"],
  EALREADY: [114, "already under way"],
  EINPROGRESS: [115, "under way"],
  ESTALE: [116, "a stale handle"],
  EDQUOT: [122, "over quota"],
  ECANCELED: [125, "cancelled"],
  EOWNERDEAD: [130, "the owner died"],
  EHWPOISON: [133, "the memory page is broken"],
} as const;

export type ErrnoName = keyof typeof ERRNO;

const NAMES = new Map<number, ErrnoName>();
for (const [name, [number]] of Object.entries(ERRNO)) NAMES.set(number, name as ErrnoName);

/** `EBUSY` for 16; `E123` for a number without a name here. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `E${errno}`;
}

/** The error of a failed system call. `fix`, where given, says what the user should do. */
export function systemCallError(call: string, errno: number, fix?: string): Ring3Error {
  const name = errnoName(errno);
  const meaning = NAMES.has(errno) ? ERRNO[name as ErrnoName][1] : "an error that ring3 has no words for";
  return new Ring3Error("SYSTEM_CALL", `${call}: ${name}, ${meaning}${fix === undefined ? "" : `; ${fix}`}`, {
    errno: name,
    call,
  });
}

// The C library's functions, as koffi sees them: the only file that imports the FFI besides `poller.ts`.
// Results are int, so they are numbers and -1 means errno; addresses are integers, exact because user space is below 2^53.
// Variadic functions (open, ioctl, fcntl) are declared with fixed arguments, which x86-64 and arm64 Linux pass alike.
import { channel } from "node:diagnostics_channel";
import koffi from "koffi";
import { SYSTEM_CALLS } from "../binary/diagnostics.ts";
import { ERRNO, systemCallError } from "./errno.ts";

const library = koffi.load(null);

/** Bytes that the callee reads or writes during the call. */
type Bytes = Uint8Array | null;

/** A function by its C prototype; its TypeScript type is the declared one. */
function c<Call>(prototype: string): Call {
  return library.func(prototype) as unknown as Call;
}

/** A function of integers. */
type Integers<Names extends string[]> = (...values: { [K in keyof Names]: number }) => number;
type Transfer = (fd: number, bytes: Bytes, size: number) => number;
type TransferAt = (fd: number, bytes: Bytes, size: number, offset: number) => number;
type TransferVector = (fd: number, vector: Bytes, count: number, offset: number, flags: number) => number;
type Message = (fd: number, message: Bytes, flags: number) => number;
type ReceiveFrom = (fd: number, bytes: Bytes, size: number, flags: number, address: Bytes, length: Bytes) => number;
type GetOption = (fd: number, level: number, name: number, value: Bytes, length: Bytes) => number;
type SetOption = (fd: number, level: number, name: number, value: Bytes, length: number) => number;
type GetAttribute = (path: string, name: string, value: Bytes, size: number) => number;
type SetAttribute = (path: string, name: string, value: Bytes, size: number, flags: number) => number;
type SocketPair = (family: number, type: number, protocol: number, fds: Bytes) => number;
type GetName = (fd: number, address: Bytes, length: Bytes) => number;
type Accept = (fd: number, address: Bytes, length: Bytes, flags: number) => number;
type Prlimit = (pid: number, resource: number, wanted: Bytes, former: Bytes) => number;
type EpollControl = (epoll: number, operation: number, fd: number, event: Bytes) => number;
type TimerSet = (fd: number, flags: number, time: Bytes, former: Bytes) => number;

export const open: (path: string, flags: number, mode: number) => number = c("int open(str, int, int)");
export const close: Integers<["fd"]> = c("int close(int)");
export const ioctl: Integers<["fd", "request", "argument"]> = c("int ioctl(int, unsigned long, uintptr_t)");
export const fcntl: Integers<["fd", "command", "argument"]> = c("int fcntl(int, int, uintptr_t)");
export const pipe2: (fds: Bytes, flags: number) => number = c("int pipe2(void *, int)");
export const read: Transfer = c("intptr_t read(int, void *, size_t)");
export const write: Transfer = c("intptr_t write(int, void *, size_t)");
export const pread: TransferAt = c("intptr_t pread64(int, void *, size_t, int64_t)");
export const pwrite: TransferAt = c("intptr_t pwrite64(int, void *, size_t, int64_t)");
export const preadv2: TransferVector = c("intptr_t preadv64v2(int, void *, int, int64_t, int)");
export const pwritev2: TransferVector = c("intptr_t pwritev64v2(int, void *, int, int64_t, int)");
export const fallocate: Integers<["fd", "mode", "offset", "size"]> = c("int fallocate64(int, int, int64_t, int64_t)");
export const mmap: Integers<["address", "size", "protection", "flags", "fd", "offset"]> = c(
  "intptr_t mmap64(uintptr_t, size_t, int, int, int, int64_t)",
);
export const munmap: Integers<["address", "size"]> = c("int munmap(uintptr_t, size_t)");
export const madvise: Integers<["address", "size", "advice"]> = c("int madvise(uintptr_t, size_t, int)");
export const fstatfs: (fd: number, status: Bytes) => number = c("int fstatfs(int, void *)");
export const memfdCreate: (name: string, flags: number) => number = c("int memfd_create(str, unsigned int)");
export const ftruncate: Integers<["fd", "size"]> = c("int ftruncate64(int, int64_t)");
export const eventfd: Integers<["count", "flags"]> = c("int eventfd(unsigned int, int)");
const poll: (fds: Bytes, count: number, timeoutMs: number) => number = c("int poll(void *, unsigned long, int)");
export const schedYield: Integers<[]> = c("int sched_yield()");
export const pollAt: Integers<["fds", "count", "timeoutMs"]> = c("int poll(uintptr_t, unsigned long, int)");
export const epollCreate: Integers<["flags"]> = c("int epoll_create1(int)");
export const epollControl: EpollControl = c("int epoll_ctl(int, int, int, void *)");
export const prlimit: Prlimit = c("int prlimit64(int, int, void *, void *)");
export const sysconf: Integers<["name"]> = c("long sysconf(int)");
export const clockGettime: (clock: number, time: Bytes) => number = c("int clock_gettime(int, void *)");
export const timerfdCreate: Integers<["clock", "flags"]> = c("int timerfd_create(int, int)");
export const timerfdSettime: TimerSet = c("int timerfd_settime(int, int, void *, void *)");
/** Calls that the C library has no function for; the numbers differ from processor to processor. */
export const syscall: Integers<["number", "first", "second", "third", "fourth"]> = c(
  "long syscall(long, uintptr_t, uintptr_t, uintptr_t, uintptr_t)",
);
export const socket: Integers<["family", "type", "protocol"]> = c("int socket(int, int, int)");
export const socketpair: SocketPair = c("int socketpair(int, int, int, void *)");
export const bind: Transfer = c("int bind(int, void *, unsigned int)");
export const connect: Transfer = c("int connect(int, void *, unsigned int)");
export const listen: Integers<["fd", "backlog"]> = c("int listen(int, int)");
export const getsockname: GetName = c("int getsockname(int, void *, void *)");
export const accept: Accept = c("int accept4(int, void *, void *, int)");
export const shutdown: Integers<["fd", "how"]> = c("int shutdown(int, int)");
export const sendmsg: Message = c("intptr_t sendmsg(int, void *, int)");
export const recvmsg: Message = c("intptr_t recvmsg(int, void *, int)");
/** For messages whose header or bytes lie at a known address: no view is looked up for a call. */
export const recvmsgAt: Integers<["fd", "message", "flags"]> = c("intptr_t recvmsg(int, uintptr_t, int)");
export const sendAt: Integers<["fd", "bytes", "size", "flags"]> = c("intptr_t send(int, uintptr_t, size_t, int)");
export const sendmsgAt: Integers<["fd", "message", "flags"]> = c("intptr_t sendmsg(int, uintptr_t, int)");
export const recvfrom: ReceiveFrom = c("intptr_t recvfrom(int, void *, size_t, int, void *, void *)");
export const getsockopt: GetOption = c("int getsockopt(int, int, int, void *, void *)");
export const getxattr: GetAttribute = c("intptr_t getxattr(str, str, void *, size_t)");
export const setxattr: SetAttribute = c("int setxattr(str, str, void *, size_t, int)");
export const removexattr: (path: string, name: string) => number = c("int removexattr(str, str)");
export const setsockopt: SetOption = c("int setsockopt(int, int, int, void *, unsigned int)");

/** The errno of the last call that returned -1. */
export function lastErrno(): number {
  return koffi.errno();
}

/** The address of a view's first byte; valid while the view's buffer lives. */
export function addressOfView(view: Uint8Array): number {
  return Number(koffi.address(view));
}

/** The bytes at `address`, which must stay mapped as long as the buffer is attached. */
export function viewAt(address: number | bigint, size: number): ArrayBuffer {
  return koffi.view(BigInt(address), size);
}

/** Runs `attempt` until it is not interrupted; its result, or minus the errno where it was -1. */
export function attemptCall(attempt: () => number): number {
  for (;;) {
    const result = attempt();
    if (result !== -1) return result;
    const errno = koffi.errno();
    if (errno !== ERRNO.EINTR[0]) return -errno;
  }
}

/** One poll, interrupted or not; the caller counts the time. */
export function pollOnce(fds: Uint8Array, count: number, timeoutMs: number): number {
  const result = poll(fds, count, timeoutMs);
  return result === -1 ? -koffi.errno() : result;
}

const calls = channel(SYSTEM_CALLS);

/** As `attemptCall`, and tells who listens; `call` is the call in words. */
export function reportedCall(call: string, attempt: () => number): number {
  if (!calls.hasSubscribers) return attemptCall(attempt);
  const start = performance.now();
  const result = attemptCall(attempt);
  calls.publish({ call, result, tookMs: performance.now() - start });
  return result;
}

/** As `reportedCall`, but a failure throws `SYSTEM_CALL`. */
export function systemCall(call: string, attempt: () => number, fix?: string): number {
  const result = reportedCall(call, attempt);
  if (result < 0) throw systemCallError(call, -result, fix);
  return result;
}

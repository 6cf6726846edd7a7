// Waiting for descriptors: on Node's event loop for the main thread, or blocking for worker threads that do nothing else.
import koffi from "koffi";
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, systemCallError } from "./errno.ts";
import { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";

/** What a descriptor can be ready for. */
export interface Readiness {
  readonly readable: boolean;
  readonly writable: boolean;
  readonly disconnected: boolean;
}

export interface WatchOptions {
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** Whether the watch keeps the process alive; yes by default. */
  readonly keepsAlive?: boolean;
}

/** A watch on a descriptor: ends when disposed, and before the descriptor closes. */
export interface Watch extends Disposable {
  ref(): void;
  unref(): void;
}

/** The handles by descriptor number; one that is collected stops polling without a word. */
const living = new Map<number, { close(): void }>();

let closesAtExit = false;

/** When a process or worker ends Node runs its event loop once more, and koffi aborts it for a callback that comes then. */
function closeAtExit(): void {
  if (closesAtExit) return;
  closesAtExit = true;
  process.once("exit", () => {
    for (const handle of living.values()) handle.close();
    living.clear();
  });
}

/**
 * Calls `callback` on the event loop whenever `fd` is ready, again and again as long as it stays so. One watch per
 * descriptor. What the callback throws becomes an uncaught exception. Throws `FD_WATCHED`, or `SYSTEM_CALL` where the
 * kind of file cannot be watched.
 */
export function watch(fd: FileDescriptor, callback: (ready: Readiness) => void, options: WatchOptions = {}): Watch {
  const { readable = true, writable = false, keepsAlive = true } = options;
  const number = fd.number;
  checkPollable(number);
  closeAtExit();
  let active = true;
  // koffi's declaration leaves out that libuv's status comes first.
  const onReady = (status: number, ready: { readable: boolean; writable: boolean; disconnect: boolean }): void => {
    // Promises that the callback resolves run their reactions only once something else follows on the loop.
    // And libuv stops a watch that it reports an error for (POLLERR), which sockets recover from.
    const failed = status < 0;
    setImmediate(failed ? restart : nothing);
    if (!active) return;
    try {
      callback({
        readable: ready.readable || failed,
        writable: ready.writable,
        disconnected: ready.disconnect || failed,
      });
    } catch (error) {
      // Thrown from here it would vanish in native code.
      setImmediate(() => {
        throw error;
      });
    }
  };
  const events = { readable, writable, disconnect: true };
  const handle = koffi.node.poll(number, events, onReady as never);
  if (!keepsAlive) handle.unref();
  living.set(number, handle);
  const forget = fd.closesAfter({ [Symbol.dispose]: stop });
  function restart(): void {
    if (active) handle.start(events, onReady as never);
  }
  function stop(): void {
    if (!active) return;
    active = false;
    forget();
    if (living.delete(number)) handle.close();
  }
  return { ref: () => active && handle.ref(), unref: () => active && handle.unref(), [Symbol.dispose]: stop };
}

function nothing(): void {}

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DELETE = 2;
let trialEpoll: FileDescriptor | undefined;

/** A watch that libuv refuses aborts the process inside koffi, so what it would refuse is refused here before. */
function checkPollable(number: number): void {
  if (living.has(number)) {
    throw new Ring3Error("FD_WATCHED", "this descriptor is being watched: end that watch first, or watch a duplicate");
  }
  trialEpoll ??= new FileDescriptor(native.systemCall("epoll_create1", () => native.epollCreate(EPOLL_CLOEXEC)));
  const epoll = trialEpoll.number;
  const call = (operation: number): number =>
    native.attemptCall(() => native.epollControl(epoll, operation, number, new Uint8Array(16)));
  const result = call(EPOLL_CTL_ADD);
  if (result < 0) throw systemCallError("epoll_ctl", -result, "plain files are always ready and cannot be watched");
  call(EPOLL_CTL_DELETE);
}

const POLLIN = 1;
/**
 * Blocks this thread until one of `fds` is readable (or disconnected), at most `timeoutMs` (-1 for ever), and returns
 * those that are. For worker threads, and for bounded waits of a synchronous call.
 */
export function waitReadable<T extends FileDescriptor>(fds: readonly T[], timeoutMs = -1): T[] {
  const records = new DataView(new ArrayBuffer(8 * fds.length));
  for (const [i, fd] of fds.entries()) {
    records.setInt32(8 * i, fd.number, true);
    records.setInt16(8 * i + 4, POLLIN, true);
  }
  const bytes = new Uint8Array(records.buffer);
  const until = performance.now() + timeoutMs;
  for (let left = Math.min(timeoutMs, 2 ** 31 - 1); ; left = Math.max(0, until - performance.now())) {
    const result = native.pollOnce(bytes, fds.length, timeoutMs < 0 ? -1 : Math.ceil(left));
    if (result >= 0) return fds.filter((_, i) => records.getInt16(8 * i + 6, true) !== 0);
    if (-result !== ERRNO.EINTR[0]) throw systemCallError("poll", -result);
  }
}

// Who is served while a session waits for its client. Hard about it: whoever has to give the reply may itself wait for another
// function of this process. QEMU's processor holds a lock while it reads a register of one device, which QEMU's main loop
// needs to read memory for another one.
import { type FileDescriptor, waitReadable } from "../linux/index.ts";

/** Somebody with a descriptor of its own: a session or a listening socket. */
export interface Attended {
  /** What tells that there is something to serve; `undefined` where nothing can be served now. */
  readonly attendedFd: FileDescriptor | undefined;
  /** Whether there is something to serve that the descriptor does not tell of any more. */
  readonly overdue: boolean;
  /** Serves what is there, for a short while. Never throws. */
  attend(): void;
}

/** Waits inside each other, whoever waits: each takes some kilobytes of the stack. */
const MAXIMUM_DEPTH = 64;

/** Everybody whom one thread serves. */
export class Attendance {
  readonly #all = new Set<Attended>();
  #depth = 0;

  join(attended: Attended): void {
    this.#all.add(attended);
  }

  leave(attended: Attended): void {
    this.#all.delete(attended);
  }

  /** Calls `serve`, which may wait itself, one level further in; `false` where that would be too deep. */
  inside(serve: () => void): boolean {
    if (this.#depth >= MAXIMUM_DEPTH) return false;
    this.#depth++;
    try {
      serve();
    } finally {
      this.#depth--;
    }
    return true;
  }

  /**
   * Blocks until `own` can be read, or until somebody else was served, at most `timeoutMs`. `waiting` is not served: it
   * looks at its own descriptor. Returns the milliseconds that serving took.
   */
  wait(own: FileDescriptor, timeoutMs: number, waiting: Attended | undefined): number {
    const others =
      this.#depth < MAXIMUM_DEPTH
        ? [...this.#all].filter((other) => other !== waiting && other.attendedFd !== undefined)
        : [];
    const overdue = others.find((other) => other.overdue);
    const fds = others.map((other) => other.attendedFd as FileDescriptor);
    const ready = waitReadable([own, ...fds], overdue === undefined ? Math.max(0, timeoutMs) : 0);
    if (ready.includes(own)) return 0;
    const chosen = overdue ?? others[fds.findIndex((fd) => ready.includes(fd))];
    if (chosen === undefined) return 0;
    // Whose turn it was is last the next time.
    this.#all.delete(chosen);
    this.#all.add(chosen);
    const started = performance.now();
    this.inside(() => chosen.attend());
    return performance.now() - started;
  }
}

/** Everybody whom this thread serves: like its event loop, there is one. */
export const attendance: Attendance = new Attendance();

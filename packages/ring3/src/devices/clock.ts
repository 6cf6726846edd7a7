// Time as device models see it, injected so that tests own it: a monotonic clock, one-shot timers, and a later turn of
// the event loop.

/** A clock and its timers. */
export interface DeviceClock {
  /** Milliseconds on a monotonic clock, with a fraction. */
  now(): number;
  /** Calls `callback` once after `delayMs`, unless disposed before. */
  after(delayMs: number, callback: () => void): Disposable;
  /** Calls `callback` after the event loop had a chance to handle I/O. */
  soon(callback: () => void): void;
}

/** The clock of the machine. A device's timers keep no process alive. */
export const machineClock: DeviceClock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer: unknown = setTimeout(callback, delayMs);
    if (hasUnref(timer)) timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer as ReturnType<typeof setTimeout>) };
  },
  soon(callback) {
    if (typeof setImmediate === "function") setImmediate(callback);
    else setTimeout(callback, 0);
  },
};

function hasUnref(timer: unknown): timer is { unref(): void } {
  return typeof timer === "object" && timer !== null && "unref" in timer;
}

// Notices that the whole machine slept. VFIO keeps descriptors and config space over a system suspend, but not the device's
// registers, and signals nothing. Sleep shows as CLOCK_BOOTTIME running ahead of CLOCK_MONOTONIC; the moment of waking
// shows as a cancelled timer on CLOCK_REALTIME (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), which costs nothing to wait
// for. A clock that was only set cancels the timer too, so the two clocks decide.
import { bootTimeMs, monotonicMs } from "./clock.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import * as native from "./native.ts";
import { watch } from "./poller.ts";

const CLOCK_REALTIME = 0;
const TFD_CLOEXEC = 0o2000000;
const TFD_TIMER_ABSTIME = 1;
const TFD_TIMER_CANCEL_ON_SET = 2;
/** No machine suspends and resumes in less. */
const LEAST_SLEEP_MS = 5;
/** The clocks are read one after the other, and the thread may be preempted between: then they are read again. */
const READ_WITHIN_MS = 1;
const READ_ATTEMPTS = 10;
/** A date that is not reached. */
const FAR_FUTURE_SECONDS = 2n ** 40n;

/** The clocks that tell sleep; passed in by tests. */
export interface SleepClocks {
  readonly bootTimeMs: () => number;
  readonly monotonicMs: () => number;
}

/** Watches for the end of a system suspend. */
export class SuspendWatch implements Disposable {
  readonly #clocks: SleepClocks;
  readonly #timer: FileDescriptor;
  readonly #expirations: Uint8Array = new Uint8Array(8);
  readonly #listeners = new Set<(sleptMs: number) => void>();
  /** BOOTTIME is ahead by at most this. */
  #aheadAtMost: number;

  constructor(clocks: SleepClocks = { bootTimeMs, monotonicMs }) {
    this.#clocks = clocks;
    this.#aheadAtMost = this.#measure().atMost;
    const flags = TFD_CLOEXEC | OPEN.NONBLOCK;
    this.#timer = new FileDescriptor(
      native.systemCall("timerfd_create", () => native.timerfdCreate(CLOCK_REALTIME, flags)),
    );
    try {
      this.#arm();
      watch(this.#timer, () => this.#wake(), { keepsAlive: false });
    } catch (error) {
      this.#timer.close();
      throw error;
    }
  }

  /**
   * How long the machine slept since the last look, in milliseconds; 0 where it did not. Listeners are told too. Cheap:
   * call it where time matters, such as before a command is given up as timed out.
   */
  check(): number {
    const { atLeast, atMost } = this.#measure();
    const sleptMs = atLeast - this.#aheadAtMost;
    if (sleptMs < LEAST_SLEEP_MS) {
      this.#aheadAtMost = Math.min(this.#aheadAtMost, atMost);
      return 0;
    }
    this.#aheadAtMost = atMost;
    for (const listener of [...this.#listeners]) listener(sleptMs);
    return sleptMs;
  }

  /** Calls `listener` after each sleep until disposed. It does not keep the process alive. */
  listen(listener: (sleptMs: number) => void): Disposable {
    const own = (sleptMs: number): void => listener(sleptMs);
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  [Symbol.dispose](): void {
    this.#listeners.clear();
    this.#timer.close();
  }

  #wake(): void {
    const number = this.#timer.number;
    native.attemptCall(() => native.read(number, this.#expirations, 8));
    this.#arm();
    this.check();
  }

  #arm(): void {
    const number = this.#timer.number;
    const time = new Uint8Array(new BigInt64Array([0n, 0n, FAR_FUTURE_SECONDS, 0n]).buffer);
    const flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    native.systemCall("timerfd_settime", () => native.timerfdSettime(number, flags, time, null));
  }

  /** How far BOOTTIME is ahead, between two bounds that a slow reading widens. */
  #measure(): { readonly atLeast: number; readonly atMost: number } {
    for (let attempt = 1; ; attempt++) {
      const before = this.#clocks.monotonicMs();
      const boot = this.#clocks.bootTimeMs();
      const after = this.#clocks.monotonicMs();
      if (after - before < READ_WITHIN_MS || attempt === READ_ATTEMPTS) {
        return { atLeast: boot - after, atMost: boot - before };
      }
    }
  }
}

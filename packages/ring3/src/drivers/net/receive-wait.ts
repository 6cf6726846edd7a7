// How a program waits for packets of a queue: by looking (polled), by interrupt, or adaptively: it looks for about as long as
// packets lately took to come, then arms the interrupt. Hard about it: a packet may come between the last look and the
// arming, so it looks once more after; and a busy queue must not keep the event loop from its turn.
import type { Clock } from "../clock.ts";
import type { ReceiveMode, ReceiveWaitOptions } from "./device.ts";

/** The queue that is waited for. */
export interface WaitedQueue {
  /** Whether a packet waits. */
  readonly ready: boolean;
  /** Lets the device send one interrupt for the queue, now or when a packet comes. */
  arm(): void;
}

/** Never look longer than this at a stretch, in milliseconds. */
const LOOK_LIMIT_MS = 0.5;
/** One look in so many is taken although packets lately took longer than that. */
const PROBE_EVERY = 32;
/** Give the event loop a turn at least this often, in milliseconds. */
const TURN_MS = 4;
/** Looks between two readings of the clock, and in all: a clock that stands still must not hold us. */
const LOOKS_PER_READING = 8;
const LOOKS_LIMIT = 20_000;

export class ReceiveWait {
  readonly mode: ReceiveMode;
  readonly #queue: WaitedQueue;
  readonly #clock: Clock;
  readonly #wakers: Set<() => void> = new Set();
  /** Smoothed time until a packet came; starts low so that the first are looked for. */
  #expectedMs = 0.1;
  #unlooked = 0;
  #turnedMs = 0;
  #end: Error | undefined;

  constructor(mode: ReceiveMode, queue: WaitedQueue, clock: Clock) {
    this.mode = mode;
    this.#queue = queue;
    this.#clock = clock;
    this.#turnedMs = clock.now();
  }

  /** True once a packet waits, false after the time; rejects with the end's error or the signal's reason. */
  async wait({ timeoutMs, signal }: ReceiveWaitOptions = {}): Promise<boolean> {
    const start = this.#clock.now();
    const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : start + timeoutMs;
    for (let now = start; ; now = this.#clock.now()) {
      if (now - this.#turnedMs >= TURN_MS) await this.#turn();
      if (this.#end !== undefined) throw this.#end;
      signal?.throwIfAborted();
      if (this.#look(now)) {
        const tookMs = this.#clock.now() - start;
        if (tookMs >= 0 && tookMs < 1000) this.#expectedMs += (tookMs - this.#expectedMs) / 8;
        return true;
      }
      if (this.#clock.now() >= deadline) return false;
      if (this.mode === "polled") await this.#turn();
      else await this.#sleep(deadline, signal);
    }
  }

  /** The queue's interrupt came, or somebody thinks that there may be packets. */
  wake(): void {
    for (const waker of [...this.#wakers]) waker();
  }

  /** Everybody who waits, now or later, gets the error. */
  end(error: Error): void {
    this.#end ??= error;
    this.wake();
  }

  #look(startMs: number): boolean {
    const queue = this.#queue;
    if (queue.ready) return true;
    const spanMs = this.mode === "polled" ? LOOK_LIMIT_MS : this.mode === "interrupt" ? 0 : this.#spanMs();
    let nowMs = startMs;
    for (let looks = 0; looks < LOOKS_LIMIT && nowMs - startMs < spanMs; looks++) {
      if (queue.ready) return true;
      if (looks % LOOKS_PER_READING === 0) nowMs = this.#clock.now();
    }
    return false;
  }

  /** Twice the usual time; where packets usually take longer than we may look, nothing but a probe now and then. */
  #spanMs(): number {
    if (this.#expectedMs <= LOOK_LIMIT_MS) return Math.min(2 * this.#expectedMs + 0.005, LOOK_LIMIT_MS);
    this.#unlooked = (this.#unlooked + 1) % PROBE_EVERY;
    return this.#unlooked === 0 ? LOOK_LIMIT_MS : 0;
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.soon(() => {
        this.#turnedMs = this.#clock.now();
        resolve();
      });
    });
  }

  /** Arms the interrupt and waits for it, the deadline, the signal or the end. */
  #sleep(deadline: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const awake = (): void => {
        if (!this.#wakers.delete(awake)) return;
        timer?.[Symbol.dispose]();
        signal?.removeEventListener("abort", awake);
        this.#turnedMs = this.#clock.now();
        resolve();
      };
      this.#wakers.add(awake);
      const timer = Number.isFinite(deadline)
        ? this.#clock.after(Math.max(0, deadline - this.#clock.now()), awake)
        : undefined;
      signal?.addEventListener("abort", awake, { once: true });
      this.#queue.arm();
      if (this.#queue.ready || this.#end !== undefined || signal?.aborted === true) awake();
    });
  }
}

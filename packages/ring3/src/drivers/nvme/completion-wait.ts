// How a queue pair learns of completions: by looking (polled), by interrupt, or adaptively: it looks for about as long as
// commands lately took, then leaves it to the interrupt. Hard about it: looking happens between promise continuations,
// which never let the event loop run, so every few milliseconds the loop gets a turn.
import type { Clock } from "../clock.ts";

export type CompletionMode = "polled" | "interrupt" | "adaptive";

/** The queue whose completions are awaited. */
export interface Waited {
  /** Commands that will complete by themselves. */
  readonly pending: number;
  /** Whether a completion waits to be reaped. */
  readonly ready: boolean;
  /** Tells the controller what was posted. */
  announce(): void;
  /** Settles what has completed. */
  settle(): void;
}

/** Never look longer than this at a stretch, in milliseconds. */
const LOOK_LIMIT_MS = 0.5;
/** One look in so many is taken although commands lately took longer than that: they may have become quick. */
const PROBE_EVERY = 32;
/** Give the event loop a turn at least this often, in milliseconds. */
const TURN_MS = 4;
/** Continuations between a completion and what its caller posts next: as many as `await`s lie between. */
const YIELDS = 6;
/** Looks between two readings of the clock, and in all: a clock that stands still must not hold us. */
const LOOKS_PER_READING = 8;
const LOOKS_LIMIT = 20_000;

export class CompletionWait {
  readonly mode: CompletionMode;
  readonly #queue: Waited;
  readonly #clock: Clock;
  /** Smoothed time from submission to completion; starts low so that the first commands are looked for. */
  #expectedMs = 0.1;
  #submittedMs = 0;
  #unlooked = 0;
  #kickedMs = 0;
  #turnAskedMs = 0;
  #turnAsked = false;
  #scheduled = false;
  #yields = 0;
  #stopped = false;

  constructor(mode: CompletionMode, queue: Waited, clock: Clock) {
    this.mode = mode;
    this.#queue = queue;
    this.#clock = clock;
  }

  /** Smoothed completion time in milliseconds, as far as it was measured. */
  get expectedMs(): number {
    return this.#expectedMs;
  }

  /**
   * Something was posted: rings once for all that is posted in this run of continuations, then waits as the mode says.
   * Returns the time of the first in the run, so that many look at the clock once.
   */
  kick(): number {
    if (!this.#scheduled) {
      this.#scheduled = true;
      this.#kickedMs = this.#clock.now();
      queueMicrotask(this.#run);
    }
    return this.#kickedMs;
  }

  /** An interrupt came, or somebody thinks that there may be completions. */
  look(): void {
    if (this.#stopped) return;
    if (this.#queue.ready) {
      this.#measure(this.#clock.now());
      this.#queue.settle();
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    if (this.#stopped) return;
    this.#queue.announce();
    if (this.mode !== "interrupt") this.#lookForAWhile(this.#kickedMs);
    else this.#submittedMs = this.#kickedMs;
  };

  /** Runs once those who were told of completions have had the time to post; if they do, the run is theirs. */
  readonly #yield = (): void => {
    if (this.#scheduled || this.#stopped) this.#yields = 0;
    else if (this.#yields > 0) {
      this.#yields--;
      queueMicrotask(this.#yield);
    } else {
      this.#kickedMs = this.#clock.now();
      this.#run();
    }
  };

  readonly #turn = (): void => {
    this.#turnAsked = false;
    if (this.#stopped || this.#queue.pending === 0) return;
    if (this.mode === "polled" || this.#queue.ready) this.#lookForAWhile(this.#clock.now());
  };

  #lookForAWhile(startMs: number): void {
    const queue = this.#queue;
    if (queue.pending === 0) return;
    this.#submittedMs = startMs;
    const turnDue = this.#turnAsked && startMs - this.#turnAskedMs > TURN_MS;
    if (!this.#turnAsked) {
      this.#turnAsked = true;
      this.#turnAskedMs = startMs;
      this.#clock.soon(this.#turn);
    }
    if (turnDue) return;
    const spanMs = this.mode === "polled" ? LOOK_LIMIT_MS : this.#spanMs();
    let nowMs = startMs;
    for (let looks = 0; looks < LOOKS_LIMIT && nowMs - startMs < spanMs; looks++) {
      if (queue.ready) {
        // Seen by looking it is the true time, without the interrupt's way to us, which alone may exceed the limit.
        if (this.#expectedMs > LOOK_LIMIT_MS) this.#expectedMs = this.#clock.now() - startMs;
        else this.#measure(this.#clock.now());
        queue.settle();
        if (queue.pending > 0 && this.#yields === 0) {
          this.#yields = YIELDS;
          queueMicrotask(this.#yield);
        }
        return;
      }
      if (looks % LOOKS_PER_READING === 0) nowMs = this.#clock.now();
    }
  }

  /** Twice the usual time; where commands usually take longer than we may look, nothing but a probe now and then. */
  #spanMs(): number {
    if (this.#expectedMs <= LOOK_LIMIT_MS) return Math.min(2 * this.#expectedMs + 0.005, LOOK_LIMIT_MS);
    this.#unlooked = (this.#unlooked + 1) % PROBE_EVERY;
    return this.#unlooked === 0 ? LOOK_LIMIT_MS : 0;
  }

  #measure(nowMs: number): void {
    const tookMs = nowMs - this.#submittedMs;
    if (tookMs >= 0 && tookMs < 1000) this.#expectedMs += (tookMs - this.#expectedMs) / 8;
  }
}

// Calls a function that looks at shared memory by itself, as often as that pays: without a pause while it finds work, in
// every turn of the event loop for a while after, then by a timer. Between, the client's socket gets its turn.
import type { VirtualFunction } from "../virtual/function.ts";
import type { Counters } from "./server-statistics.ts";

/** Polls between two looks at the clock and the socket. */
const POLLS_PER_LOOK = 32;
/** No pause until so long nothing was found; the event loop gets its turn after at most `TURN_MS`. */
const SPIN_MS = 0.05;
const TURN_MS = 1;
/** Every turn of the event loop until so long nothing was found; then a timer, later a slower one. */
const EAGER_MS = 10;
const ATTENTIVE_MS = 2000;
const TIMER_MS = 1;
const SLOW_TIMER_MS = 5;

/** What the loop does between polls. */
export interface PollingHost {
  /** Handles what the client sent meanwhile. `false` where the client is gone. */
  look(): boolean;
  /** The function found work, or finished some that it had found a moment ago. */
  worked(): void;
}

export class PollLoop implements Disposable {
  readonly #fn: VirtualFunction;
  readonly #host: PollingHost;
  readonly #counters: Counters;
  #running = false;
  #inside = false;
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lastWorkMs = 0;

  constructor(fn: VirtualFunction, host: PollingHost, counters: Counters) {
    this.#fn = fn;
    this.#host = host;
    this.#counters = counters;
  }

  /** Whether the loop is at work in a call further out: then it looks at the socket, and nobody else need. */
  get inside(): boolean {
    return this.#inside;
  }

  /** Starts, or pays attention again: something happened that may bring work. */
  attend(): void {
    if (this.#inside) return;
    this.#lastWorkMs = performance.now();
    if (this.#running && this.#timer === undefined) return;
    this.#running = true;
    this.#cancel();
    this.#soon();
  }

  [Symbol.dispose](): void {
    this.#running = false;
    this.#cancel();
  }

  #cancel(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
  }

  #soon(): void {
    this.#immediate = setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#cancel();
    if (!this.#running || !this.#fn.polled) {
      this.#running = false;
      return;
    }
    this.#inside = true;
    try {
      this.#poll();
    } finally {
      this.#inside = false;
    }
    if (!this.#running) return;
    const idleMs = performance.now() - this.#lastWorkMs;
    if (idleMs < EAGER_MS) {
      this.#host.worked();
      this.#soon();
    } else this.#timer = setTimeout(() => this.#turn(), idleMs < ATTENTIVE_MS ? TIMER_MS : SLOW_TIMER_MS);
  }

  #poll(): void {
    const started = performance.now();
    // While nothing comes a turn is short; work makes it long.
    let now = started;
    do {
      let found = 0;
      for (let i = 0; i < POLLS_PER_LOOK; i++) found += this.#fn.runPoll();
      this.#counters.polls += POLLS_PER_LOOK;
      now = performance.now();
      if (found > 0) {
        this.#counters.polledWork += found;
        this.#lastWorkMs = now;
        this.#host.worked();
      }
      if (!this.#host.look() || !this.#running) return;
    } while (now - this.#lastWorkMs < SPIN_MS && now - started < TURN_MS);
  }
}

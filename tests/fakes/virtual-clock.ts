// Time for tests: it stands still while anything happens and jumps to the next timer when the event loop has been idle for
// some turns. So a time-out of ten seconds takes no time, and nothing that works in time is cut short.
import type { Clock } from "../../packages/ring3/src/drivers/clock.ts";

/** Turns without a timer firing after which time jumps. */
const IDLE_TURNS = 25;

export class VirtualClock implements Clock {
  #nowMs = 1000;
  #timers: { readonly atMs: number; readonly callback: () => void }[] = [];
  #running = false;
  #idle = 0;

  now(): number {
    // A look at the clock takes time, so that loops with a time limit end.
    this.#nowMs += 0.001;
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): Disposable {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    this.#run();
    return { [Symbol.dispose]: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) };
  }

  soon(callback: () => void): void {
    setImmediate(callback);
  }

  #run(): void {
    this.#idle = 0;
    if (this.#running) return;
    this.#running = true;
    const turn = (): void => {
      if (this.#timers.length === 0) {
        this.#running = false;
        return;
      }
      if (++this.#idle > IDLE_TURNS) {
        this.#idle = 0;
        const next = this.#timers.reduce((a, b) => (b.atMs < a.atMs ? b : a));
        this.#timers = this.#timers.filter((timer) => timer !== next);
        this.#nowMs = Math.max(this.#nowMs, next.atMs);
        next.callback();
      }
      setImmediate(turn);
    };
    setImmediate(turn);
  }
}

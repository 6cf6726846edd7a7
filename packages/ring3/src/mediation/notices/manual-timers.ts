// Time that a test owns.
import type { NoticeTimers } from "./broker.ts";

export class ManualTimers implements NoticeTimers {
  readonly #waiting: Set<{ readonly due: number; readonly callback: () => void }> = new Set();
  #now = 0;

  after(delayMs: number, callback: () => void): Disposable {
    const timer = { due: this.#now + delayMs, callback };
    this.#waiting.add(timer);
    return { [Symbol.dispose]: () => void this.#waiting.delete(timer) };
  }

  pass(ms: number): void {
    this.#now += ms;
    for (const timer of Array.from(this.#waiting).sort((a, b) => a.due - b.due)) {
      if (timer.due <= this.#now && this.#waiting.delete(timer)) timer.callback();
    }
  }

  get armed(): number {
    return this.#waiting.size;
  }
}

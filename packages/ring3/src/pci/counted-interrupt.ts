// An interrupt as drivers see it, over anything that counts signals (an eventfd). The source is watched from the first
// wait on; a wake-up that finds nobody waiting ends the watch, so that a driver that polls is not woken in vain.
import { Ring3Error } from "../binary/error.ts";
import type { Interrupt } from "./function.ts";

/** Counts signals; `take` empties it. */
export interface SignalSource {
  /** How many signals came since the last `take`; never blocks. */
  take(): number;
  /** Calls `wake` when there is something to take, until disposed; keeps the event loop alive unless `unref` was called. */
  watch(wake: () => void): SignalWatch;
}
export interface SignalWatch extends Disposable {
  ref(): void;
  unref(): void;
}

interface Waiter {
  readonly resolve: (count: number) => void;
  readonly reject: (error: unknown) => void;
}

export class CountedInterrupt implements Interrupt {
  readonly vector: number;
  readonly #source: SignalSource;
  readonly #raise: () => void;
  readonly #onListenerError: (error: unknown) => void;
  readonly #waiters: Set<Waiter> = new Set();
  readonly #listeners: Set<(count: number) => void> = new Set();
  #watch: SignalWatch | undefined;
  /** Came with a wake-up that nobody waited for. */
  #pending = 0;
  #closed: Ring3Error | undefined;

  constructor(vector: number, source: SignalSource, raise: () => void, onListenerError: (error: unknown) => void) {
    this.vector = vector;
    this.#source = source;
    this.#raise = raise;
    this.#onListenerError = onListenerError;
  }

  poll(): number {
    if (this.#closed !== undefined) throw this.#closed;
    return this.#take();
  }

  next(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}): Promise<number> {
    const { timeoutMs, signal } = options;
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(signal.reason);
    // An earlier waiter has the first claim on what is there.
    if (this.#waiters.size === 0) {
      const count = this.#take();
      if (count > 0) return Promise.resolve(count);
    }
    return new Promise<number>((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const settle = (): void => {
        this.#waiters.delete(waiter);
        if (timer !== undefined) clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#watchWhileNeeded();
      };
      const waiter: Waiter = {
        resolve: (count) => (settle(), resolve(count)),
        reject: (error) => (settle(), reject(error)),
      };
      const onAbort = (): void => waiter.reject(signal?.reason);
      this.#waiters.add(waiter);
      signal?.addEventListener("abort", onAbort, { once: true });
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => {
          // The loop may have been busy past the time: what came by then counts.
          const count = this.#takeOr(0);
          if (count > 0) waiter.resolve(count);
          else waiter.reject(new Ring3Error("TIMEOUT", `no interrupt on vector ${this.vector} within ${timeoutMs} ms`));
        }, timeoutMs);
      }
      this.#watchWhileNeeded();
    });
  }

  listen(listener: (count: number) => void): Disposable {
    if (this.#closed !== undefined) throw this.#closed;
    const own = (count: number): void => listener(count);
    this.#listeners.add(own);
    this.#watchWhileNeeded();
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(own);
        this.#watchWhileNeeded();
      },
    };
  }

  trigger(): void {
    if (this.#closed !== undefined && this.#closed.code !== "INTERRUPT_LENT") throw this.#closed;
    this.#raise();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<number, void, undefined> {
    for (;;) {
      try {
        yield await this.next();
      } catch (error) {
        if (error === this.#closed && this.#closed?.code === "INTERRUPT_CLOSED") return;
        throw error;
      }
    }
  }

  /** Leaves the interrupt to another thread: here all but `trigger` throws `INTERRUPT_LENT` from now on. */
  lend(): void {
    if (this.#closed !== undefined) throw this.#closed;
    if (this.#needed) {
      throw new Ring3Error(
        "INTERRUPTS_BUSY",
        `somebody waits for vector ${this.vector} in this thread; it has one owner at a time`,
      );
    }
    this.close(new Ring3Error("INTERRUPT_LENT", `vector ${this.vector} was handed to a worker; wait for it there`));
  }

  /** Ends the interrupt: whoever waits, now or later, gets `error`. */
  close(error: Ring3Error): void {
    if (this.#closed !== undefined && this.#closed.code !== "INTERRUPT_LENT") return;
    this.#closed = error;
    this.#listeners.clear();
    for (const waiter of Array.from(this.#waiters)) waiter.reject(error);
    this.#watchWhileNeeded();
  }

  [Symbol.dispose](): void {
    this.close(new Ring3Error("INTERRUPT_CLOSED", `interrupt vector ${this.vector} was switched off`));
  }

  get #needed(): boolean {
    return this.#closed === undefined && (this.#waiters.size > 0 || this.#listeners.size > 0);
  }

  #watchWhileNeeded(): void {
    if (this.#closed !== undefined) this.#unwatch();
    else if (!this.#needed) this.#watch?.unref();
    else if (this.#watch !== undefined) this.#watch.ref();
    else this.#watch = this.#source.watch(() => this.#deliver());
  }

  #unwatch(): void {
    const watch = this.#watch;
    this.#watch = undefined;
    watch?.[Symbol.dispose]();
  }

  #take(): number {
    const count = this.#pending + this.#source.take();
    this.#pending = 0;
    return count;
  }

  #takeOr(none: number): number {
    return this.#closed === undefined ? this.#take() : none;
  }

  #deliver(): void {
    if (!this.#needed) {
      if (this.#closed === undefined) this.#pending += this.#source.take();
      this.#unwatch();
      return;
    }
    const count = this.#take();
    if (count === 0) return;
    const [first] = this.#waiters;
    first?.resolve(count);
    for (const listener of Array.from(this.#listeners)) {
      try {
        listener(count);
      } catch (error) {
        this.#onListenerError(error);
      }
    }
  }
}

// What a driver tells while it runs, by event name. A listener's exception is the program's, not the driver's.

/** Listeners by event name; `M` maps names to what an event says. */
export class DriverEvents<M extends object> {
  readonly #listeners: Map<keyof M, Set<{ readonly call: (event: never) => void }>> = new Map();

  /** Calls `listener` at each event of the type until disposed. */
  on<K extends keyof M>(type: K, listener: (event: M[K]) => void): Disposable {
    const entry = { call: listener };
    const entries = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, entries.add(entry));
    return { [Symbol.dispose]: () => void entries.delete(entry) };
  }

  /** For the driver. */
  emit<K extends keyof M>(type: K, event: M[K]): void {
    for (const { call } of [...(this.#listeners.get(type) ?? [])]) {
      try {
        call(event as never);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

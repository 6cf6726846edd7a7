// What an NVMe driver tells while it runs. A listener's exception is the program's, not the driver's.

export interface NvmeEventMap {
  /** The controller reported something: its type, information and the log page that says more (base 2.0, section 5.2.1). */
  readonly "asynchronous-event": { readonly type: number; readonly information: number; readonly logPage: number };
  /** The controller was reset and works again; what was in flight and safe to repeat was repeated. */
  readonly recovered: { readonly reason: string };
  /** The machine slept, and the controller works again. */
  readonly resumed: { readonly sleptMs: number };
  /** The driver has ended because the function is gone or wanted back, or cannot be brought back. */
  readonly removed: { readonly code: string; readonly reason: string };
}
export type NvmeEventName = keyof NvmeEventMap;

export class NvmeEvents {
  readonly #listeners: Map<NvmeEventName, Set<{ readonly call: (event: never) => void }>> = new Map();

  /** Calls `listener` at each event of the type until disposed. */
  on<K extends NvmeEventName>(type: K, listener: (event: NvmeEventMap[K]) => void): Disposable {
    const entry = { call: listener };
    const entries = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, entries.add(entry));
    return { [Symbol.dispose]: () => void entries.delete(entry) };
  }

  /** For the driver. */
  emit<K extends NvmeEventName>(type: K, event: NvmeEventMap[K]): void {
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

// Saves a function's state where somebody wants it: before a client hears of what changed it. Says once where that fails.
import { isRing3Error, messageOf, Ring3Error } from "../binary/error.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import type { ServeOptions, StateStore } from "./server-options.ts";
import { StateFile } from "./server-state.ts";
import type { Counters } from "./server-statistics.ts";

export class StateSaving implements Disposable {
  readonly #fn: VirtualFunction;
  readonly #counters: Counters;
  readonly #failed: (error: unknown) => void;
  readonly #store: StateStore | undefined;
  readonly #ownStore: StateFile | undefined;
  /** The last attempt failed. */
  #unsaved = false;

  /** Opens the file where it is one. `failed` hears of what goes wrong while clients are served. */
  constructor(fn: VirtualFunction, state: ServeOptions["state"], counters: Counters, failed: (error: unknown) => void) {
    this.#fn = fn;
    this.#counters = counters;
    this.#failed = failed;
    this.#ownStore = typeof state === "string" ? new StateFile(state) : undefined;
    this.#store = typeof state === "object" ? state : this.#ownStore;
  }

  /** Gives the function the state that was saved last. */
  restore(): void {
    const state = this.#store?.load();
    // The process that saved it may have been killed: how far it went on afterwards, nobody knows.
    if (state !== undefined) this.#fn.restore(state, { stale: true });
  }

  /** Throws `STATE_NOT_SAVED`. */
  save(): void {
    if (this.#store === undefined) return;
    try {
      this.#store.save(this.#fn.save());
      this.#counters.stateSaves++;
    } catch (error) {
      const errno = (isRing3Error(error) && error.errno) || "EIO";
      const why = messageOf(error);
      const sentence = `the function's state was not saved, and the one before stays: ${why}`;
      throw new Ring3Error("STATE_NOT_SAVED", sentence, { errno, cause: error });
    }
  }

  /** Says so once where it fails; what was saved before stays, and the next time it is tried again. */
  trySave(): void {
    if (this.#store === undefined) return;
    try {
      this.save();
      this.#unsaved = false;
    } catch (error) {
      if (!this.#unsaved) this.#failed(error);
      this.#unsaved = true;
    }
  }

  [Symbol.dispose](): void {
    this.#ownStore?.[Symbol.dispose]();
  }
}

// How a function ends: once, with one error that everything pending and everything later gets.
import { Ring3Error } from "../binary/error.ts";

export class Ending {
  readonly #controller: AbortController = new AbortController();
  #reason: Ring3Error | undefined;

  /** Aborts with the reason. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get reason(): Ring3Error | undefined {
    return this.#reason;
  }

  /** Throws the reason, once there is one. */
  check(): void {
    if (this.#reason !== undefined) throw this.#reason;
  }

  /** Ends with `reason`, or keeps the first; returns the one that counts. */
  end(reason: Ring3Error): Ring3Error {
    this.#reason ??= reason;
    return this.#reason;
  }

  /** Tells those who wait on the signal. */
  announce(): void {
    if (!this.#controller.signal.aborted) this.#controller.abort(this.#reason);
  }
}

export function closedError(address: string): Ring3Error {
  return new Ring3Error("FUNCTION_CLOSED", `${address} was closed; open it again`);
}

export function removedError(address: string, reason: string): Ring3Error {
  return new Ring3Error("FUNCTION_REMOVED", `${address} was let go: ${reason}`);
}

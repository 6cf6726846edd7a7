// Whether a stack still works. Hard about it: its device may end at any time, which the loop hears of with its next turn; whoever
// calls before that has to hear it too.
import { Ring3Error } from "../../binary/error.ts";
import type { NetDevice } from "./device.ts";

export class StackLife {
  readonly #device: Pick<NetDevice, "failure">;
  readonly #failed: (error: Error) => void;
  readonly #closing: AbortController = new AbortController();
  #failure: Error | undefined;

  /** `failed` is told once, when the stack ends by itself. */
  constructor(device: Pick<NetDevice, "failure">, failed: (error: Error) => void) {
    this.#device = device;
    this.#failed = failed;
  }

  /** Aborts when the stack is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Why the stack has ended by itself. */
  get failure(): Error | undefined {
    this.hearEnd();
    return this.#failure;
  }

  get working(): boolean {
    return this.failure === undefined && !this.closing.aborted;
  }

  /** Throws why the stack does not work any more. */
  check(): void {
    if (this.failure !== undefined) throw this.failure;
    if (this.closing.aborted) throw closedError();
  }

  /** The device may have ended since somebody looked. */
  hearEnd(): void {
    const { failure } = this.#device;
    if (failure !== undefined && !this.closing.aborted) this.fail(failure);
  }

  /** Nothing comes and nothing goes any more. */
  fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#failed(error);
  }

  /** Returns what everybody who still waits is to be told. */
  close(): Ring3Error {
    const error = closedError();
    this.#closing.abort(error);
    return error;
  }
}

function closedError(): Ring3Error {
  return new Ring3Error("NET_CLOSED", "the stack was closed");
}

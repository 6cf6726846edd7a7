// What happens to an open function, as far as a network driver has to answer it: the way back, or the end.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";

export interface FunctionAnswers {
  /** The device lost what it was told. */
  recover(reason: string): void;
  /** The function is gone. */
  end(error: Ring3Error): void;
  /** Somebody wants the function back. */
  letGo(): void;
}

/** Answers the function's events until disposed. */
export function watchFunction(fn: PciFunction, answers: FunctionAnswers): Disposable {
  const { events, gone } = fn;
  const stack = new DisposableStack();
  const onGone = (): void => {
    const { reason } = gone;
    answers.end(isRing3Error(reason) ? reason : new Ring3Error("FUNCTION_REMOVED", String(reason)));
  };
  gone.addEventListener("abort", onGone, { once: true });
  stack.defer(() => gone.removeEventListener("abort", onGone));
  /** The function may have lost its bus mastery as well. */
  const recover = (reason: string): void => {
    touch(() => {
      fn.busMaster = true;
    });
    answers.recover(reason);
  };
  stack.use(events.on("removal-requested", () => answers.letGo()));
  stack.use(events.on("removed", ({ reason }) => answers.end(removedError(fn, reason))));
  stack.use(events.on("error", ({ description }) => answers.recover(description)));
  stack.use(events.on("recovered", ({ description }) => recover(description)));
  stack.use(events.on("resumed", ({ sleptMs }) => recover(`the machine slept for ${sleptMs} ms`)));
  stack.use(events.on("reset", () => recover("somebody reset the function")));
  stack.use(
    events.on("power", ({ state }) => {
      if (state === "D0") recover("the function was powered down");
    }),
  );
  return stack;
}

/** Why the function is gone, as far as it says so itself. */
export function removedError(fn: PciFunction, reason: string): Ring3Error {
  const { gone } = fn;
  if (gone.aborted && isRing3Error(gone.reason)) return gone.reason;
  return new Ring3Error("FUNCTION_REMOVED", `${fn.identity.address} was taken away: ${reason}`);
}

/** Runs `action`; registers that are gone or off are told of by the function's events. False where they were. */
export function touch(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (!isRing3Error(error)) throw error;
    return false;
  }
}

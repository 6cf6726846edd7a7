// What -v shows: the system calls that the library makes, and how long the command took. The library tells them on a
// diagnostics channel, so nothing of it is loaded for this.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { SystemCallReport } from "ring3/binary";
import type { Context } from "./context.ts";

/** Shows calls until it is disposed. */
export async function traceCalls(path: string, { progress, style }: Context): Promise<Disposable> {
  const { SYSTEM_CALLS } = await import("ring3/binary");
  const start = performance.now();
  const show = (message: unknown): void => {
    const { call, result, tookMs } = message as SystemCallReport;
    const outcome = result < 0 ? `failed with errno ${-result}` : `= ${result}`;
    progress.step(style.dim(`${call} ${outcome} (${tookMs.toFixed(2)} ms)`));
  };
  subscribe(SYSTEM_CALLS, show);
  return {
    [Symbol.dispose]: () => {
      unsubscribe(SYSTEM_CALLS, show);
      progress.step(style.dim(`${path}: done after ${(performance.now() - start).toFixed(1)} ms`));
    },
  };
}

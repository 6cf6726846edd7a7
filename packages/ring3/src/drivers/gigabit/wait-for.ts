// Waiting for a register, with a deadline and the function's end.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { type Clock, sleep } from "../clock.ts";

/** Never look less often than this, in milliseconds. */
const SELDOM_MS = 10;

export interface WaitLimit {
  readonly timeoutMs: number;
  /** What to reject with after that time, in words of a `TIMEOUT` or whole. */
  readonly what: string | (() => Ring3Error);
}

/** Looks at `done`, at first every millisecond, until it holds. Rejects after the time, or with the function's end. */
export async function waitFor(
  fn: PciFunction,
  clock: Clock,
  { what, timeoutMs }: WaitLimit,
  done: () => boolean,
): Promise<void> {
  const deadline = clock.now() + timeoutMs;
  for (let looks = 0; !done(); looks++) {
    if (clock.now() >= deadline) {
      if (typeof what !== "string") throw what();
      throw new Ring3Error("TIMEOUT", `${fn.identity.address}: ${what} within ${timeoutMs} ms; reset the function`);
    }
    await sleep(clock, Math.min(SELDOM_MS, 1 + (looks >>> 4)), fn.gone);
  }
}

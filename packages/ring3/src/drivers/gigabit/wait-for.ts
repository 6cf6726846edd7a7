// Waiting for a register, with a deadline and the function's end.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { type Clock, sleep } from "../clock.ts";

/** Looks at `done` every millisecond until it holds. Rejects with `TIMEOUT`, or the function's end. */
export async function waitFor(
  fn: PciFunction,
  clock: Clock,
  { what, timeoutMs }: { readonly what: string; readonly timeoutMs: number },
  done: () => boolean,
): Promise<void> {
  const deadline = clock.now() + timeoutMs;
  while (!done()) {
    if (clock.now() >= deadline) {
      throw new Ring3Error("TIMEOUT", `${fn.identity.address}: ${what} within ${timeoutMs} ms; reset the function`);
    }
    await sleep(clock, 1, fn.gone);
  }
}

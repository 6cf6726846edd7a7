// The clocks that Node does not show.
import { systemCallError } from "./errno.ts";
import * as native from "./native.ts";

const MONOTONIC = 1;
const BOOTTIME = 7;

/** Milliseconds since boot without the time that the machine slept. */
export function monotonicMs(): number {
  return clock(MONOTONIC);
}

/** Milliseconds since boot, sleep included. */
export function bootTimeMs(): number {
  return clock(BOOTTIME);
}

function clock(id: number): number {
  const time = new BigInt64Array(2);
  // Told to nobody: whoever listens to calls would hear little else.
  const result = native.attemptCall(() => native.clockGettime(id, new Uint8Array(time.buffer)));
  if (result < 0) throw systemCallError("clock_gettime", -result);
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
}

// PCIe 6.0, section 7.8.2: the longest service latencies that the platform may let the function wait.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  MAX_SNOOP_LATENCY: { at: [0x04, 16], VALUE: ["RW", 0, 10], SCALE: ["RW", 10, 3] },
  MAX_NO_SNOOP_LATENCY: { at: [0x06, 16], VALUE: ["RW", 0, 10], SCALE: ["RW", 10, 3] },
} as const;

/** Latency tolerance reporting. */
export const LatencyToleranceReporting: Declared<typeof registers> = extendedCapability("LTR", 0x18, registers);

/** A latency in nanoseconds; `undefined` for the scales 6 and 7, which are not permitted. */
export function latencyNs(latency: { readonly VALUE: number; readonly SCALE: number }): number | undefined {
  return latency.SCALE > 5 ? undefined : latency.VALUE * 32 ** latency.SCALE;
}

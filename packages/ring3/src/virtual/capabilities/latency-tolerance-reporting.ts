// The longest latencies that the platform may let the function wait. PCIe 6.0, section 7.8.2. Needs LTR in the PCI Express
// capability, which software switches on.
import { LatencyToleranceReporting } from "../../pci/capabilities/latency-tolerance-reporting.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface LatencyToleranceReportingOptions {
  readonly at?: number;
}

/** Latency tolerance reporting; declare `pcie({ deviceCapabilities2: { LTR_MECHANISM_SUPPORTED: 1 } })` with it. */
export function ltr(options: LatencyToleranceReportingOptions = {}): CapabilityBuilder {
  return {
    group: LatencyToleranceReporting,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      const { MAX_NO_SNOOP_LATENCY, MAX_SNOOP_LATENCY } = LatencyToleranceReporting;
      // What the platform allows does not change with the function (section 6.6.2).
      for (const register of [MAX_SNOOP_LATENCY, MAX_NO_SNOOP_LATENCY]) {
        place.keptByFunctionReset(register, ["VALUE", "SCALE"]);
      }
    },
  };
}

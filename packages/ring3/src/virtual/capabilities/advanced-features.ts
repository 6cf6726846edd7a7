// Advanced features: a function-level reset for functions without PCI Express. PCIe 6.0, section 7.9.21.
import { AdvancedFeatures } from "../../pci/capabilities/advanced-features.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface AdvancedFeaturesOptions {
  readonly at?: number;
}

/** Advanced features with FLR and TP, which users ask for together. */
export function af(options: AdvancedFeaturesOptions = {}): CapabilityBuilder {
  const { CAPABILITIES, CONTROL, LENGTH } = AdvancedFeatures;
  return {
    group: AdvancedFeatures,
    size: 6,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.constant(LENGTH);
      place.preset(CAPABILITIES, { TRANSACTIONS_PENDING: 1, FUNCTION_LEVEL_RESET: 1 });
      place.constant(CAPABILITIES);
      // The bit reads as 0 at all times: it is not stored, it acts.
      place.only(CONTROL, []);
      place.onWrite(CONTROL, ({ raw }) => {
        if (CONTROL.fields.INITIATE_FLR.test(raw)) place.listener.flr?.("af_flr");
      });
    },
  };
}

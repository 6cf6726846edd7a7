// Alternative routing ids. PCIe 6.0, section 7.8.8. A function by itself ends the list of functions.
import { AlternativeRoutingId } from "../../pci/capabilities/alternative-routing-id.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface AlternativeRoutingIdOptions {
  readonly at?: number;
  /** Number of the next function of the device; 0, the end of the list, by default. */
  readonly nextFunction?: number;
}

/** Alternative routing-id interpretation, without function groups. */
export function ari(options: AlternativeRoutingIdOptions = {}): CapabilityBuilder {
  return {
    group: AlternativeRoutingId,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(AlternativeRoutingId.CAPABILITY, { NEXT_FUNCTION_NUMBER: options.nextFunction ?? 0 });
      place.constant(AlternativeRoutingId.CAPABILITY);
      place.only(AlternativeRoutingId.CONTROL, []);
    },
  };
}

// Access control between the functions of a device. PCIe 6.0, section 7.7.11. An endpoint has only what concerns requests
// among its own functions.
import { AccessControlServices } from "../../pci/capabilities/access-control-services.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface AccessControlServicesOptions {
  readonly at?: number;
  /** Whether requests and completions to a sibling can be sent upstream; on by default. */
  readonly requestRedirect?: boolean;
  readonly completionRedirect?: boolean;
  /** Whether translated requests may go to a sibling directly; off by default. */
  readonly directTranslated?: boolean;
}

/** Access control services of a function in a device of several. */
export function acs(options: AccessControlServicesOptions = {}): CapabilityBuilder {
  const { requestRedirect = true, completionRedirect = true, directTranslated = false } = options;
  const { CAPABILITY, CONTROL } = AccessControlServices;
  return {
    group: AccessControlServices,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(CAPABILITY, {
        P2P_REQUEST_REDIRECT: requestRedirect ? 1 : 0,
        P2P_COMPLETION_REDIRECT: completionRedirect ? 1 : 0,
        DIRECT_TRANSLATED_P2P: directTranslated ? 1 : 0,
      });
      place.constant(CAPABILITY);
      place.only(CONTROL, [
        ...(requestRedirect ? (["P2P_REQUEST_REDIRECT_ENABLE"] as const) : []),
        ...(completionRedirect ? (["P2P_COMPLETION_REDIRECT_ENABLE"] as const) : []),
        ...(directTranslated ? (["DIRECT_TRANSLATED_P2P_ENABLE"] as const) : []),
      ]);
    },
  };
}

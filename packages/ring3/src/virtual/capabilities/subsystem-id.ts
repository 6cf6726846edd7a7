// Subsystem ids of a bridge, whose header has no room for them. PCIe 6.0, section 7.9.23.
import { SubsystemId } from "../../pci/capabilities/subsystem-id.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface SubsystemIdOptions {
  readonly at?: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** Subsystem ids as a capability. Functions of header type 0 name them in their header. */
export function subsystem(options: SubsystemIdOptions): CapabilityBuilder {
  return {
    group: SubsystemId,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(SubsystemId.SUBSYSTEM_VENDOR_ID, { VALUE: options.subsystemVendorId });
      place.preset(SubsystemId.SUBSYSTEM_ID, { VALUE: options.subsystemId });
      place.constant(SubsystemId.SUBSYSTEM_VENDOR_ID);
      place.constant(SubsystemId.SUBSYSTEM_ID);
    },
  };
}

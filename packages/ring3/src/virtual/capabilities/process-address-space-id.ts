// Requests that name their address space. PCIe 6.0, section 7.8.9. Only what the function supports can be enabled.
import { Ring3Error } from "../../binary/error.ts";
import { ProcessAddressSpaceId } from "../../pci/capabilities/process-address-space-id.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface ProcessAddressSpaceIdOptions {
  readonly at?: number;
  /** Bits of the id, 1 to 20; 20 by default. */
  readonly width?: number;
  readonly executePermission?: boolean;
  readonly privilegedMode?: boolean;
}

/** Process address space ids. Throws `DECLARATION_INVALID`. */
export function pasid(options: ProcessAddressSpaceIdOptions = {}): CapabilityBuilder {
  const { width = 20, executePermission = false, privilegedMode = false } = options;
  if (!Number.isInteger(width) || width < 1 || width > 20) {
    throw new Ring3Error("DECLARATION_INVALID", `a process address space id has 1 to 20 bits, not ${width}`);
  }
  const { CAPABILITY, CONTROL } = ProcessAddressSpaceId;
  return {
    group: ProcessAddressSpaceId,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(CAPABILITY, {
        EXECUTE_PERMISSION_SUPPORTED: executePermission ? 1 : 0,
        PRIVILEGED_MODE_SUPPORTED: privilegedMode ? 1 : 0,
        MAX_PASID_WIDTH: width,
      });
      place.constant(CAPABILITY);
      place.only(CONTROL, [
        "PASID_ENABLE",
        ...(executePermission ? (["EXECUTE_PERMISSION_ENABLE"] as const) : []),
        ...(privilegedMode ? (["PRIVILEGED_MODE_ENABLE"] as const) : []),
      ]);
    },
  };
}

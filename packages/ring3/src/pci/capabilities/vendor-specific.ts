// PCIe 6.0, sections 7.9.4 (standard), 7.9.5 (extended) and 7.9.6 (designated). Their content is the vendor's; several may
// be in one function, so take `ConfigSpace.findAll`.
import type { CapabilityEntry } from "../capability-walk.ts";
import type { ConfigSpace } from "../config-space.ts";
import { capability, type Declared, extendedCapability } from "../register.ts";

const standard = { LENGTH: { at: [0x02, 8], VALUE: ["RO", 0, 8] } } as const;

/** Vendor-specific, of the function's own vendor. `LENGTH` counts from the capability's first byte. */
export const VendorSpecific: Declared<typeof standard> = capability("VNDR", 0x09, standard);

const extended = {
  HEADER: { at: [0x04, 32], VSEC_ID: ["RO", 0, 16], VSEC_REV: ["RO", 16, 4], VSEC_LENGTH: ["RO", 20, 12] },
} as const;

/** Vendor-specific extended capability, of the function's own vendor. */
export const ExtendedVendorSpecific: Declared<typeof extended> = extendedCapability("VSEC", 0x0b, extended);

const designated = {
  HEADER_1: {
    at: [0x04, 32],
    DVSEC_VENDOR_ID: ["RO", 0, 16],
    DVSEC_REVISION: ["RO", 16, 4],
    DVSEC_LENGTH: ["RO", 20, 12],
  },
  HEADER_2: { at: [0x08, 16], DVSEC_ID: ["RO", 0, 16] },
} as const;

/** Designated vendor-specific: of the vendor that it names. */
export const DesignatedVendorSpecific: Declared<typeof designated> = extendedCapability("DVSEC", 0x23, designated);

/** The designated vendor-specific capability of a vendor and id, such as 0x1e98 (CXL) and 0. */
export function findDesignated(config: ConfigSpace, vendorId: number, dvsecId: number): CapabilityEntry | undefined {
  return config.findAll(DesignatedVendorSpecific).find((entry) => {
    const { HEADER_1, HEADER_2 } = DesignatedVendorSpecific;
    if (!config.has(HEADER_2, entry)) return false;
    if (config.read(HEADER_1, entry).DVSEC_VENDOR_ID !== vendorId) return false;
    return config.read(HEADER_2, entry).DVSEC_ID === dvsecId;
  });
}

// Vendor-specific capabilities: their content is the vendor's own bytes. PCIe 6.0, sections 7.9.4 to 7.9.6. Several may be in
// one function.
import { Ring3Error } from "../../binary/error.ts";
import {
  DesignatedVendorSpecific,
  ExtendedVendorSpecific,
  VendorSpecific,
} from "../../pci/capabilities/vendor-specific.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

/** What follows the capability's head. */
export interface VendorContent {
  readonly at?: number;
  /** The bytes behind the head. */
  readonly content: Uint8Array;
  /** Which of their bits software can write, byte by byte; none by default. */
  readonly writable?: Uint8Array;
}

export interface ExtendedVendorSpecificOptions extends VendorContent {
  readonly id: number;
  readonly revision?: number;
}

export interface DesignatedVendorSpecificOptions extends ExtendedVendorSpecificOptions {
  readonly vendorId: number;
}

function checkWritable(name: string, { content, writable }: VendorContent): void {
  if (writable !== undefined && writable.length > content.length) {
    throw new Ring3Error(
      "DECLARATION_INVALID",
      `${name} has ${content.length} bytes of content and a mask of ${writable.length}; the mask may not be longer`,
    );
  }
}

/** Vendor-specific capability: three bytes of head, then `content` (at most 189 bytes). */
export function vendorSpecific(options: VendorContent): CapabilityBuilder {
  checkWritable("VNDR", options);
  const size = 3 + options.content.length;
  return {
    group: VendorSpecific,
    size,
    repeatable: true,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(VendorSpecific.LENGTH, { VALUE: size });
      place.constant(VendorSpecific.LENGTH);
      place.fill(3, options.content, options.writable);
    },
  };
}

/** Vendor-specific extended capability: eight bytes of head, then `content`. */
export function vsec(options: ExtendedVendorSpecificOptions): CapabilityBuilder {
  checkWritable("VSEC", options);
  const size = 8 + options.content.length;
  return {
    group: ExtendedVendorSpecific,
    size,
    repeatable: true,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      const { HEADER } = ExtendedVendorSpecific;
      place.preset(HEADER, { VSEC_ID: options.id, VSEC_REV: options.revision ?? 0, VSEC_LENGTH: size });
      place.constant(HEADER);
      place.fill(8, options.content, options.writable);
    },
  };
}

/** Designated vendor-specific capability, of the vendor that it names: ten bytes of head, then `content`. */
export function dvsec(options: DesignatedVendorSpecificOptions): CapabilityBuilder {
  checkWritable("DVSEC", options);
  const size = 10 + options.content.length;
  return {
    group: DesignatedVendorSpecific,
    size,
    repeatable: true,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      const { HEADER_1, HEADER_2 } = DesignatedVendorSpecific;
      const { vendorId, id, revision = 0 } = options;
      place.preset(HEADER_1, { DVSEC_VENDOR_ID: vendorId, DVSEC_REVISION: revision, DVSEC_LENGTH: size });
      place.preset(HEADER_2, { DVSEC_ID: id });
      place.constant(HEADER_1);
      place.constant(HEADER_2);
      place.fill(10, options.content, options.writable);
    },
  };
}

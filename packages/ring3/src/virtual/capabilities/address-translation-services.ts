// Translations asked of the IOMMU and kept. PCIe 6.0, section 10.5.1.
import { Ring3Error } from "../../binary/error.ts";
import { AddressTranslationServices } from "../../pci/capabilities/address-translation-services.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface AddressTranslationServicesOptions {
  readonly at?: number;
  /** Invalidations that the function takes at once, 1 to 32; 32 by default. */
  readonly invalidateQueueDepth?: number;
  /** Whether untranslated addresses are multiples of 4096; on by default. */
  readonly pageAlignedRequest?: boolean;
}

/** Address translation services. Throws `DECLARATION_INVALID`. */
export function ats(options: AddressTranslationServicesOptions = {}): CapabilityBuilder {
  const { invalidateQueueDepth = 32, pageAlignedRequest = true } = options;
  if (!Number.isInteger(invalidateQueueDepth) || invalidateQueueDepth < 1 || invalidateQueueDepth > 32) {
    throw new Ring3Error(
      "DECLARATION_INVALID",
      `the invalidate queue takes 1 to 32 requests, not ${invalidateQueueDepth}`,
    );
  }
  return {
    group: AddressTranslationServices,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(AddressTranslationServices.CAPABILITY, {
        INVALIDATE_QUEUE_DEPTH: invalidateQueueDepth % 32,
        PAGE_ALIGNED_REQUEST: pageAlignedRequest ? 1 : 0,
      });
      place.constant(AddressTranslationServices.CAPABILITY);
    },
  };
}

// PCIe 6.0, section 10.5.1: the function asks the IOMMU for translations and keeps them.
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY: {
    at: [0x04, 16],
    INVALIDATE_QUEUE_DEPTH: ["RO", 0, 5],
    PAGE_ALIGNED_REQUEST: ["RO", 5],
    GLOBAL_INVALIDATE_SUPPORTED: ["RO", 6],
    RELAXED_ORDERING_SUPPORTED: ["RO", 7],
  },
  CONTROL: { at: [0x06, 16], SMALLEST_TRANSLATION_UNIT: ["RW", 0, 5], ENABLE: ["RW", 15] },
} as const;

/** Address translation services. An INVALIDATE_QUEUE_DEPTH of 0 means 32; the smallest unit is 4096 << n bytes. */
export const AddressTranslationServices: Declared<typeof registers> = extendedCapability("ATS", 0x0f, registers);

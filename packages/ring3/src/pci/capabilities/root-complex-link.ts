// PCIe 6.0, section 7.9.8: which elements of a root complex are linked. The element's own description is followed by 16 bytes
// for each link.
import { type Declared, extendedCapability } from "../register.ts";

const element = {
  ELEMENT_SELF_DESCRIPTION: {
    at: [0x04, 32],
    ELEMENT_TYPE: ["RO", 0, 8],
    NUMBER_OF_LINK_ENTRIES: ["HwInit", 8, 8],
    COMPONENT_ID: ["HwInit", 16, 8],
    PORT_NUMBER: ["HwInit", 24, 8],
  },
} as const;

/** Root complex link declaration. */
export const RootComplexLink: Declared<typeof element> = extendedCapability("RCLINK", 0x05, element);

const link = {
  DESCRIPTION: {
    at: [0x00, 32],
    LINK_VALID: ["HwInit", 0],
    LINK_TYPE: ["HwInit", 1],
    ASSOCIATE_RCRB_HEADER: ["HwInit", 2],
    TARGET_COMPONENT_ID: ["HwInit", 16, 8],
    TARGET_PORT_NUMBER: ["HwInit", 24, 8],
  },
  ADDRESS_LOWER: { at: [0x08, 32], VALUE: ["RO", 0, 32] },
  ADDRESS_UPPER: { at: [0x0c, 32], VALUE: ["RO", 0, 32] },
} as const;

/** One link entry. */
export const RootComplexLinkEntry: Declared<typeof link> = extendedCapability("RCLINK-ENTRY", 0x05, link);

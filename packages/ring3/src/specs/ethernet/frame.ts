// The Ethernet frame: IEEE 802.3, section 3.1, and the tag of 802.1Q, section 9.6. Frames are meant without preamble and
// check sequence, which network cards add and take away.

/** Bytes of addresses and type. */
export const ETHERNET_HEADER_BYTES = 14;
/** Bytes of an 802.1Q tag, which lies between the addresses and the type. */
export const VLAN_TAG_BYTES = 4;
/** VLAN identifiers; 0 says "no VLAN, only a priority" and 4095 is reserved. */
export const VLANS = 4096;

/** Offsets in a frame. TYPE is the tag's identifier where there is a tag. */
export const EthernetField = { DESTINATION: 0, SOURCE: 6, TYPE: 12, TAG: 14 } as const;

/** Types, IEEE 802 numbers. */
export const EtherType = { IPV4: 0x0800, ARP: 0x0806, VLAN: 0x8100, IPV6: 0x86dd } as const;

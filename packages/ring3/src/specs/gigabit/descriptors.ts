// Descriptors of Intel's gigabit controllers, 16 bytes each, as 32-bit words. Receive: the 82574's extended descriptor
// (section 7.1.6) and the 82576's advanced one with a single buffer (section 7.1.5) are written and read the same way.
// Transmit: the 82574's extended data descriptor (section 7.2.10) and the 82576's advanced one (section 7.2.2.3) differ in
// their constants, and each has a context descriptor of its own for offloads.

export const DESCRIPTOR_BYTES = 16;

/** Words that software writes: the buffer's address; the 82576 ignores the header buffer's where it is not asked for. */
export const ReceiveRead = { ADDRESS_LOW: 0, ADDRESS_HIGH: 1, HEADER_LOW: 2, HEADER_HIGH: 3 } as const;
/** Words that the device writes back. LENGTH: bytes in bits 15:0, the VLAN tag in bits 31:16. */
export const ReceiveWriteBack = { TYPE: 0, HASH: 1, STATUS: 2, LENGTH: 3 } as const;
/**
 * Bits of STATUS: status in 19:0, errors in 31:20 (82574 table 40 ff., 82576 section 7.1.5.2). L4CS: the device looked at
 * the checksum of TCP or UDP; L4E and IPE: it was wrong. RXE, CXE, SEQ, SE and CE: the frame is damaged.
 */
export const ReceiveStatus = {
  DD: 0x1,
  EOP: 0x2,
  VP: 0x8,
  UDPCS: 0x10,
  L4CS: 0x20,
  IPCS: 0x40,
  CE: 0x0100_0000,
  SE: 0x0200_0000,
  SEQ: 0x0400_0000,
  CXE: 0x1000_0000,
  L4E: 0x2000_0000,
  IPE: 0x4000_0000,
  RXE: 0x8000_0000,
} as const;
/** The bits that say that a frame is damaged, as far as each device has them. */
export const DAMAGED = { E1000E: 0x9700_0000, IGB: 0x8000_0000 } as const;

/** Words of a data descriptor to be sent. */
export const TransmitWord = { ADDRESS_LOW: 0, ADDRESS_HIGH: 1, COMMAND: 2, STATUS: 3 } as const;
/** Bits of COMMAND besides the length in 15:0. TYPE: of a data descriptor, and of the 82576's context descriptor. */
export const TransmitCommand = {
  DATA_E1000E: 0x0010_0000,
  DATA_IGB: 0x0030_0000,
  CONTEXT_IGB: 0x0020_0000,
  EOP: 0x0100_0000,
  IFCS: 0x0200_0000,
  RS: 0x0800_0000,
  DEXT: 0x2000_0000,
  VLE: 0x4000_0000,
} as const;
/** Bits of STATUS: done; what to compute (POPTS); the 82576's PAYLEN, the 82574's VLAN tag. */
export const TransmitStatus = { DD: 0x1, IXSM: 0x100, TXSM: 0x200, PAYLEN_SHIFT: 14, VLAN_SHIFT: 16 } as const;

/** TUCMD of a context: the IP header is of version 4, layer 4 is TCP. 82574 section 7.2.11, 82576 section 7.2.2.2. */
export const ContextCommand = {
  E1000E: { TCP: 0x0100_0000, IPV4: 0x0200_0000 },
  IGB: { IPV4: 0x400, TCP: 0x800 },
} as const;

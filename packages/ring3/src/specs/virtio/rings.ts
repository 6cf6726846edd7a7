// Layout of the two kinds of virtqueue: virtio 1.3, sections 2.7 (split) and 2.8 (packed). Indices count elements of the
// typed array over the area in question, so that rings address them without arithmetic on bytes.

/** Bytes of a descriptor, in both kinds of ring and in indirect tables. */
export const DESCRIPTOR_BYTES = 16;
/** 32-bit words of a descriptor, sections 2.7.5 and 2.8.13. The last holds two 16-bit fields. */
export const DescriptorWord = {
  ADDRESS_LOW: 0,
  ADDRESS_HIGH: 1,
  LENGTH: 2,
  /** Split: flags in bits 15:0, next in bits 31:16. Packed: buffer id in bits 15:0, flags in bits 31:16. */
  LAST: 3,
} as const;
/** Flags of a descriptor, sections 2.7.5 and 2.8.1. AVAIL and USED are the packed ring's. */
export const DescriptorFlag = { NEXT: 0x1, WRITE: 0x2, INDIRECT: 0x4, AVAIL: 0x80, USED: 0x8000 } as const;

/** 16-bit indices in the available ring, section 2.7.6; `used_event` follows the ring. */
export const AvailHalfword = { FLAGS: 0, INDEX: 1, RING: 2 } as const;
/** Bit 0 of the available ring's flags: no interrupts, please. */
export const AVAIL_NO_INTERRUPT = 1;
/** 16-bit indices in the used ring, section 2.7.8; `avail_event` follows the ring. */
export const UsedHalfword = { FLAGS: 0, INDEX: 1 } as const;
/** 32-bit indices in the used ring: entries of two words, id and length, from the second word on. */
export const UsedWord = { RING: 1, ID: 0, LENGTH: 1, ENTRY: 2 } as const;

/** Bytes of the areas of a split ring of `size` entries, with the event index, section 2.7. */
export function availBytes(size: number): number {
  return 6 + 2 * size;
}
export function usedBytes(size: number): number {
  return 6 + 8 * size;
}

/** Bytes of an event suppression structure, section 2.8.14: offset and wrap in bits 15:0, flags in bits 17:16. */
export const EVENT_SUPPRESSION_BYTES = 4;
/** Flags of event suppression, section 2.8.10. */
export const EventFlags = { ENABLE: 0, DISABLE: 1, DESCRIPTOR: 2 } as const;
/** The wrap counter's place beside the offset of an event. */
export const EVENT_WRAP = 0x8000;

/** Alignments in bytes that sections 2.7 and 2.8.10.1 ask for. */
export const RingAlignment = {
  SPLIT: { descriptor: 16, driver: 2, device: 4 },
  PACKED: { descriptor: 16, driver: 4, device: 4 },
} as const;

/**
 * Whether an event at `event` lies in what went from `before` to `after` (16-bit counters): the test of section 2.7.10
 * that both sides make before they notify.
 */
export function eventPassed(event: number, after: number, before: number): boolean {
  return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
}

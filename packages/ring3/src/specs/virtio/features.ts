// Feature bits, numbered from 0 to 63: virtio 1.3, sections 6 (all devices), 5.1.3 (network) and 5.2.3 (block).
// Feature sets are two 32-bit words, since drivers and devices exchange them so.

/** Features of the queues and of the transport, section 6. */
export const Feature = {
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  VERSION_1: 32,
  ACCESS_PLATFORM: 33,
  RING_PACKED: 34,
  IN_ORDER: 35,
  ORDER_PLATFORM: 36,
  SR_IOV: 37,
  NOTIFICATION_DATA: 38,
  NOTIF_CONFIG_DATA: 39,
  RING_RESET: 40,
  ADMIN_VQ: 41,
} as const;

/** Features of a block device, section 5.2.3. */
export const BlockFeature = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
  LIFETIME: 15,
  SECURE_ERASE: 16,
  ZONED: 17,
} as const;

/** Features of a network device, section 5.1.3. */
export const NetFeature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  GUEST_UFO: 10,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  HOST_UFO: 14,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_VLAN: 19,
  CTRL_RX_EXTRA: 20,
  GUEST_ANNOUNCE: 21,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  HOST_USO: 56,
  HASH_REPORT: 57,
  GUEST_HDRLEN: 59,
  RSS: 60,
  RSC_EXT: 61,
  STANDBY: 62,
  SPEED_DUPLEX: 63,
} as const;

/** Which feature needs at least one of which others, where a device offers them: sections 5.1.3.1 and 5.2.5.2. */
export const NET_FEATURE_NEEDS: readonly (readonly [feature: number, oneOf: readonly number[]])[] = [
  [NetFeature.GUEST_TSO4, [NetFeature.GUEST_CSUM]],
  [NetFeature.GUEST_TSO6, [NetFeature.GUEST_CSUM]],
  [NetFeature.GUEST_ECN, [NetFeature.GUEST_TSO4, NetFeature.GUEST_TSO6]],
  [NetFeature.GUEST_UFO, [NetFeature.GUEST_CSUM]],
  [NetFeature.HOST_TSO4, [NetFeature.CSUM]],
  [NetFeature.HOST_TSO6, [NetFeature.CSUM]],
  [NetFeature.HOST_ECN, [NetFeature.HOST_TSO4, NetFeature.HOST_TSO6]],
  [NetFeature.HOST_UFO, [NetFeature.CSUM]],
  [NetFeature.HOST_USO, [NetFeature.CSUM]],
  [NetFeature.CTRL_RX, [NetFeature.CTRL_VQ]],
  [NetFeature.CTRL_RX_EXTRA, [NetFeature.CTRL_VQ]],
  [NetFeature.CTRL_VLAN, [NetFeature.CTRL_VQ]],
  [NetFeature.GUEST_ANNOUNCE, [NetFeature.CTRL_VQ]],
  [NetFeature.MQ, [NetFeature.CTRL_VQ]],
  [NetFeature.CTRL_MAC_ADDR, [NetFeature.CTRL_VQ]],
];

/** A set of feature bits: the words that the feature registers show at select 0 and 1. */
export class FeatureSet {
  /** Bits 31:0. */
  low = 0;
  /** Bits 63:32. */
  high = 0;

  constructor(features: Iterable<number> = []) {
    for (const feature of features) this.add(feature);
  }

  add(feature: number): void {
    if (!(Number.isInteger(feature) && feature >= 0 && feature < 64)) throw new RangeError(`no feature bit ${feature}`);
    if (feature < 32) this.low = (this.low | (1 << feature)) >>> 0;
    else this.high = (this.high | (1 << (feature - 32))) >>> 0;
  }

  has(feature: number): boolean {
    return (((feature < 32 ? this.low : this.high) >>> (feature & 31)) & 1) === 1;
  }

  /** The word that the feature registers show; zero for selects above 1. */
  word(select: number): number {
    return select === 0 ? this.low : select === 1 ? this.high : 0;
  }

  setWord(select: number, word: number): void {
    if (select === 0) this.low = word >>> 0;
    else if (select === 1) this.high = word >>> 0;
  }

  /** Whether every feature of this set is also in `other`. */
  within(other: FeatureSet): boolean {
    return (this.low & ~other.low) === 0 && (this.high & ~other.high) === 0;
  }

  copy(other: FeatureSet): void {
    this.low = other.low;
    this.high = other.high;
  }

  clear(): void {
    this.low = 0;
    this.high = 0;
  }
}

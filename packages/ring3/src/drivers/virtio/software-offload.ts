// What a packet asks of the device that sends it and a virtio device does not do: an 802.1Q tag to be put in, the checksum of
// an IPv4 header, and, where CSUM was not negotiated, that of UDP or TCP.
import { EtherType, EthernetField, MAC_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { put16 } from "../net/byte-order.ts";
import { finishSum, sumBytes } from "../net/checksum.ts";
import { PacketFlag } from "../net/packets.ts";

/** Where an IPv4 header keeps its checksum. */
export const IPV4_CHECKSUM_AT = 10;
/** Where the two protocols keep their checksum, from the start of their header. */
export const ChecksumOffset = { TCP: 16, UDP: 6 } as const;

/** Puts a tag into the frame at `place`, which then begins {@link VLAN_TAG_BYTES} earlier. */
export function insertTag(bytes: Uint8Array, place: number, tag: number): void {
  const at = place - VLAN_TAG_BYTES;
  for (let i = 0; i < 2 * MAC_BYTES; i++) bytes[at + i] = bytes[place + i] as number;
  put16(bytes, at + EthernetField.TYPE, EtherType.VLAN);
  put16(bytes, at + EthernetField.TAG, tag);
}

/** Computes the checksum of the IPv4 header of `ipBytes` behind an Ethernet header of `ethernetBytes`. */
export function computeIpv4Checksum(bytes: Uint8Array, place: number, ethernetBytes: number, ipBytes: number): void {
  const at = place + ethernetBytes;
  put16(bytes, at + IPV4_CHECKSUM_AT, 0);
  put16(bytes, at + IPV4_CHECKSUM_AT, finishSum(sumBytes(bytes, at, ipBytes)));
}

/** Completes a checksum that has the pseudo header's sum already, over everything from `start` to the frame's end. */
export function computeL4Checksum(
  bytes: Uint8Array,
  place: number,
  length: number,
  start: number,
  flags: number,
): void {
  const at = place + start + ((flags & PacketFlag.TCP_CHECKSUM) === 0 ? ChecksumOffset.UDP : ChecksumOffset.TCP);
  const sum = finishSum(sumBytes(bytes, place + start, length - start));
  put16(bytes, at, sum === 0 ? 0xffff : sum);
}

// Checksums that a driver leaves to the device: virtio 1.3, sections 5.1.6.2 and 5.1.6.4. Of a frame that is sent the field
// holds the sum of the pseudo header already, so that the ones' complement sum from there to the frame's end, inverted, is
// right (RFC 1071).
import { ETHERNET_HEADER_BYTES, EtherType, EthernetField, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";

const TCP = 6;
const UDP = 17;
const IPV6_HEADER_BYTES = 40;

/**
 * Puts the checksum of the bytes from `start` on to `start + offset`. Returns `false`, with the frame as it was, where that
 * lies outside of it.
 */
export function completeChecksum(frame: Uint8Array, start: number, offset: number): boolean {
  const at = start + offset;
  if (at + 2 > frame.length) return false;
  // The pairs begin at `start`, whether that is even or not.
  const sum = folded(sumFrom(frame, start, frame.length));
  // Zero would say that there is no checksum (RFC 768); its other form is as right in every protocol.
  const checksum = ~sum & 0xffff || 0xffff;
  frame[at] = checksum >>> 8;
  frame[at + 1] = checksum & 0xff;
  return true;
}

/**
 * Whether a received frame carries a whole TCP or UDP datagram over IPv4 or IPv6 whose checksum is right. `false` where it
 * is not, or says nothing: fragments, extension headers, UDP without a checksum.
 */
export function checksumIsRight(frame: Uint8Array): boolean {
  let at = ETHERNET_HEADER_BYTES;
  let type = half(frame, EthernetField.TYPE);
  if (type === EtherType.VLAN) {
    type = half(frame, EthernetField.TAG + 2);
    at += VLAN_TAG_BYTES;
  }
  if (type === EtherType.IPV4) {
    const headerBytes = ((frame[at] ?? 0) & 15) * 4;
    const total = half(frame, at + 2);
    const fragment = (half(frame, at + 6) & 0x3fff) !== 0;
    if ((frame[at] ?? 0) >>> 4 !== 4 || headerBytes < 20 || total < headerBytes || at + total > frame.length)
      return false;
    return !fragment && isRight(frame, frame[at + 9] ?? 0, at + 12, 8, at + headerBytes, at + total);
  }
  if (type !== EtherType.IPV6) return false;
  const start = at + IPV6_HEADER_BYTES;
  const end = start + half(frame, at + 4);
  return end <= frame.length && isRight(frame, frame[at + 6] ?? 0, at + 8, 32, start, end);
}

function isRight(
  frame: Uint8Array,
  protocol: number,
  addressesAt: number,
  addressBytes: number,
  start: number,
  end: number,
): boolean {
  if (protocol !== TCP && protocol !== UDP) return false;
  if (end - start < (protocol === TCP ? 20 : 8)) return false;
  // UDP names its length once more, and zero says that there is no checksum.
  if (protocol === UDP && (half(frame, start + 4) !== end - start || half(frame, start + 6) === 0)) return false;
  const pseudo = sumFrom(frame, addressesAt, addressesAt + addressBytes) + protocol + end - start;
  return folded(pseudo + sumFrom(frame, start, end)) === 0xffff;
}

/** The sum of 16-bit words from `start` to `end`, the last of which may lack its second byte. */
function sumFrom(frame: Uint8Array, start: number, end: number): number {
  let sum = 0;
  let i = start;
  for (; i + 1 < end; i += 2) sum += ((frame[i] as number) << 8) | (frame[i + 1] as number);
  if (i < end) sum += (frame[i] as number) << 8;
  return sum;
}

function folded(sum: number): number {
  const once = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return (once & 0xffff) + (once >>> 16);
}

function half(frame: Uint8Array, at: number): number {
  return at + 1 < frame.length ? ((frame[at] as number) << 8) | (frame[at + 1] as number) : 0;
}

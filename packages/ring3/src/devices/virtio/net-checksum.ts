// The checksum that a driver leaves to the device: virtio 1.3, section 5.1.6.2. The field holds the sum of the pseudo header
// already, so that the ones' complement sum from there to the frame's end, inverted, is right (RFC 1071).

/**
 * Puts the checksum of the bytes from `start` on to `start + offset`. Returns `false`, with the frame as it was, where that
 * lies outside of it.
 */
export function completeChecksum(frame: Uint8Array, start: number, offset: number): boolean {
  const at = start + offset;
  if (at + 2 > frame.length) return false;
  let sum = 0;
  // The pairs begin at `start`, whether that is even or not.
  let i = start;
  for (; i + 1 < frame.length; i += 2) sum += ((frame[i] as number) << 8) | (frame[i + 1] as number);
  if (i < frame.length) sum += (frame[i] as number) << 8;
  sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  sum = (sum & 0xffff) + (sum >>> 16);
  // Zero would say that there is no checksum (RFC 768); its other form is as right in every protocol.
  const checksum = ~sum & 0xffff || 0xffff;
  frame[at] = checksum >>> 8;
  frame[at + 1] = checksum & 0xff;
  return true;
}

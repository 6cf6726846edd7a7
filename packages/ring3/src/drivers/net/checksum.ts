// The Internet checksum: RFC 1071. The ones' complement of the ones' complement sum of 16-bit words; a sum that has its
// own checksum in it folds to 0xffff.

/** Adds `length` bytes from `at` on to `sum`, as 16-bit words of which the last may lack its second byte. */
export function sumBytes(bytes: Uint8Array, at: number, length: number, sum = 0): number {
  const end = at + length;
  const even = end - (length & 1);
  let total = sum;
  for (let i = at; i < even; i += 2) total += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  if (even !== end) total += (bytes[even] as number) << 8;
  return foldSum(total);
}

/** The sum of a pseudo header (RFC 768, RFC 9293 section 3.1) over `length` bytes of `protocol`. */
export function sumPseudoHeader(source: number, destination: number, protocol: number, length: number): number {
  return foldSum(
    (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length,
  );
}

/** What goes into the checksum field for `sum`. */
export function finishSum(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/** Carries added back until 16 bits are left. */
function foldSum(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/**
 * Formats bytes as lines of an offset and 16 bytes, the form of `lspci -x`.
 * `start` is the offset shown for the first byte; `offsetDigits` its width.
 */
export function hexdump(bytes: Uint8Array, start = 0, offsetDigits = 2): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const line = Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    lines.push(`${(start + at).toString(16).padStart(offsetDigits, "0")}: ${line}`);
  }
  return lines.join("\n");
}

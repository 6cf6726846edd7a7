/** A space and two digits, by value. */
const BYTES: readonly string[] = Array.from({ length: 256 }, (_, byte) => ` ${byte.toString(16).padStart(2, "0")}`);

/**
 * Formats bytes as lines of an offset and 16 bytes, the form of `lspci -x`.
 * `start` is the offset shown for the first byte; `offsetDigits` its width.
 */
export function hexdump(bytes: Uint8Array, start = 0, offsetDigits = 2): string {
  let text = "";
  for (let at = 0; at < bytes.length; at++) {
    if (at % 16 === 0) text += `${at === 0 ? "" : "\n"}${(start + at).toString(16).padStart(offsetDigits, "0")}:`;
    text += BYTES[bytes[at] ?? 0] ?? "";
  }
  return text;
}

// Ethernet addresses: numbers below 2^48, the first byte most significant. Hot loops compare bytes in place instead.

/** Bytes of an address. */
export const MAC_BYTES = 6;
/** All stations. */
export const BROADCAST_MAC = 0xffff_ffff_ffff;

/** The address at byte `at`. */
export function macAt(bytes: Uint8Array, at: number): number {
  const high = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
  const low = ((bytes[at + 3] as number) << 16) | ((bytes[at + 4] as number) << 8) | (bytes[at + 5] as number);
  return high * 2 ** 24 + low;
}

/** Writes an address at byte `at`. */
export function putMac(bytes: Uint8Array, at: number, mac: number): void {
  const high = Math.floor(mac / 2 ** 24);
  const low = mac % 2 ** 24;
  bytes[at] = high >>> 16;
  bytes[at + 1] = high >>> 8;
  bytes[at + 2] = high;
  bytes[at + 3] = low >>> 16;
  bytes[at + 4] = low >>> 8;
  bytes[at + 5] = low;
}

/** Whether it names a group of stations, or all. */
export function isGroupMac(mac: number): boolean {
  return Math.floor(mac / 2 ** 40) % 2 === 1;
}

/** `52:54:00:12:34:56`. */
export function macText(mac: number): string {
  return (mac.toString(16).padStart(12, "0").match(/../g) ?? []).join(":");
}

/** The number of `52:54:00:12:34:56`; `undefined` for anything else. */
export function parseMacText(text: string): number | undefined {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) ? Number.parseInt(text.replaceAll(":", ""), 16) : undefined;
}

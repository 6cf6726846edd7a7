// What a network device is plugged into, whatever is behind it: a port of a switch in process, a stream socket, a tap.
// Frames are Ethernet frames without preamble and check sequence, fully checksummed, and belong to the caller again when
// the call returns.

/** The end of a cable. */
export interface NetLink {
  /** Whether there is a carrier. */
  readonly up: boolean;
  /** Whether frames had better wait: the receiver hears when they need not any more. */
  readonly congested: boolean;
  /** Sends a frame; `false` where it was dropped. Never throws for what a frame contains. */
  send(frame: Uint8Array): boolean;
  /** Who hears of frames that come, one at a time; `undefined` unplugs. */
  attach(receiver: NetReceiver | undefined): void;
}

/** Who is plugged into a link. */
export interface NetReceiver {
  /** A frame came; `false` where it was dropped. */
  receive(frame: Uint8Array): boolean;
  /** The carrier came or went. */
  linkChanged(up: boolean): void;
  /** The link is no longer congested. */
  writable(): void;
}

/** Bytes of an Ethernet header, of an 802.1Q tag, and of an address. */
export const ETHERNET_HEADER_BYTES = 14;
export const VLAN_TAG_BYTES = 4;
export const MAC_BYTES = 6;

/** A MAC address of a frame as a number below 2^48, from byte `at` on. */
export function macAt(frame: Uint8Array, at: number): number {
  const high = ((frame[at] as number) << 16) | ((frame[at + 1] as number) << 8) | (frame[at + 2] as number);
  const low = ((frame[at + 3] as number) << 16) | ((frame[at + 4] as number) << 8) | (frame[at + 5] as number);
  return high * 2 ** 24 + low;
}

/** `52:54:00:12:34:56` of a number below 2^48. */
export function macText(mac: number): string {
  return (mac.toString(16).padStart(12, "0").match(/../g) ?? []).join(":");
}

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

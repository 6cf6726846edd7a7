// What the host asks of the program in the guest, and what that answers.

/** Two ports on one hub. */
export interface ForwardPlan {
  readonly name: string;
  readonly addresses: readonly [string, string];
  readonly rounds: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

export const FORWARDERS = ["ring3, one emitted loop", "ring3, bursts", "testpmd, io"] as const;
export type ForwarderName = (typeof FORWARDERS)[number];

/** Frames a second that both ports received together: one line of JSON for each turn. */
export interface ForwardFigure {
  readonly forwarder: ForwarderName;
  readonly perSecond: number;
}

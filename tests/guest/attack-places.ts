// What the processes of the attacks on a ring3d in the guest agree on.

/** The neighbour's memory. */
export const NEIGHBOUR_SIZE = 0x4000;
export const NEIGHBOUR_CONTENT = 0x5a5a_5a5a;

/** What the attacker asks the machine's owner; it looks at the function of that name and address. */
export interface OwnerQuestion {
  readonly ask: "view" | "kick";
  readonly name: string;
  readonly address: string;
}

/** The owner's own memory, and what the kernel has said since the last question. */
export interface MachineView {
  /** Of the page at this physical address every word is {@link HOST_CONTENT}. */
  readonly hostAddress: number;
  readonly hostIntact: boolean;
  readonly log: readonly string[];
}

export const HOST_CONTENT = 0xc5c5_c5c5;

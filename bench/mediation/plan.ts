// What the program in the guest is asked to measure, and what it answers.
import type { Face } from "../guest/plan.ts";

/** How the mediator shows the function: pages of BARs mapped to its user, or every access through it. */
export type Way = "mapped" | "trapped";

export interface TurnPlan {
  readonly address: string;
  readonly namespaceId: number;
  readonly way: Way;
  readonly turns: number;
  readonly turnMs: number;
}

/** One turn: reads in a second without the mediator, and with it. */
export interface Turn {
  readonly face: Face;
  readonly depth: number;
  readonly direct: number;
  readonly mediated: number;
}

export const FACES: readonly Face[] = ["ring", "interrupt"];
export const DEPTHS: readonly number[] = [1, 32];

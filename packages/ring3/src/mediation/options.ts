// How a function is mediated.
import type { RegisterGroup } from "../pci/register.ts";
import type { BarIndex } from "../pci/function.ts";
import type { CapabilityBuilder } from "../virtual/capability-builder.ts";
import type { BarRangeRule } from "./bar-policy.ts";
import type { MediationObserver } from "./observer.ts";
import type { RuleSet } from "./rules.ts";

/** How {@link mediate} shows a function to its users. */
export interface MediationOptions {
  /** Shown in messages; the function's address by default. */
  readonly name?: string;
  /** What of config space users see; `strict` by default. */
  readonly rules?: RuleSet;
  /** Capabilities that users do not see, besides those that the rules hide: declarations of ring3/pci, or `groupOf`. */
  readonly hide?: readonly RegisterGroup[];
  /** Capabilities that users see besides: all in software. */
  readonly add?: readonly CapabilityBuilder[];
  /** BARs of which every access goes through the mediator, where observers see it: all with `true`. */
  readonly trap?: boolean | readonly BarIndex[];
  /** Ranges of BARs that users may not access as they like. */
  readonly ranges?: readonly BarRangeRule[];
  /** Bytes of memory that a user may have locked for DMA; as much as the process may lock by default. */
  readonly lockedBytes?: number;
  /** Maps that a user may have; 65,535 by default. */
  readonly maps?: number;
  /**
   * What if the function cannot be reset alone: a user would find what the one before left in it. `refuse` by default.
   */
  readonly withoutReset?: "refuse" | "allow";
  /** Listens from the start. */
  readonly observer?: MediationObserver;
  /** Clock for rate limits, in milliseconds. */
  readonly now?: () => number;
}

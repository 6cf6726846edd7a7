// The mediator's rule sets by their names.
import { linux, type RuleSet, strict, vfio2010 } from "ring3/mediation";
import type { RuleSetName } from "./mediation-options.ts";

const RULE_SETS: Readonly<Record<RuleSetName, RuleSet>> = { strict, linux, "vfio-2010": vfio2010 };

export function ruleSet(name: RuleSetName): RuleSet {
  return RULE_SETS[name];
}

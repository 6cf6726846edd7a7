// From what the configuration says of a function to how it is mediated.
import type { MediationObserver, MediationOptions } from "ring3/mediation";
import { ruleSet } from "../serve/rule-sets.ts";
import type { FunctionSettings } from "./configuration.ts";

export function mediationOptions(settings: FunctionSettings, observer: MediationObserver): MediationOptions {
  const { name, rules, hide, trap, ranges, lockLimit, maps, allowWithoutReset } = settings;
  return {
    name,
    rules: ruleSet(rules),
    hide,
    trap,
    ranges,
    maps,
    ...(lockLimit === undefined ? {} : { lockedBytes: lockLimit }),
    withoutReset: allowWithoutReset ? "allow" : "refuse",
    observer,
  };
}

/** Whether two settings differ in nothing but who may use the function. */
export function sameService(one: FunctionSettings, other: FunctionSettings): boolean {
  const plain = ({ users: _users, hide, ...rest }: FunctionSettings): string =>
    JSON.stringify({ ...rest, hide: hide.map(({ name }) => name) });
  return plain(one) === plain(other);
}

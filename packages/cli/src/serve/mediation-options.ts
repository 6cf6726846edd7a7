// Words of `ring3 serve pci` and of ring3d's configuration about what users see: rule sets, hidden capabilities, BARs that are
// trapped, and ranges of them that users may not access as they like.
import type { BarIndex } from "ring3";
import type { BarRangeRule } from "ring3/mediation";
import type { RegisterGroup } from "ring3/pci";
import { UsageError } from "../usage-error.ts";

/** What of config space users see and write; `ruleSet` of rule-sets.ts has the tables. */
export const RULE_SET_NAMES = ["strict", "linux", "vfio-2010"] as const;
export type RuleSetName = (typeof RULE_SET_NAMES)[number];

const RANGE =
  /^bar([0-5])\+(0x[0-9a-f]+|\d+)\+(0x[0-9a-f]+|\d+)=(?:(read-only|hidden|trapped)|limited:([1-9]\d{0,8}))$/i;

/** `bar0+0x1000+0x100=read-only`: BAR, offset and size in bytes, and what becomes of accesses. Throws `UsageError`. */
export function parseBarRule(text: string): BarRangeRule {
  const match = RANGE.exec(text);
  if (match === null) {
    throw new UsageError(
      `--range "${text}": write bar0+OFFSET+SIZE=read-only, =hidden, =trapped, or =limited:N for N writes a second`,
    );
  }
  const [, bar, offset, size, access, writes] = match;
  const place = { bar: Number(bar) as BarIndex, offset: Number(offset), size: Number(size) };
  if (writes !== undefined) return { ...place, access: "limited", writesPerSecond: Number(writes) };
  return { ...place, access: access?.toLowerCase() as "read-only" | "hidden" | "trapped" };
}

/** `all`, or BARs as `bar0` and `2`. Throws `UsageError`. */
export function parseTraps(words: readonly string[]): boolean | readonly BarIndex[] {
  if (words.length === 0) return false;
  if (words.includes("all")) return true;
  return words.map((word) => {
    const index = /^(?:bar)?([0-5])$/i.exec(word)?.[1];
    if (index === undefined) throw new UsageError(`--trap "${word}": name a BAR, bar0 to bar5, or all`);
    return Number(index) as BarIndex;
  });
}

/** Capabilities by a name, in the specification's spelling or near it; `otherwise` throws, and is told which names there are. */
export function namedCapabilities(
  name: string,
  groups: readonly RegisterGroup[],
  otherwise: (known: string) => never,
): readonly RegisterGroup[] {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[\s_-]/g, "");
  const found = groups.filter((group) => plain(group.name) === plain(name));
  if (found.length > 0) return found;
  return otherwise([...new Set(groups.map((group) => group.name))].join(", "));
}

// What a user may do with a BAR: which pages it may map, and what becomes of accesses to ranges that a rule names.
import { Ring3Error } from "../binary/error.ts";
import type { MsiXLayout } from "../pci/capabilities/msi-x.ts";
import type { Bar, BarIndex, ByteRange } from "../pci/function.ts";

/** A rule over a range of a BAR. Its pages are not mapped: every access is looked at. */
export interface BarRangeRule extends ByteRange {
  readonly bar: BarIndex;
  /**
   * `trapped`: as without the rule, but seen. `read-only`: writes are dropped. `hidden`: reads as ones, writes are dropped.
   * `limited`: of writes, so many a second pass.
   */
  readonly access: "trapped" | "read-only" | "hidden" | "limited";
  /** For `limited`: at least 1. */
  readonly writesPerSecond?: number;
}

const PAGE = 4096;

/** The rules of one BAR. */
export class BarPolicy {
  readonly #rules: readonly BarRangeRule[];
  readonly #now: () => number;
  /** By rule: writes that may pass now, and when that was worked out. */
  readonly #budgets = new Map<BarRangeRule, { left: number; atMs: number }>();

  /** Throws `RULE_INVALID` for a range that leaves the BAR. `now` is a clock in milliseconds. */
  constructor(bar: Bar, rules: readonly BarRangeRule[], now: () => number) {
    this.#rules = rules.filter(({ bar: index }) => index === bar.index);
    this.#now = now;
    for (const { offset, size, access, writesPerSecond } of this.#rules) {
      const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size > 0;
      if (!whole || offset + size > bar.size) {
        throw new Ring3Error(
          "RULE_INVALID",
          `${size} bytes at 0x${offset.toString(16)} leave BAR ${bar.index}, which has ${bar.size} bytes`,
        );
      }
      if ((access === "limited") !== (writesPerSecond !== undefined) || (writesPerSecond ?? 1) < 1) {
        throw new Ring3Error(
          "RULE_INVALID",
          `a limited range of BAR ${bar.index} takes writesPerSecond of at least 1, others none`,
        );
      }
    }
  }

  /** The rule that an access of `width` bytes at `offset` meets, the strictest where there are several. */
  ruleAt(offset: number, width: number): BarRangeRule | undefined {
    if (this.#rules.length === 0) return undefined;
    const met = this.#rules.filter((rule) => rule.offset < offset + width && offset < rule.offset + rule.size);
    for (const access of ["hidden", "read-only", "limited", "trapped"] as const) {
      const found = met.find((rule) => rule.access === access);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Whether a write under a `limited` rule passes now. */
  passes(rule: BarRangeRule): boolean {
    const rate = rule.writesPerSecond ?? 1;
    const now = this.#now();
    const budget = this.#budgets.get(rule) ?? { left: rate, atMs: now };
    budget.left = Math.min(rate, budget.left + ((now - budget.atMs) * rate) / 1000);
    budget.atMs = now;
    this.#budgets.set(rule, budget);
    if (budget.left < 1) return false;
    budget.left -= 1;
    return true;
  }

  /** What of the function's mappable areas a user may map: whole pages that no rule and no MSI-X structure touches. */
  mappable(areas: readonly ByteRange[], bar: BarIndex, msix: MsiXLayout | undefined): ByteRange[] {
    const holes: ByteRange[] = [...this.#rules];
    for (const place of msix === undefined ? [] : [msix.table, msix.pendingBits]) {
      if (place.bar === bar) holes.push(place);
    }
    let left = areas.flatMap(({ offset, size }) => {
      const start = Math.ceil(offset / PAGE) * PAGE;
      const end = Math.floor((offset + size) / PAGE) * PAGE;
      return end > start ? [{ offset: start, size: end - start }] : [];
    });
    for (const hole of holes) {
      const start = Math.floor(hole.offset / PAGE) * PAGE;
      const end = Math.ceil((hole.offset + hole.size) / PAGE) * PAGE;
      left = left.flatMap((area) => {
        const areaEnd = area.offset + area.size;
        const below = { offset: area.offset, size: Math.min(start, areaEnd) - area.offset };
        const from = Math.max(end, area.offset);
        const above = { offset: from, size: areaEnd - from };
        return [below, above].filter(({ size }) => size > 0);
      });
    }
    return left;
  }
}

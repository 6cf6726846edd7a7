// Two samples of what functions did make rates. A function that came in between, or whose counters began anew, has none yet.
import type { FunctionActivity } from "ring3/host";

interface VectorRate {
  readonly irq: number;
  readonly name: string;
  readonly count: number;
  readonly perSecond: number;
}

export type FunctionRate = Omit<FunctionActivity, "interrupts"> & {
  /** Of all its interrupts. */
  readonly count: number;
  readonly perSecond: number;
  readonly interrupts: readonly VectorRate[];
  /** Errors of any severity that came since the sample before. */
  readonly newErrors: number;
};

export const ORDERS = ["rate", "errors", "address", "driver"] as const;
export type Order = (typeof ORDERS)[number];

export function ratesOf(
  before: readonly FunctionActivity[],
  now: readonly FunctionActivity[],
  elapsedMs: number,
): FunctionRate[] {
  const former = new Map(before.map((fn) => [fn.address, fn]));
  return now.map((fn) => {
    const own = former.get(fn.address);
    const counted = new Map(own?.interrupts.map(({ irq, count }) => [irq, count]));
    const interrupts = fn.interrupts.map(({ irq, name, count }) => {
      const gained = Math.max(0, count - (counted.get(irq) ?? count));
      return { irq, name, count, perSecond: elapsedMs > 0 ? (gained * 1000) / elapsedMs : 0 };
    });
    const sum = (pick: (vector: VectorRate) => number): number => interrupts.reduce((all, one) => all + pick(one), 0);
    const [errors, known] = [totalErrors(fn), own === undefined ? undefined : totalErrors(own)];
    return {
      ...fn,
      interrupts,
      count: sum(({ count }) => count),
      perSecond: sum(({ perSecond }) => perSecond),
      newErrors: Math.max(0, errors - (known ?? errors)),
    };
  });
}

export function totalErrors({ errors }: Pick<FunctionActivity, "errors">): number {
  return errors === undefined ? 0 : errors.correctable + errors.nonfatal + errors.fatal;
}

/** In the order that was asked for; what is equal by address. */
export function sorted(rates: readonly FunctionRate[], order: Order): FunctionRate[] {
  const byAddress = (a: FunctionRate, b: FunctionRate): number => (a.address < b.address ? -1 : 1);
  const compare: Record<Order, (a: FunctionRate, b: FunctionRate) => number> = {
    rate: (a, b) => b.perSecond - a.perSecond,
    errors: (a, b) => b.newErrors - a.newErrors || totalErrors(b) - totalErrors(a),
    address: () => 0,
    driver: (a, b) => (a.driver ?? "~").localeCompare(b.driver ?? "~"),
  };
  return rates.toSorted((a, b) => compare[order](a, b) || byAddress(a, b));
}

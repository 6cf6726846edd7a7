// The few figures that a series of rounds is shown by, and how two series are held against each other.
import type { Comparison, Section, Series } from "./benchmark.ts";

export interface Spread {
  readonly least: number;
  readonly median: number;
  readonly most: number;
}

/** Throws `RangeError` for an empty series. */
export function spread(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  const [least, most, upper] = [sorted[0], sorted.at(-1), sorted[middle]];
  if (least === undefined || most === undefined || upper === undefined)
    throw new RangeError("a series without samples");
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
  return { least, median, most };
}

/** A comparison with its outcome. */
export interface Judgement {
  readonly comparison: Comparison;
  /** The peer that counted. */
  readonly peer: string | undefined;
  readonly spread: Spread;
  /** Whether the median reaches the goal; `undefined` where there is none. */
  readonly met: boolean | undefined;
}

/** Works out a comparison; figures of the same round are held against each other. */
export function judge(section: Section, comparison: Comparison): Judgement {
  const own = find(section, comparison.of);
  const peer = bestOf(section, comparison.to);
  const outcome = spread(own.samples.map((sample, round) => hold(comparison.kind, sample, peer?.samples[round])));
  const { goal } = comparison;
  const met =
    goal === undefined ? undefined : goal.at === "least" ? outcome.median >= goal.value : outcome.median <= goal.value;
  return { comparison, peer: peer?.name, spread: outcome, met };
}

function hold(kind: Comparison["kind"], sample: number, peer: number | undefined): number {
  if (kind === "value") return sample;
  if (peer === undefined) throw new RangeError("a comparison without a peer in the same round");
  return kind === "ratio" ? sample / peer : sample - peer;
}

function bestOf(section: Section, names: readonly string[]): Series | undefined {
  let best: Series | undefined;
  for (const series of names.map((name) => find(section, name))) {
    if (best === undefined) best = series;
    const gain = spread(series.samples).median - spread(best.samples).median;
    if (section.better === "more" ? gain > 0 : gain < 0) best = series;
  }
  return best;
}

function find(section: Section, name: string): Series {
  const series = section.series.find((candidate) => candidate.name === name);
  if (series === undefined) throw new RangeError(`${section.title}: nothing was measured as "${name}"`);
  return series;
}

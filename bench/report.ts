// The figures as a table of text.
import type { BenchmarkResult, Goal, Section } from "./benchmark.ts";
import { type Judgement, judge, type Spread, spread } from "./statistics.ts";

const COLUMN = 11;

/** The lines that show a benchmark's result. */
export function report(result: BenchmarkResult): string[] {
  return [
    ...result.sections.flatMap((section) => ["", ...showSection(section)]),
    ...(result.notes.length > 0 ? ["", ...result.notes.map((note) => `Note: ${note}`)] : []),
  ];
}

/** Every judgement of a result. */
export function judgements(result: BenchmarkResult): Judgement[] {
  return result.sections.flatMap((section) => section.comparisons.map((comparison) => judge(section, comparison)));
}

function showSection(section: Section): string[] {
  const judged = section.comparisons.map((comparison) => judge(section, comparison));
  // Shown once, with its goal.
  const judgedAlone = new Set(section.comparisons.filter(({ kind }) => kind === "value").map(({ of }) => of));
  const names = [...section.series.map(({ name }) => name), ...judged.map(nameOf)];
  const width = Math.max(...names.map((name) => name.length)) + 4;
  const row = (name: string, cells: Spread, rest = ""): string => {
    const figures = [cells.least, cells.median, cells.most].map((value) => number(value).padStart(COLUMN)).join("");
    return `  ${name.padEnd(width)}${figures}${rest}`.trimEnd();
  };
  const head = ["min", "median", "max"].map((word) => word.padStart(COLUMN)).join("");
  return [
    `${section.title} (${section.unit}, ${section.better} is better)`,
    `  ${"".padEnd(width)}${head}`,
    ...section.series
      .filter(({ name }) => !judgedAlone.has(name))
      .map(({ name, samples }) => row(name, spread(samples))),
    ...(judged.length === 0 ? [] : ["  compared round by round, or judged alone"]),
    ...judged.map((judgement) => row(nameOf(judgement), judgement.spread, verdict(judgement))),
  ];
}

function nameOf({ comparison, peer }: Judgement): string {
  const sign = { ratio: " / ", difference: " - ", value: "" }[comparison.kind];
  return `${comparison.of}${sign}${peer ?? ""}`;
}

function verdict({ comparison, met }: Judgement): string {
  if (comparison.goal === undefined) return "";
  return `   goal ${goalText(comparison.goal)}: ${met ? "met" : "MISSED"}`;
}

function goalText({ at, value }: Goal): string {
  return `${at === "least" ? ">=" : "<="} ${value}`;
}

function number(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : 2);
}

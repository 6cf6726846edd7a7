// What a benchmark is: a module with a name, a title and a run that returns what it measured and what that is held to.
// run.ts prints it; no benchmark prints or judges by itself.

/** One benchmark module. */
export interface Benchmark {
  /** The word on the command line. */
  readonly name: string;
  /** What is compared with what, in one line. */
  readonly title: string;
  /** Throws {@link BenchmarkUnavailable} where this machine cannot run it. */
  run(context: BenchmarkContext): Promise<BenchmarkResult>;
}

export interface BenchmarkContext {
  /** Rounds in which everything that is compared takes its turn. */
  readonly rounds: number;
  /** Short measurements, to see that all works; the figures mean little. */
  readonly quick: boolean;
  /** Packets of a run that is as long as one likes; the benchmark's own number by default. */
  readonly packets: number | undefined;
  /** Says that set-up is over: from now on it is counted what other programs take of the processors. */
  readonly begin: () => void;
  /** Prints one line of progress. */
  readonly progress: (line: string) => void;
}

export interface BenchmarkResult {
  readonly sections: readonly Section[];
  /** Facts of this run, such as versions. */
  readonly machine: Readonly<Record<string, string>>;
  /** What a reader must know to judge the figures. */
  readonly notes: readonly string[];
}

/** Things measured in the same unit, side by side. */
export interface Section {
  readonly title: string;
  readonly unit: string;
  readonly better: "more" | "less";
  readonly series: readonly Series[];
  readonly comparisons: readonly Comparison[];
}

export interface Series {
  readonly name: string;
  /** One figure for each round, in order. */
  readonly samples: readonly number[];
}

/** A figure held against its peers in the same round, or against a limit. */
export interface Comparison {
  readonly kind: "ratio" | "difference" | "value";
  /** The name of the series that is judged. */
  readonly of: string;
  /** Names of its peers, empty for `value`. Of several the best by median counts. */
  readonly to: readonly string[];
  readonly goal?: Goal;
}

export interface Goal {
  readonly at: "least" | "most";
  readonly value: number;
}

/** A reason why a benchmark cannot run on this machine: shown, and no failure. */
export class BenchmarkUnavailable extends Error {
  override readonly name = "BenchmarkUnavailable";
}

// How long the command takes to start, held against node that does nothing: installed as published, and from the sources.
// Starts of all take turns, and the least of some counts, since a start lasts as long as whatever else the machine does then.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installPackages } from "../../scripts/packaging.ts";
import type { BenchmarkContext, BenchmarkResult, Comparison } from "../benchmark.ts";
import { spread } from "../statistics.ts";

export const name = "startup";
export const title = "ring3 --version and ring3 ls against node -e 0";

const GOAL = 1.5;
const BARE = "node -e 0";

export async function run({ rounds, quick, begin, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  const place = mkdtempSync(join(tmpdir(), "ring3-startup-"));
  try {
    progress("building and installing both packages");
    const installed = join(await installPackages(place), "@ring3/cli/main.cjs");
    const sources = join(import.meta.dirname, "../../packages/cli/src/main.mjs");
    const commands: Readonly<Record<string, readonly string[]>> = {
      [BARE]: ["-e", "0"],
      "ring3 --version": [installed, "--version"],
      "ring3 ls": [installed, "ls"],
      "ring3 --version, from the sources": [sources, "--version"],
      "ring3 ls, from the sources": [sources, "ls"],
    };
    // Compiled code is kept by the first starts; every further one is what a user sees.
    const environment = { ...process.env, XDG_CACHE_HOME: place };
    for (const words of Object.values(commands)) for (let i = 0; i < 2; i++) start(words, environment);
    begin();
    const samples = new Map<string, number[]>(Object.keys(commands).map((title_) => [title_, []]));
    const starts = quick ? 3 : 15;
    for (let round = 0; round < rounds; round++) {
      progress(`round ${round + 1} of ${rounds}: ${starts} starts of each`);
      const took = new Map<string, number[]>(Object.keys(commands).map((title_) => [title_, []]));
      for (let i = 0; i < starts; i++) {
        for (const [title_, words] of Object.entries(commands)) took.get(title_)?.push(start(words, environment));
      }
      for (const [title_, times] of took) samples.get(title_)?.push(spread(times).least);
    }
    const published: Comparison[] = ["ring3 --version", "ring3 ls"].map((of) => ({
      kind: "ratio",
      of,
      to: [BARE],
      goal: { at: "most", value: GOAL },
    }));
    const fromSources: Comparison[] = Object.keys(commands)
      .filter((of) => of.endsWith("from the sources"))
      .map((of) => ({ kind: "ratio", of, to: [BARE] }));
    return {
      machine: { node: process.version },
      sections: [
        {
          title: "time from start to end of the process",
          unit: "ms",
          better: "less",
          series: [...samples].map(([title_, times]) => ({ name: title_, samples: times })),
          comparisons: [...published, ...fromSources],
        },
      ],
      notes: [
        `each sample is the least of ${starts} starts, the one that was disturbed least; output goes nowhere; compiled code is cached`,
      ],
    };
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

function start(words: readonly string[], env: NodeJS.ProcessEnv): number {
  const begun = performance.now();
  const { status } = spawnSync(process.execPath, words, { stdio: "ignore", env });
  if (status !== 0) throw new Error(`node ${words.join(" ")} ended with ${status}`);
  return performance.now() - begun;
}

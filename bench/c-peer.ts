// Peers written in C, compiled where they are needed.
import { execFileSync } from "node:child_process";
import { basename, join } from "node:path";
import { BenchmarkUnavailable } from "./benchmark.ts";

/** Compiles `source` at -O2 into `folder` and returns the program. Throws `BenchmarkUnavailable`. */
export function compilePeer(source: string, folder: string): string {
  const output = join(folder, basename(source, ".c"));
  try {
    execFileSync("cc", ["-O2", "-Wall", "-o", output, source], { stdio: "pipe" });
  } catch (error) {
    throw new BenchmarkUnavailable(`the peer in C does not compile here: ${String(error)}`);
  }
  return output;
}

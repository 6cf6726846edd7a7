// Runs the tests: `test.ts` all, `test.ts unit` the quick loop, `test.ts guest` those inside the guest.
// Ends with one line that counts everything, whatever ran in between.
import { globSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

const root = join(import.meta.dirname, "..");
const counts = { passed: 0, failed: 0, skipped: 0 };

async function runFiles(title: string, patterns: readonly string[], concurrency: number): Promise<void> {
  const files = patterns.flatMap((pattern) => globSync(pattern, { cwd: root })).sort();
  console.log(`\n== ${title}: ${files.length} files`);
  if (files.length === 0) throw new Error(`no test file matches ${patterns.join(" ")}`);
  const stream = run({ cwd: root, files: files.map((file) => join(root, file)), concurrency });
  const files_ = new Set(files.map((file) => join(root, file)));
  const count =
    (kind: "pass" | "fail") =>
    (data: { name: string; skip?: string | boolean; todo?: string | boolean; details: { type?: string } }) => {
      if (data.details.type === "suite") return;
      if (files_.has(data.name) && kind === "pass") return;
      if (data.skip !== undefined && data.skip !== false) counts.skipped++;
      else counts[kind === "pass" ? "passed" : "failed"]++;
    };
  stream.on("test:pass", count("pass"));
  stream.on("test:fail", count("fail"));
  const reporter = stream.compose(new spec());
  for await (const chunk of reporter) process.stdout.write(chunk);
}

const which = process.argv[2] ?? "all";
if (!["all", "unit", "guest"].includes(which)) {
  console.error("usage: test.ts [unit|guest]");
  process.exit(2);
}

if (which !== "guest") {
  await runFiles("unit", ["packages/**/*.test.ts", "tests/architecture/*.test.ts", "tests/contract/*.test.ts"], 2);
}
if (which !== "unit") {
  const { prepare } = await import("../tests/guest/setup.ts");
  console.log("\n== set-up of the guest");
  await prepare("debian", (line) => console.log(line));
  await runFiles("guest", ["tests/guest/*.test.ts"], 1);
}

console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;

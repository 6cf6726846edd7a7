// Runs the tests: `test.ts` all, `test.ts unit` the quick loop, `test.ts migration` devices in processes of their own that
// move, die and come back, `test.ts hostile` clients, servers and drivers that send
// anything (RING3_HOSTILE=full: much more of it), `test.ts guest` those inside the guest.
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
  const execArgv = [`--import=${join(root, "tests/seed.ts")}`];
  const stream = run({ cwd: root, files: files.map((file) => join(root, file)), concurrency, execArgv });
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
if (!["all", "unit", "migration", "hostile", "guest"].includes(which)) {
  console.error("usage: test.ts [unit|migration|hostile|guest]");
  process.exit(2);
}

if (which === "all" || which === "unit") {
  await runFiles("unit", ["packages/**/*.test.ts", "tests/architecture/*.test.ts", "tests/contract/*.test.ts"], 2);
}
if (which === "all" || which === "migration") await runFiles("migration", ["tests/migration/*.test.ts"], 2);
if (which === "all" || which === "hostile") await runFiles("hostile", ["tests/hostile/*.test.ts"], 2);
if (which === "all" || which === "guest") {
  const { prepare } = await import("../tests/guest/setup.ts");
  console.log("\n== set-up of the guest");
  await prepare("debian", (line) => console.log(line));
  await runFiles("guest", ["tests/lspci/*.test.ts", "tests/guest/*.test.ts", "tests/served/*.test.ts"], 1);
}

console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;

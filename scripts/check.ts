// Every static check, each named as it runs; all of them run even when one fails, and the exit status says whether any did.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { checkDocs } from "./docs.ts";
import { checkExamples } from "./examples.ts";
import { checkPackaging } from "./packaging.ts";

const root = join(import.meta.dirname, "..");

function command(name: string, args: readonly string[]): void {
  const result = spawnSync(join(root, "node_modules/.bin", name), args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (result.status !== 0) throw new Error(`${name} exited with ${result.status ?? result.signal}`);
}

const checks: readonly (readonly [title: string, check: () => string | void | Promise<string>])[] = [
  ["types", () => command("tsc", ["-p", "."])],
  ["format", () => command("biome", ["format", "."])],
  ["lint", () => command("oxlint", ["--type-aware", "--deny-warnings"])],
  ["dead code", () => command("knip", [])],
  ["floors", () => command("node", ["--test", "--test-reporter=dot", "tests/architecture/floors.test.ts"])],
  [
    "documentation examples",
    () => {
      const { checked, run, guideSteps } = checkExamples();
      return `${checked} type-checked, ${run} run, ${guideSteps} steps of guides done`;
    },
  ],
  ["documentation tables", () => `${checkDocs()} tables`],
  ["packaging", async () => `${(await checkPackaging()).length} subpaths import from the packed tarball`],
];

const failed: string[] = [];
for (const [title, check] of checks) {
  console.log(`-- ${title}`);
  try {
    const detail = await check();
    if (detail !== undefined) console.log(`   ${detail}`);
  } catch (error) {
    failed.push(title);
    console.error(error instanceof Error ? error.message : error);
  }
}
console.log(failed.length === 0 ? `check: all ${checks.length} checks passed` : `check: FAILED: ${failed.join(", ")}`);
process.exitCode = failed.length === 0 ? 0 : 1;

// Manual pages: one for each command, that mandoc and groff take without complaint.
// seconds: 1
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { captured } from "../captured-run.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { COMMANDS } from "../run.ts";

async function written(t: TestContext): Promise<{ place: string; files: string[] }> {
  const place = mkdtempSync(join(tmpdir(), "ring3-man-"));
  t.after(() => rmSync(place, { recursive: true }));
  const { status, stderr } = await captured(["man", "--write", place]);
  assert.deepEqual([status, stderr], [0, ""]);
  return { place, files: readdirSync(place) };
}

test("a page for every command, with its options, examples and the exit status", async (t) => {
  const { files } = await written(t);
  for (const name of Object.keys(COMMANDS)) assert.ok(files.includes(`ring3-${name}.1`), name);
  assert.ok(files.includes("ring3.1") && files.includes("ring3-nvme-read.1"));
  const { stdout } = await captured(["man", "nvme", "bench"]);
  for (const text of ["NAME", "ring3-nvme-bench - ", "--depth", "EXAMPLES", "EXIT STATUS", "NO_COLOR", "ring3-nvme(1)"])
    assert.ok(stdout.includes(text), text);
  const all = (await captured(["man"])).stdout;
  for (const [code] of EXIT_CODES) assert.match(all, new RegExp(`^ {4}${code}$`, "m"));
  for (const line of all.split("\n")) assert.ok(line.length <= 80, line);
  assert.match((await captured(["man", "nonsense"])).stderr, /there is no page ring3-nonsense/);
  const page = JSON.parse((await captured(["man", "ls", "--json"])).stdout) as { name: string; sections: object[] };
  assert.deepEqual([page.name, page.sections.length > 5], ["ring3-ls", true]);
});

test("mandoc and groff find nothing to complain about", async (t) => {
  const { place, files } = await written(t);
  const tools: [name: string, ...words: string[]][] = [
    ["mandoc", "-T", "lint", "-W", "warning"],
    ["groff", "-man", "-Tutf8", "-ww", "-z"],
  ];
  const present = tools.filter(([name]) => spawnSync(name, ["--version"]).error === undefined);
  if (present.length === 0) return t.skip("neither mandoc nor groff is installed");
  for (const [name, ...words] of present) {
    const { stdout, stderr } = spawnSync(name, [...words, ...files.map((file) => join(place, file))], {
      encoding: "utf8",
    });
    const said = `${stdout}${stderr}`.split("\n").filter((line) => line !== "" && !/missing date/.test(line));
    assert.deepEqual(said, [], name);
  }
});

test("what man shows is what is meant: hyphens, backslashes, leading dots", async (t) => {
  if (spawnSync("mandoc", ["-h"]).error !== undefined) return t.skip("mandoc is not installed");
  const { place } = await written(t);
  const text = execFileSync("mandoc", ["-T", "ascii", join(place, "ring3-lspci.1")], { encoding: "utf8" })
    .replaceAll(/.\p{Cc}(?=\S)/gu, (pair) => (pair.endsWith("\b") ? "" : pair))
    .replace(/\s+/g, " ");
  assert.ok(text.includes("ring3 lspci --json | jq '.functions[].capabilities[] | {name, offset}'"), text);
  assert.ok(readFileSync(join(place, "ring3-lspci.1"), "utf8").startsWith('.TH "RING3\\-LSPCI" 1 '));
});

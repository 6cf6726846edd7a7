// What a start leaves behind: compiled code where it is safe, and nothing elsewhere.
// seconds: 4
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";

const main = join(import.meta.dirname, "main.mjs");
const uid = process.geteuid?.() ?? 0;

function home(t: TestContext): string {
  const place = mkdtempSync(join(tmpdir(), "ring3-home-"));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  return place;
}

function start(environment: Readonly<Record<string, string>>): void {
  const { PATH = "" } = process.env;
  const { status, stdout } = spawnSync(process.execPath, [main, "--version"], {
    env: { PATH, ...environment },
    encoding: "utf8",
  });
  assert.equal(status, 0);
  assert.match(stdout, /^\d/);
}

test("compiled code is kept below the user's own cache directory, for nobody else to write", (t) => {
  const HOME = home(t);
  start({ HOME });
  const directory = join(HOME, ".cache/ring3", `compiled-${uid}`);
  assert.ok(readdirSync(directory, { recursive: true }).length > 1);
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  const other = home(t);
  start({ HOME, XDG_CACHE_HOME: other });
  assert.deepEqual(readdirSync(other), ["ring3"]);
});

test("nothing is left, and nothing used, where others may write", (t) => {
  const open = home(t);
  chmodSync(open, 0o777);
  start({ HOME: open });
  assert.deepEqual(readdirSync(open), []);
  const HOME = home(t);
  mkdirSync(join(HOME, ".cache/ring3"), { recursive: true });
  chmodSync(join(HOME, ".cache/ring3"), 0o777);
  start({ HOME });
  assert.deepEqual(readdirSync(join(HOME, ".cache/ring3")), []);
  start({});
  start({ HOME: "relative" });
  start({ HOME: "/nowhere/at-all" });
});

test("under sudo the home of whoever called it stays as it is", (t) => {
  if (uid !== 0) return t.skip("needs root to have another user's home");
  const HOME = home(t);
  chownSync(HOME, 1000, 1000);
  start({ HOME });
  assert.deepEqual(readdirSync(HOME), []);
});

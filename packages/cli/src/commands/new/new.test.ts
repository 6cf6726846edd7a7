// seconds: 2
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { promisify } from "node:util";
import { captured } from "../../captured-run.ts";
import { deviceFiles } from "../../templates/device.ts";
import { driverFiles } from "../../templates/driver.ts";
import { scaffoldName } from "../../templates/scaffold.ts";

const execute = promisify(execFile);

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-new-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Runs a written test file as its user does, and returns how many of its tests passed. */
async function passedTests(file: string): Promise<number> {
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  const { stdout } = await execute(process.execPath, ["--test", "--test-reporter=tap", file], { env: environment });
  assert.match(stdout, /^# fail 0$/m);
  return Number(/^# pass (\d+)$/m.exec(stdout)?.[1]);
}

test("a new device and a new driver pass their own tests, far away from any project", async (t) => {
  const directory = place(t);
  for (const [kind, files] of [
    ["device", ["README.md", "device.test.ts", "device.ts", "node_modules", "package.json"]],
    ["driver", ["README.md", "driver.test.ts", "driver.ts", "main.ts", "node_modules", "package.json"]],
  ] as const) {
    const target = join(directory, `my-${kind}`);
    const { status, stdout, stderr } = await captured(["new", kind, target]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /ring3 is linked to .*packages\/ring3/);
    assert.deepEqual(readdirSync(target).sort(), files);
    assert.equal(await passedTests(join(target, `${kind}.test.ts`)), 2);
    const manifest = JSON.parse(readFileSync(join(target, "package.json"), "utf8")) as { name: string };
    assert.equal(manifest.name, `my-${kind}`);
  }
  assert.match(readFileSync(join(directory, "my-device/device.ts"), "utf8"), /class MyDeviceDevice/);
});

test("nothing is overwritten, and a directory that is there and empty is used", async (t) => {
  const directory = place(t);
  mkdirSync(join(directory, "taken"));
  writeFileSync(join(directory, "taken/precious.txt"), "x");
  const refused = await captured(["new", "device", join(directory, "taken")]);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /not empty; nothing was written/);
  assert.deepEqual(readdirSync(join(directory, "taken")), ["precious.txt"]);
  mkdirSync(join(directory, "empty"));
  const { status, stdout } = await captured(["new", "driver", join(directory, "empty"), "--json"]);
  assert.equal(status, 0);
  const { files, next } = JSON.parse(stdout) as { files: string[]; next: string[] };
  assert.ok(files.every((path) => existsSync(path)));
  assert.equal(next.length, 2);
});

test("names that no class can have are refused", async (t) => {
  const directory = place(t);
  for (const name of ["3com", "a b", "übung", "-x"]) {
    assert.throws(() => scaffoldName(join(directory, name)), /cannot be the name of a class/, name);
  }
  assert.deepEqual(scaffoldName("some/where/checksum-engine_2"), {
    name: "checksum-engine_2",
    pascalName: "ChecksumEngine2",
  });
  assert.deepEqual(readdirSync(directory), []);
});

test("the templates keep their own rules: no line above 120 columns, no default export", () => {
  for (const files of [deviceFiles(scaffoldName("a-long-enough-name")), driverFiles(scaffoldName("x"))]) {
    for (const [name, text] of Object.entries(files)) {
      for (const line of text.split("\n")) assert.ok(line.length <= 120, `${name}: ${line}`);
      assert.doesNotMatch(text, /export default/);
      assert.ok(text.endsWith("\n"));
    }
  }
});

// A state file whose disk is full: said clearly, at the start and later, and no state that was whole is lost.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const program = new URL("full-disk.ts", import.meta.url).pathname;

test("a state file on a full disk", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "ring3-full-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const mount = 'mount -t tmpfs -o size=32k none "$0" && exec "$@"';
  const inside = (...command: string[]): ReturnType<typeof spawnSync> =>
    spawnSync("unshare", ["-r", "-m", "sh", "-c", mount, folder, ...command], { encoding: "utf8" });
  if (inside("true").status !== 0) return t.skip("this machine lets nobody mount a file system of their own");
  const { stdout, stderr, status } = inside(process.execPath, program, folder);
  assert.equal(status, 0, String(stderr));
  const { refused, told, complaints } = JSON.parse(String(stdout)) as Record<string, unknown[]>;
  assert.deepEqual(refused, ["STATE_NOT_SAVED", "ENOSPC"]);
  assert.deepEqual(told, [[0, true], [0, true], [0, true], [0, true], 7]);
  for (const complaint of complaints ?? []) assert.match(String(complaint), /STATE_NOT_SAVED.*ENOSPC|No space/);
});

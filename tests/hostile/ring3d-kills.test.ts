// ring3d killed at random points: on the way to its readiness, while users come and go, on its way out. Each time its users
// get a clear error, the next service takes over what is left, and its functions are as new.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { program, type Program, unclear } from "./killed-service.ts";
import { Random } from "./random.ts";
import { SEED, scaled } from "./scale.ts";

const MAIN = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;
const USER = new URL("./ring3d-user.ts", import.meta.url).pathname;
const KILLS: number = scaled(12, 200);
const uid = process.geteuid?.() ?? 0;

test(`${KILLS} services killed at random points (seed ${SEED})`, { timeout: 3_600_000 }, async (t) => {
  const place = mkdtempSync(join(tmpdir(), "ring3d-kills-"));
  const programs = new Set<Program>();
  const start = (words: readonly string[]): Program => {
    const started = program(words);
    programs.add(started);
    void started.ended.then(() => programs.delete(started));
    return started;
  };
  t.after(async () => {
    for (const { child } of programs) child.kill("SIGKILL");
    await Promise.all([...programs].map(({ ended }) => ended));
    rmSync(place, { recursive: true });
  });
  const at = (name: string): string => join(place, name);
  writeFileSync(
    at("ring3d.yaml"),
    `control: ${at("control.sock")}
users-socket: ${at("users.sock")}
metrics: ${at("metrics.sock")}
audit: ${at("audit.jsonl")}
traces: ${place}
functions:
  edu: { address: "vfio-user:${at("hardware.sock")}", socket: ${at("edu.sock")}, users: [${uid}], queue: 2 }
`,
  );
  const service = (): Program => start([MAIN, "daemon", "--config", at("ring3d.yaml")]);
  const hardware = start([MAIN, "serve", "edu", "--socket", at("hardware.sock")]);
  await hardware.line(/^serving/);
  const users = [start([USER, "edu", at("edu.sock")]), start([USER, "edu", at("edu.sock")])];

  const random = new Random(SEED);
  const begun = performance.now();
  let running = service();
  await running.line(/ready/);
  const readyMs = performance.now() - begun;
  for (let kill = 0; kill < KILLS; kill++) {
    await setTimeout((random.below(1000) / 1000) * readyMs * 2);
    if (random.oneIn(4)) {
      // On its way out.
      running.child.kill("SIGTERM");
      await setTimeout((random.below(1000) / 1000) * readyMs * 0.2);
    }
    running.child.kill("SIGKILL");
    await running.ended;
    running = service();
  }
  await running.line(/ready/);
  for (const user of users) {
    // Once more, with the last service. What it found is judged below, so that a stale function fails at once.
    const before = user.all.length;
    await user.line(/fresh|stale/, before);
    assert.equal(user.child.exitCode, null, user.all.join(" "));
  }
  running.child.kill("SIGTERM");
  assert.equal(await running.ended, 0);
  // The real function is free: whoever serves it has no user left.
  const direct = start([USER, "edu", at("hardware.sock")]);
  await direct.line(/fresh|stale/);
  assert.deepEqual(unclear(users), []);
});

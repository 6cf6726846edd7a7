// ring3d killed at random points: on the way to its readiness, while users come and go, on its way out. Each time its users
// get a clear error, the next service takes over what is left, and its functions are as new.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { Random } from "./random.ts";
import { SEED, scaled } from "./scale.ts";

const MAIN = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;
const USER = new URL("./ring3d-user.ts", import.meta.url).pathname;
const KILLS: number = scaled(12, 200);
const uid = process.geteuid?.() ?? 0;

/** What a user may be told while services come and go. */
const CLEAR_ERRORS: ReadonlySet<string> = new Set([
  "CONNECTION_LOST",
  "FUNCTION_REMOVED",
  "PEER_GONE",
  "SERVER_REFUSED",
  "SERVER_TIMEOUT",
  "SYSTEM_CALL",
]);

interface Program {
  readonly child: ChildProcess;
  /** Its exit status, or signal. */
  readonly ended: Promise<number | string>;
  /** The first line that matches, of all or from a number on. */
  line(pattern: RegExp, from?: number): Promise<string>;
  /** Everything that it has said. */
  readonly all: readonly string[];
}

function run(words: readonly string[]): Program {
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-20_000);
  });
  const lines: string[] = [];
  let wake: (() => void) | undefined;
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    wake?.();
  });
  const ended = once(child, "close").then(([code, signal]) => (code ?? signal) as number | string);
  let over = false;
  void ended.then(() => {
    over = true;
    wake?.();
  });
  const line = async (pattern: RegExp, from = 0): Promise<string> => {
    for (;;) {
      const found = lines.slice(from).find((text) => pattern.test(text));
      if (found !== undefined) return found;
      if (over) throw new Error(`it ended without ${String(pattern)}: ${stderr}`);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { child, ended, line, all: lines };
}

test(`${KILLS} services killed at random points (seed ${SEED})`, { timeout: 3_600_000 }, async (t) => {
  const place = mkdtempSync(join(tmpdir(), "ring3d-kills-"));
  const programs = new Set<Program>();
  const start = (words: readonly string[]): Program => {
    const program = run(words);
    programs.add(program);
    void program.ended.then(() => programs.delete(program));
    return program;
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
  const users = [start([USER, at("edu.sock")]), start([USER, at("edu.sock")])];

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
  const direct = start([USER, at("hardware.sock")]);
  await direct.line(/fresh|stale/);
  const said = new Set(users.flatMap(({ all }) => all));
  assert.deepEqual(
    [...said].filter((word) => word !== "fresh" && !CLEAR_ERRORS.has(word)),
    [],
  );
});

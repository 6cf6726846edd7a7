import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import test, { type TestContext } from "node:test";
import { openEventLog } from "./event-log.ts";

const now = (): Date => new Date(0);

function logFile(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-log-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "events.jsonl");
}

/** The lines of a file, each of them whole. */
function linesOf(file: string): Record<string, unknown>[] {
  const lines = readFileSync(file, "utf8").split("\n");
  assert.equal(lines.pop(), "");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("one JSON object a line, appended to what is there", (t) => {
  const file = logFile(t);
  for (const event of ["start", "stop"]) {
    using log = openEventLog(file, new PassThrough(), now);
    log.write(event, {
      iova: 2n ** 60n,
      size: 4096n,
      error: Object.assign(new Error("no"), { code: "X" }),
      bytes: new Uint8Array(3),
    });
  }
  assert.deepEqual(
    linesOf(file),
    ["start", "stop"].map((event) => ({
      time: "1970-01-01T00:00:00.000Z",
      event,
      iova: "1152921504606846976",
      size: 4096,
      error: { code: "X", message: "no" },
      bytes: { bytes: 3 },
    })),
  );
});

test("- is stderr, nothing is silence, and a closed log takes no more", () => {
  const stderr = new PassThrough();
  using log = openEventLog("-", stderr, now);
  log.write("hello");
  assert.equal(String(stderr.read()), '{"time":"1970-01-01T00:00:00.000Z","event":"hello"}\n');
  openEventLog(undefined, stderr, now).write("unheard");
  assert.equal(stderr.read(), null);
  const full = openEventLog("/dev/full", stderr, now);
  full.write("lost");
  full[Symbol.dispose]();
  full.write("later");
});

test("after a rotation the log goes on in a new file, and in the old one where there can be none", (t) => {
  const file = logFile(t);
  using log = openEventLog(file, new PassThrough(), now);
  log.write("one");
  renameSync(file, `${file}.1`);
  log.write("two");
  log.reopen();
  log.write("three");
  const events = (path: string): unknown[] => linesOf(path).map(({ event }) => event);
  assert.deepEqual([events(`${file}.1`), events(file)], [["one", "two"], ["three"]]);
  renameSync(file, `${file}.2`);
  symlinkSync("/nowhere/at/all", file);
  log.reopen();
  log.write("four");
  assert.deepEqual(events(`${file}.2`), ["three", "log-not-reopened", "four"]);
});

test("a full disk costs lines, and their number is told once there is room", (t) => {
  const file = logFile(t);
  symlinkSync("/dev/full", file);
  using log = openEventLog(file, new PassThrough(), now);
  for (let i = 0; i < 3; i++) log.write("lost");
  unlinkSync(file);
  log.reopen();
  log.write("kept");
  const time = "1970-01-01T00:00:00.000Z";
  assert.deepEqual(linesOf(file), [
    { time, event: "log-lost", lines: 3 },
    { time, event: "kept" },
  ]);
});

const hasPrlimit = spawnSync("prlimit", ["--fsize=300:unlimited", "true"]).status === 0;
const skip = hasPrlimit ? false : "no prlimit (util-linux) that may raise a soft limit";

test("a disk that fills up in the middle of a line tears none", { skip }, (t) => {
  const file = logFile(t);
  const program = `
    import { execFileSync } from "node:child_process";
    import { openEventLog } from ${JSON.stringify(join(import.meta.dirname, "event-log.ts"))};
    using log = openEventLog(${JSON.stringify(file)}, process.stderr);
    for (let i = 0; i < 10; i++) log.write("line", { i });
    execFileSync("prlimit", ["--pid", String(process.pid), "--fsize=unlimited:unlimited"]);
    log.write("last");`;
  const script = `${file}.mjs`;
  writeFileSync(script, program);
  const { status, stderr } = spawnSync("prlimit", ["--fsize=300:unlimited", process.execPath, script], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  const lines = linesOf(file);
  const kept = lines.flatMap(({ event, i }) => (event === "line" ? [i] : []));
  // 300 bytes are five lines and the beginning of a sixth.
  assert.deepEqual(kept, [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(
    lines.slice(kept.length).map(({ event, lines: lost }) => [event, lost]),
    [
      ["log-lost", 4],
      ["last", undefined],
    ],
  );
});

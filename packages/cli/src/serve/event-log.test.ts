import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import test from "node:test";
import { openEventLog } from "./event-log.ts";

const now = (): Date => new Date(0);

test("one JSON object a line, appended to what is there", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-log-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "events.jsonl");
  for (const event of ["start", "stop"]) {
    using log = openEventLog(file, new PassThrough(), now);
    log.write(event, {
      iova: 2n ** 60n,
      size: 4096n,
      error: Object.assign(new Error("no"), { code: "X" }),
      bytes: new Uint8Array(3),
    });
  }
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line) as unknown),
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

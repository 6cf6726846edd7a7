import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import test, { type TestContext } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { type AuditLogOptions, openAuditLog } from "./audit-log.ts";
import { ALICE, EVERY_EVENT, FakeService, status } from "./fake-service.ts";

const SCHEMA = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../../../docs/ring3d-audit.schema.json"), "utf8"),
) as { oneOf: { properties: { event: { const: string } } }[] };
const validate = new Ajv2020({ allErrors: true, strict: true }).compile(SCHEMA);

type Line = Readonly<Record<string, unknown>> & { readonly event: string };

function linesOf(file: string): Line[] {
  const lines = readFileSync(file, "utf8").split("\n");
  assert.equal(lines.pop(), "", "the last line has its end");
  return lines.map((text) => {
    const line = JSON.parse(text) as Line;
    assert.ok(
      validate(line),
      `${text}\n${JSON.stringify(validate.errors?.filter(({ keyword }) => keyword !== "const"))}`,
    );
    return line;
  });
}

function logFile(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-audit-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "audit.jsonl");
}

const options: AuditLogOptions = {
  stderr: new PassThrough(),
  nameOf: (uid) => ({ 0: "root", 1000: "alice" })[uid],
  now: () => new Date(0),
};

test("every event is a line that the schema knows, with names beside uids", (t) => {
  const file = logFile(t);
  const service = new FakeService(status("disk"));
  const log = openAuditLog(service, file, options);
  for (const event of Object.values(EVERY_EVENT)) service.emit(event);
  log[Symbol.dispose]();
  assert.equal(service.listeners, 0);
  const lines = linesOf(file);
  assert.deepEqual(
    lines.map(({ event }) => event),
    Object.keys(EVERY_EVENT),
  );
  const time = "1970-01-01T00:00:00.000Z";
  const line = (event: string): Line | undefined => lines.find((each) => each.event === event);
  assert.deepEqual(line("opened"), {
    ...{ time, event: "opened", function: "disk", pid: 4711, uid: 1000, gid: 1000, user: "alice" },
  });
  assert.equal(line("refused")?.["user"], undefined);
  assert.deepEqual(line("kicked")?.["users"], [{ ...ALICE, user: "alice" }]);
  assert.deepEqual(line("kicked")?.["by"], { pid: 1, uid: 0, user: "root" });
  assert.equal(line("reloaded")?.["by"], undefined);
});

test("what is in the schema can happen, and what is not is refused by it", () => {
  const known = SCHEMA.oneOf.map(({ properties }) => properties.event.const);
  assert.deepEqual(known, [...Object.keys(EVERY_EVENT), "left-out", "log-lost", "log-not-reopened"]);
  const line = { time: "1970-01-01T00:00:00.000Z", event: "ready", function: "disk" };
  assert.ok(validate(line));
  for (const wrong of [{ time: "today" }, { event: "unheard-of" }, { function: 1 }, { further: 1 }]) {
    assert.ok(!validate({ ...line, ...wrong }), JSON.stringify(wrong));
  }
});

test("rule hits say who has the function, as long as somebody has it", (t) => {
  const file = logFile(t);
  const service = new FakeService(status("disk", { users: [ALICE] }), status("card"));
  using log = openAuditLog(service, file, options);
  const rule = EVERY_EVENT.rule;
  const { opened, closed } = EVERY_EVENT;
  service.emit(rule);
  service.emit({ ...rule, function: "card" });
  service.emit(opened);
  service.emit({ ...closed, pid: 4711 });
  service.emit(EVERY_EVENT["dma-refused"]);
  service.emit(closed);
  service.emit(EVERY_EVENT.fault);
  log[Symbol.dispose]();
  const told = linesOf(file).flatMap(({ event, user }) => (/opened|closed/.test(event) ? [] : [user]));
  assert.deepEqual(told, ["alice", undefined, "alice", undefined]);
});

test("a flood costs its own function and kind lines, and the number of those left out is told", (t) => {
  const file = logFile(t);
  const service = new FakeService(status("disk"), status("card"));
  let nowMs = 0;
  const log = openAuditLog(service, file, { ...options, budget: { nowMs: () => nowMs } });
  const { rule, opened } = EVERY_EVENT;
  for (let i = 0; i < 100_000; i++) service.emit(rule);
  for (let i = 0; i < 500; i++) service.emit(opened);
  service.emit({ ...opened, uid: 1001 });
  service.emit({ ...rule, function: "card" });
  nowMs = 5000;
  service.emit(rule);
  service.emit(rule);
  log[Symbol.dispose]();
  const lines = linesOf(file);
  const count = (event: string, fn: string): number =>
    lines.filter((line) => line.event === event && line["function"] === fn).length;
  assert.equal(count("rule", "disk"), 102);
  assert.equal(count("rule", "card"), 1);
  assert.equal(count("opened", "disk"), 101);
  const time = "1970-01-01T00:00:00.000Z";
  assert.deepEqual(
    lines.filter(({ event }) => event === "left-out"),
    [
      { time, event: "left-out", function: "disk", of: "rule", lines: 99_900 },
      { time, event: "left-out", function: "disk", of: "opened", uid: 1000, lines: 400 },
    ],
  );
});

test("a reload opens the file anew, as a rotation wants it; its own line is the first in the new one", (t) => {
  const file = logFile(t);
  const service = new FakeService(status("disk"));
  using log = openAuditLog(service, file, options);
  service.emit(EVERY_EVENT.ready);
  renameSync(file, `${file}.1`);
  service.emit(EVERY_EVENT.failed);
  service.emit(EVERY_EVENT["reload-refused"]);
  service.emit(EVERY_EVENT.ready);
  log[Symbol.dispose]();
  const events = (path: string): string[] => linesOf(path).map(({ event }) => event);
  assert.deepEqual(events(`${file}.1`), ["ready", "failed"]);
  assert.deepEqual(events(file), ["reload-refused", "ready"]);
});

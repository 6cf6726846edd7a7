import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import test, { type TestContext } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Interruption } from "../../interruption.ts";
import { captured } from "../../captured-run.ts";
import { run } from "../../run.ts";
import { serveControl } from "../../ring3d/control-socket.ts";
import { ALICE, BOB, EVERY_EVENT, FakeService, status } from "../../ring3d/fake-service.ts";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ring3-ctl-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function served(t: TestContext, service: FakeService): Promise<string> {
  const path = join(directory(t), "control.sock");
  const nameOf = (uid: number): string | undefined => ({ 0: "root", 1000: "alice" })[uid];
  const control = await serveControl(service, path, { nameOf, now: () => new Date(0) });
  t.after(() => control[Symbol.asyncDispose]());
  return path;
}

const disk = status("disk", {
  state: "used",
  users: [ALICE],
  waiting: 2,
  lockedBytes: 64 * 1024 * 1024,
  lockLimit: 2 ** 30,
  trace: "/var/log/ring3/traces/disk.jsonl",
});
const card = status("card", { address: "vfio-user:/run/card.sock", ids: undefined, state: "starting", rules: "linux" });
const broken = status("broken", { address: "0000:02:00.0", state: "failed", reason: "the reset did not end" });

test("status is a table of functions, or what the service said; a failed one is exit status 7", async (t) => {
  const socket = await served(t, new FakeService(disk, card, broken));
  const all = await captured(["ctl", "status", "--socket", socket]);
  assert.equal(
    all.stdout,
    [
      "FUNCTION  ADDRESS                   ID         STATE     RULES   WAITING  LOCKED           TRACE                             USERS",
      "disk      0000:01:00.0              1b36:0010  used      strict  2        64 MiB of 1 GiB  /var/log/ring3/traces/disk.jsonl  alice (pid 4711)",
      "card      vfio-user:/run/card.sock  -          starting  linux   -        -                -                                 -",
      "broken    0000:02:00.0              1b36:0010  failed    strict  -        -                -                                 the reset did not end",
      "",
    ].join("\n"),
  );
  assert.deepEqual([all.status, all.stderr], [7, ""]);
  const some = await captured(["ctl", "status", "disk", "card", "--socket", socket, "--json"]);
  assert.equal(some.status, 0);
  const told = JSON.parse(some.stdout) as { protocol: number; functions: { name: string; trace: string | null }[] };
  assert.equal(told.protocol, 1);
  assert.deepEqual(
    told.functions.map(({ name, trace }) => [name, trace]),
    [
      ["disk", "/var/log/ring3/traces/disk.jsonl"],
      ["card", null],
    ],
  );
  const wrong = await captured(["ctl", "status", "dusk", "--socket", socket]);
  assert.deepEqual(
    [wrong.status, wrong.stderr.split("\n")[0]],
    [2, 'ring3: there is no function "dusk"; there are disk, card, broken'],
  );
});

test("users, kick, trace and reload say what has come of it", async (t) => {
  const service = new FakeService({ ...disk, users: [ALICE, BOB], trace: undefined }, card);
  const socket = await served(t, service);
  const said = async (...words: string[]): Promise<string> => {
    const { status: code, stdout, stderr } = await captured(["ctl", ...words, "--socket", socket]);
    assert.deepEqual([code, stderr], [0, ""], words.join(" "));
    return stdout;
  };
  assert.equal(
    await said("users"),
    [
      "FUNCTION  USER   UID   PID   SINCE",
      "disk      alice  1000  4711  1970-01-01T00:16:40Z",
      "disk      -      1001  4712  1970-01-01T00:33:20Z",
      "",
    ].join("\n"),
  );
  const kicked = await said("kick", "disk", "--reason", "maintenance");
  assert.equal(kicked, "disk was taken from alice (pid 4711), uid 1001 (pid 4712)\n");
  assert.equal(await said("kick", "disk"), "nobody had disk\n");
  assert.equal(await said("users"), "nobody has a function of the service\n");
  const file = "/var/log/ring3/traces/disk.jsonl";
  assert.equal(await said("trace", "on", "disk"), `disk is traced to ${file}\n`);
  assert.equal(await said("trace", "off", "disk"), `the trace of disk is in ${file}\n`);
  assert.equal(await said("trace", "off", "disk"), "disk was not being traced\n");
  assert.equal(await said("trace", "off", "disk", "--json"), '{\n  "file": null\n}\n');
  assert.equal(await said("reload"), "no function has changed\n");
  service.outcome = () => Promise.resolve({ added: ["new"], removed: ["card"], changed: [], deferred: ["disk"] });
  assert.equal(await said("reload"), "new   added\ncard  given back\ndisk  changed once its user has left\n");
  assert.equal(service.asked[0]?.what, "kick disk: maintenance");
});

test("the service's errors are the command's, with their exit status", async (t) => {
  const service = new FakeService(disk);
  service.outcome = () => Promise.reject(Object.assign(new Error("ring3d.yaml:3:5: no such rule"), { code: "USAGE" }));
  const socket = await served(t, service);
  const reload = await captured(["ctl", "reload", "--socket", socket]);
  assert.deepEqual([reload.status, reload.stderr.split("\n")[0]], [2, "ring3: ring3d.yaml:3:5: no such rule"]);
  const kick = await captured(["ctl", "kick", "dusk", "--socket", socket, "--json"]);
  const { error } = JSON.parse(kick.stderr) as { error: { code: string; message: string } };
  assert.deepEqual([kick.status, error.code], [2, "USAGE"]);
  assert.match(error.message, /there is no function "dusk"; did you mean disk\?/);
});

test("a service that is not there, or is none, or hangs up is told apart", async (t) => {
  const place = directory(t);
  const failed = async (path: string): Promise<[number, string]> => {
    const { status: code, stderr } = await captured(["ctl", "status", "--socket", path]);
    return [code, stderr.split("\n")[0] ?? ""];
  };
  const missing = join(place, "missing.sock");
  assert.deepEqual(await failed(missing), [
    4,
    `ring3: SERVICE_NOT_RUNNING: nobody serves at ${missing}: start the service (systemctl start ring3d), or give its control socket by --socket`,
  ]);
  writeFileSync(join(place, "file"), "");
  assert.match((await failed(join(place, "file")))[1], /^ring3: SERVICE_NOT_RUNNING: nobody serves at /);
  for (const [name, answer, code, message] of [
    ["other", "HTTP/1.1 400 Bad Request\n", 1, /is not ring3d: give its control socket by --socket/],
    ["quiet", "", 1, /ring3d hung up before it answered/],
    [
      "refusing",
      '{"error":{"code":"PERMISSION_DENIED","message":"root may"}}\n',
      3,
      /^ring3: PERMISSION_DENIED: root may$/,
    ],
    [
      "full",
      '{"error":{"code":"BUSY","message":"BUSY: 16 connections are open"}}\n',
      5,
      /^ring3: BUSY: 16 connections/,
    ],
  ] as const) {
    const path = join(place, name);
    const server = createServer((socket) => socket.once("data", () => socket.end(answer)));
    await once(server.listen(path), "listening");
    const [status, text] = await failed(path);
    assert.equal(status, code, name);
    assert.match(text, message);
    server.close();
  }
});

const SCHEMA = join(import.meta.dirname, "../../../../../docs/ring3d-audit.schema.json");

test("events are lines for people, or objects that the schema of the audit log knows", async (t) => {
  const service = new FakeService(disk);
  const socket = await served(t, service);
  const validate = new Ajv2020({ strict: true }).compile(JSON.parse(readFileSync(SCHEMA, "utf8")) as object);
  const all = Object.values(EVERY_EVENT);
  const watched = async (...words: string[]): Promise<string[]> => {
    const running = captured(["ctl", "events", "--socket", socket, "--count", String(all.length), ...words]);
    while (service.listeners === 0) await new Promise((resolve) => setImmediate(resolve));
    for (const event of all) service.emit(event);
    const { status: code, stdout, stderr } = await running;
    assert.deepEqual([code, stderr], [0, ""]);
    while (service.listeners > 0) await new Promise((resolve) => setImmediate(resolve));
    return stdout.trimEnd().split("\n");
  };
  const objects = (await watched("--json")).map((line) => JSON.parse(line) as { event: string });
  for (const object of objects) assert.ok(validate(object), JSON.stringify(object));
  assert.deepEqual(
    objects.map(({ event }) => event),
    Object.keys(EVERY_EVENT),
  );
  const lines = (await watched()).map((line) => line.replace(/^\d\d:\d\d:\d\d /, ""));
  const line = (event: string): string | undefined => lines[Object.keys(EVERY_EVENT).indexOf(event)];
  assert.equal(line("opened"), "disk opened alice (pid 4711)");
  assert.equal(line("refused"), "disk refused uid 1001 (pid 4712), reason uid 1001 is not among its users");
  assert.equal(line("kicked"), "disk kicked users alice (pid 4711), reason maintenance, by root (pid 1)");
  assert.equal(line("dma-refused"), "disk dma refused iova 0x800000000000, size 0x1000, reason the limit is reached");
  assert.equal(line("reloaded"), "reloaded added card, changed disk");
});

test("Ctrl-C ends events without a failure; the end of the service does not", async (t) => {
  const service = new FakeService(disk);
  const path = join(directory(t), "control.sock");
  const control = await serveControl(service, path, {});
  const interrupted = new AbortController();
  const running = captured(["ctl", "events", "--socket", path], { signal: interrupted.signal });
  while (service.listeners === 0) await new Promise((resolve) => setImmediate(resolve));
  interrupted.abort(new Interruption("stopped by SIGINT", 130));
  assert.equal((await running).status, 0);
  const stderr = new PassThrough();
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  const signal = new AbortController().signal;
  while (service.listeners > 0) await new Promise((resolve) => setImmediate(resolve));
  const ended = run(["ctl", "events", "--socket", path], { ...streams, environment: {}, signal });
  while (service.listeners === 0) await new Promise((resolve) => setImmediate(resolve));
  await control[Symbol.asyncDispose]();
  assert.equal(await ended, 1);
  assert.match(String(stderr.read()), /ring3d has ended, or dropped us/);
});

// seconds: 2
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import test, { type TestContext } from "node:test";
import { promisify } from "node:util";
import { listenAt } from "ring3/linux";
import { openAuditLog } from "./audit-log.ts";
import { type ControlOptions, serveControl } from "./control-socket.ts";
import { ALICE, BOB, EVERY_EVENT, FakeService, status } from "./fake-service.ts";

const nameOf = (uid: number): string | undefined => ({ 0: "root", 1000: "alice" })[uid];
const now = (): Date => new Date(0);
const time = "1970-01-01T00:00:00.000Z";
const self = { pid: process.pid, uid: process.getuid?.() ?? 0 };

async function served(t: TestContext, service: FakeService, options: ControlOptions = {}): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "ring3-control-"));
  chmodSync(directory, 0o755);
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "control.sock");
  const control = await serveControl(service, path, { nameOf, now, ...options });
  t.after(() => control[Symbol.asyncDispose]());
  return path;
}

/** A client that sends what it is told to, and sees lines. */
class Client {
  readonly socket: Socket;
  readonly #lines: AsyncIterator<string>;

  constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true }).on("error", () => undefined);
    this.#lines = linesOf(this.socket);
  }

  send(...requests: unknown[]): void {
    this.socket.write(
      requests.map((request) => `${typeof request === "string" ? request : JSON.stringify(request)}\n`).join(""),
    );
  }

  /** The next line; `undefined` where the service has hung up. */
  async next(): Promise<unknown> {
    const { done, value } = await this.#lines.next();
    return done === true ? undefined : (JSON.parse(value) as unknown);
  }

  async ask(request: unknown): Promise<unknown> {
    this.send(request);
    return await this.next();
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string, void> {
  let text = "";
  try {
    for await (const chunk of socket) {
      text += String(chunk);
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      yield* lines;
    }
  } catch {
    // Hung up.
  }
}

test("each request has its answer, and the service learns who asked", async (t) => {
  const service = new FakeService(status("disk", { state: "used", users: [ALICE, BOB] }), status("card"));
  const client = new Client(await served(t, service));
  const answer = (await client.ask({ id: 1, request: "status" })) as { id: number; result: Record<string, unknown> };
  assert.equal(answer.id, 1);
  assert.equal(answer.result["protocol"], 1);
  assert.equal(answer.result["pid"], process.pid);
  assert.deepEqual(
    (answer.result["functions"] as { name: string; state: string; users: unknown[] }[]).map(
      ({ name, state, users }) => [name, state, users.length],
    ),
    [
      ["disk", "used", 2],
      ["card", "ready", 0],
    ],
  );
  const users = [
    { function: "disk", ...ALICE, user: "alice" },
    { function: "disk", ...BOB, user: null },
  ];
  assert.deepEqual(await client.ask({ id: "a", request: "users" }), { id: "a", result: { users } });
  assert.deepEqual(await client.ask({ request: "kick", function: "disk", reason: "maintenance" }), {
    result: { users },
  });
  assert.deepEqual(await client.ask({ request: "kick", function: "disk" }), { result: { users: [] } });
  const file = "/var/log/ring3/traces/card.jsonl";
  assert.deepEqual(await client.ask({ request: "trace", function: "card", on: true }), { result: { file } });
  assert.deepEqual(await client.ask({ request: "trace", function: "card", on: false }), { result: { file } });
  assert.deepEqual(await client.ask({ request: "trace", function: "card", on: false }), { result: { file: null } });
  const outcome = { added: [], removed: [], changed: [], deferred: [] };
  assert.deepEqual(await client.ask({ request: "reload" }), { result: outcome });
  assert.deepEqual(await client.ask({ request: "sleep" }), { result: { consented: [] } });
  assert.deepEqual(await client.ask({ request: "awake" }), { result: {} });
  const own = self.uid === 0 ? "root" : `uid ${self.uid}`;
  assert.deepEqual(service.asked, [
    { what: "kick disk: maintenance", by: self },
    { what: `kick disk: ${own} has taken it back`, by: self },
    { what: "trace card on", by: self },
    { what: "trace card off", by: self },
    { what: "trace card off", by: self },
    { what: "reload", by: self },
    { what: "sleep", by: undefined },
    { what: "awake", by: undefined },
  ]);
});

test("what is malformed is answered with what is wrong, and the connection goes on", async (t) => {
  const client = new Client(await served(t, new FakeService(status("disk"))));
  const messageOf = async (request: unknown): Promise<string> => {
    const answer = (await client.ask(request)) as { error: { code: string; message: string } };
    assert.equal(answer.error.code, "USAGE");
    return answer.error.message;
  };
  assert.match(await messageOf("{"), /^a request is a line of JSON: /);
  assert.match(await messageOf("[1]"), /^a request is an object, as /);
  assert.match(await messageOf({ request: "stats" }), /no request "stats"; did you mean status\?/);
  assert.match(
    await messageOf({ request: "__proto__" }),
    /they are status, users, kick, trace, reload, sleep, awake, events/,
  );
  assert.match(await messageOf({ request: "kick" }), /function of kick has to be a function's name, not absent/);
  assert.match(
    await messageOf({ request: "kick", function: "dusk" }),
    /there is no function "dusk"; did you mean disk\?/,
  );
  assert.match(
    await messageOf({ request: "status", function: "disk" }),
    /status takes no "function"; it takes nothing/,
  );
  assert.match(await messageOf({ request: "events", functions: ["x"] }), /no function "x"; there are disk/);
  assert.deepEqual(await client.ask({ id: 7, request: "trace", function: "disk", on: "yes" }), {
    id: 7,
    error: { code: "USAGE", message: 'on of trace has to be true or false, not "yes"' },
  });
  client.send("", "   ");
  assert.deepEqual(await client.ask({ request: "users" }), { result: { users: [] } });
});

test("a sleep that a user refuses is an error of who asked, and names the user", async (t) => {
  const service = new FakeService(status("disk", { state: "used", users: [ALICE] }));
  const client = new Client(await served(t, service));
  const { pid, uid } = ALICE;
  assert.deepEqual(await client.ask({ request: "sleep" }), {
    result: { consented: [{ pid, uid, function: "disk" }] },
  });
  service.refusing = [{ pid, uid, function: "disk", reason: "a firmware update" }];
  const { error } = (await client.ask({ request: "sleep" })) as { error: { code: string; message: string } };
  assert.equal(error.code, "SLEEP_VETOED");
  assert.match(error.message, /stay awake: vetoed; refused by process 4711 of uid 1000 at disk \(a firmware update\)$/);
});

test("a configuration that is refused is an error of who asked for the reload", async (t) => {
  const service = new FakeService(status("disk"));
  service.outcome = () => Promise.reject(Object.assign(new Error("ring3d.yaml:3:5: no such rule"), { code: "CONFIG" }));
  const client = new Client(await served(t, service));
  const error = { code: "CONFIG", message: "ring3d.yaml:3:5: no such rule" };
  assert.deepEqual(await client.ask({ request: "reload" }), { error });
});

test("requests are answered in their order; a half-open peer gets all answers, and then the end", async (t) => {
  const service = new FakeService(status("disk"));
  const gate = Promise.withResolvers<void>();
  service.outcome = () => gate.promise.then(() => ({ added: ["x"], removed: [], changed: [], deferred: [] }));
  const client = new Client(await served(t, service));
  client.send({ id: 1, request: "reload" }, { id: 2, request: "users" });
  client.socket.end('{"id":3,"request":"users"}\n{"id":4,"without":"an end of its line"');
  await once(client.socket, "finish");
  gate.resolve();
  const ids = [];
  for (let answer = await client.next(); answer !== undefined; answer = await client.next()) {
    ids.push((answer as { id: number }).id);
  }
  assert.deepEqual(ids, [1, 2, 3]);
});

test("events are lines as in the audit log, of those functions that were asked for", async (t) => {
  const service = new FakeService(status("disk"), status("card"));
  const path = await served(t, service);
  const [all, some] = [new Client(path), new Client(path)];
  assert.deepEqual(await all.ask({ request: "events" }), { result: {} });
  assert.deepEqual(await some.ask({ request: "events", functions: ["card"] }), { result: {} });
  // One look at the service's events serves all that watch.
  assert.equal(service.listeners, 1);
  service.emit(EVERY_EVENT.opened);
  service.emit({ type: "ready", function: "card" });
  service.emit(EVERY_EVENT.reloaded);
  const opened = { time, event: "opened", function: "disk", pid: 4711, uid: 1000, gid: 1000, user: "alice" };
  const ready = { time, event: "ready", function: "card" };
  const reloaded = { time, event: "reloaded", added: ["card"], removed: [], changed: ["disk"], deferred: [] };
  for (const event of [opened, ready, reloaded]) assert.deepEqual(await all.next(), { event });
  for (const event of [ready, reloaded]) assert.deepEqual(await some.next(), { event });
  // Whoever watches may ask.
  assert.deepEqual(await some.ask({ request: "users" }), { result: { users: [] } });
  for (const { socket } of [all, some]) socket.destroy();
  const last = new Client(path);
  while (service.listeners > 0) await last.ask({ request: "users" });
});

test("who does not read its events is dropped, and nobody else notices", async (t) => {
  const service = new FakeService(status("disk"));
  const path = await served(t, service, { budget: { burst: Number.MAX_SAFE_INTEGER } });
  const [slow, quick] = [new Client(path), new Client(path)];
  await slow.ask({ request: "events" });
  await quick.ask({ request: "events" });
  slow.socket.pause();
  const description = "x".repeat(10_000);
  for (let count = 0; count < 1000; count++) {
    service.emit({ ...EVERY_EVENT.rule, description });
    const line = (await quick.next()) as { event: { description: string } };
    assert.equal(line.event.description, description);
  }
  slow.socket.resume();
  let read = 0;
  while ((await slow.next()) !== undefined) read++;
  assert.ok(read > 10 && read < 500, `${read} lines were read before the end`);
  assert.deepEqual(await quick.ask({ request: "users" }), { result: { users: [] } });
});

test("a flood of events reaches watchers as some of them, and their number", async (t) => {
  const service = new FakeService(status("disk"));
  const client = new Client(await served(t, service, { budget: { burst: 2, perSecond: 1e-9 } }));
  await client.ask({ request: "events" });
  for (let count = 0; count < 100_000; count++) service.emit(EVERY_EVENT.rule);
  for (let count = 0; count < 2; count++) await client.next();
  assert.deepEqual(await client.ask({ request: "users" }), { result: { users: [] } });
});

test("lines without an end, silence and answers that nobody reads cost a connection and nothing else", async (t) => {
  const service = new FakeService(...Array.from({ length: 100 }, (_, index) => status(`disk${index}`)));
  const path = await served(t, service, { silenceMs: 50 });
  const endless = new Client(path);
  endless.socket.write("x".repeat(20_000));
  assert.deepEqual(await endless.next(), {
    error: { code: "USAGE", message: "a request is a line of at most 16384 bytes" },
  });
  assert.equal(await endless.next(), undefined);
  const silent = new Client(path);
  assert.equal(await silent.next(), undefined);
  const half = new Client(path);
  half.socket.write('{"request":');
  assert.equal(await half.next(), undefined);
  const deaf = new Client(path);
  deaf.socket.pause();
  const asked = 2000;
  for (let count = 0; count < asked; count++) deaf.send({ request: "status" });
  // Whoever comes later and is hung up on for its silence shows that the deaf one's time is over too.
  for (let count = 0; count < 2; count++) assert.equal(await new Client(path).next(), undefined);
  deaf.socket.resume();
  let read = 0;
  while ((await deaf.next()) !== undefined) read++;
  assert.ok(read > 0 && read < asked / 2, `${read} answers were read`);
  assert.deepEqual(await new Client(path).ask({ request: "users" }), { result: { users: [] } });
});

test("no user has all connections; who has too many is told so", async (t) => {
  const path = await served(t, new FakeService(status("disk")));
  const clients = Array.from({ length: 16 }, () => new Client(path));
  for (const client of clients) await client.ask({ request: "users" });
  const further = new Client(path);
  const { error } = (await further.ask({ request: "users" })) as { error: { code: string; message: string } };
  assert.equal(error.code, "BUSY");
  assert.match(error.message, /^16 connections of .* are open/);
  clients[0]?.socket.destroy();
  for (;;) {
    const answer = (await new Client(path).ask({ request: "users" })) as { result?: unknown };
    if (answer.result !== undefined) break;
  }
});

const isRoot = process.getuid?.() === 0;
const asOthers = { skip: isRoot ? false : "only root can be somebody else" };

/** What the service answers to a process of another user. */
async function askedAs(path: string, uid: number, groups: readonly number[] = []): Promise<unknown> {
  const program = `
    process.setgroups(${JSON.stringify(groups)}); process.setgid(${uid}); process.setuid(${uid});
    const socket = require("node:net").connect(${JSON.stringify(path)});
    socket.on("error", (error) => { console.log(JSON.stringify(error.code)); });
    socket.write('{"request":"users"}\\n');
    socket.once("data", (data) => { process.stdout.write(data); socket.destroy(); });`;
  const { stdout } = await promisify(execFile)(process.execPath, ["-e", program]);
  return JSON.parse(stdout);
}

test(
  "the socket is root's, or a group's too; the kernel's word counts, not the socket's permissions",
  asOthers,
  async (t) => {
    const service = new FakeService(status("disk"));
    const own = await served(t, service);
    assert.equal(statSync(own).mode & 0o777, 0o600);
    assert.equal(await askedAs(own, 1000), "EACCES");
    chmodSync(own, 0o666);
    const refused = (message: string): unknown => ({ error: { code: "PERMISSION_DENIED", message } });
    assert.deepEqual(await askedAs(own, 1000), refused("alice may not control ring3d: root may; use sudo"));
    const shared = await served(t, service, { group: { gid: 4321, name: "ring3-admins" } });
    assert.deepEqual([statSync(shared).mode & 0o777, statSync(shared).gid], [0o660, 4321]);
    assert.equal(await askedAs(shared, 1001), "EACCES");
    assert.deepEqual(await askedAs(shared, 1001, [4321]), { result: { users: [] } });
    chmodSync(shared, 0o666);
    const message = "uid 1001 may not control ring3d: root and members of the group ring3-admins may; use sudo";
    assert.deepEqual(await askedAs(shared, 1001, [4320]), refused(message));
    assert.deepEqual(service.asked, []);
  },
);

test("the path goes with the service; one of the service manager stays, and one that is served is not taken", async (t) => {
  const service = new FakeService(status("disk"));
  const directory = mkdtempSync(join(tmpdir(), "ring3-control-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "control.sock");
  const control = await serveControl(service, path);
  await assert.rejects(serveControl(service, path), { code: "SOCKET_IN_USE" });
  await control[Symbol.asyncDispose]();
  assert.ok(!existsSync(path));
  using manager = listenAt(path);
  const again = await serveControl(service, path, { listenFd: manager.listener.fd.duplicate().release() });
  const client = new Client(path);
  assert.deepEqual(await client.ask({ request: "users" }), { result: { users: [] } });
  await again[Symbol.asyncDispose]();
  assert.equal(await client.next(), undefined);
  assert.ok(existsSync(path));
});

test("an administrator's deeds are in the audit log", async (t) => {
  const service = new FakeService(status("disk", { users: [ALICE] }));
  const stderr = new PassThrough();
  using _audit = openAuditLog(service, "-", { stderr, nameOf, now });
  const client = new Client(await served(t, service));
  await client.ask({ request: "kick", function: "disk", reason: "maintenance" });
  const line = JSON.parse(String(stderr.read())) as Record<string, unknown>;
  assert.deepEqual([line["event"], line["reason"]], ["kicked", "maintenance"]);
  assert.deepEqual((line["by"] as { pid: number }).pid, process.pid);
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { fstatSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { open, Ring3Error } from "ring3";
import { createMemoryFile, FileDescriptor } from "ring3/linux";
import { type Notice, NoticeBroker, type NoticeTimers } from "ring3/notices";
import { ServiceUser } from "ring3/ring3d";
import type { Lease, ServiceEvent, UsableFunction, UserFacing, UserPeer } from "./service-interface.ts";
import { serveUsers, type UsersSocketOptions } from "./users-socket.ts";

const own = { pid: process.pid, uid: process.getuid?.() ?? 0 };

/** A service that serves nothing, and remembers what was asked of it. */
class FakeService implements UserFacing {
  readonly timers: (() => void)[] = [];
  readonly notices: NoticeBroker = new NoticeBroker({
    timers: { after: (_, callback) => this.#after(callback) } satisfies NoticeTimers,
  });
  usable: UsableFunction[] = ["disk", "net"].map((name) => ({
    name,
    address: "0000:01:00.0",
    socket: `/run/ring3/${name}.sock`,
    state: "ready",
    handOver: name === "disk",
  }));
  readonly peers: UserPeer[] = [];
  readonly lent: string[] = [];
  readonly returned: string[] = [];
  lending: Promise<void> = Promise.resolve();
  onReturned: () => void = () => undefined;
  readonly #listeners: Set<(event: ServiceEvent) => void> = new Set();

  usableBy(peer: UserPeer): readonly UsableFunction[] {
    this.peers.push(peer);
    return this.usable;
  }

  async lend(name: string): Promise<Lease> {
    await this.lending;
    if (this.lent.length > this.returned.length) throw new Ring3Error("FUNCTION_BUSY", "somebody has it");
    this.lent.push(name);
    const files = [4096, 8192, 12_288].map((size) => createMemoryFile(size));
    return {
      address: "0000:01:00.0",
      backend: "group",
      descriptors: files,
      [Symbol.asyncDispose]: async () => {
        assert.ok(
          files.every(({ closed }) => closed),
          "the service keeps no descriptor",
        );
        this.returned.push(name);
        await Promise.resolve();
        this.onReturned();
      },
    };
  }

  on(listener: (event: ServiceEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  reloaded(): void {
    for (const listener of this.#listeners) {
      listener({ type: "reloaded", by: undefined, added: [], removed: [], changed: [], deferred: [] });
    }
  }

  #after(callback: () => void): Disposable {
    this.timers.push(callback);
    return { [Symbol.dispose]: () => void this.timers.splice(this.timers.indexOf(callback), 1) };
  }
}

function setUp(
  t: TestContext,
  options: UsersSocketOptions = {},
): { service: FakeService; path: string; server: Disposable } {
  const folder = mkdtempSync(join(tmpdir(), "ring3-users-"));
  const path = join(folder, "users.sock");
  const service = new FakeService();
  const server = serveUsers(path, service, options);
  t.after(() => {
    server[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  return { service, path, server };
}

/** Says `text` and gives the lines that come back until the service hangs up. */
async function said(path: string, text: string | Uint8Array): Promise<Record<string, { code: string }>[]> {
  const socket = connect(path);
  socket.on("error", () => undefined);
  let heard = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => (heard += chunk));
  if (text.length > 0) socket.end(text);
  await closed(socket);
  return heard
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, { code: string }>);
}

/** Whatever error comes first. */
const closed = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once("close", () => resolve()));

async function connected(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

const descriptors = (): number => readdirSync("/proc/self/fd").length;

test("anybody may connect and learns what it may use; the kernel says who it is", async (t) => {
  const { service, path } = setUp(t);
  assert.equal(statSync(path).mode & 0o777, 0o666);
  using user = new ServiceUser(path);
  assert.deepEqual(await user.functions(), service.usable);
  const [peer] = service.peers;
  assert.deepEqual([peer?.pid, peer?.uid, peer?.gid], [own.pid, own.uid, process.getgid?.()]);
  assert.ok(Array.isArray(peer?.groups));
});

test("notices go to who is registered, and replies come back", async (t) => {
  const { service, path } = setUp(t);
  const opening = service.notices.opened("disk", own, () => assert.fail("forced"));
  const heard: Notice[] = [];
  using user = new ServiceUser(path, {
    onNotice: (notice) => {
      heard.push(notice);
      if (notice.kind === "suspend") void user.reply(notice.notice, "consent").catch(assert.fail);
      if (notice.kind === "error-detected")
        void user.reply(notice.notice, "need-reset", "lost my queues").catch(assert.fail);
    },
  });
  await assert.rejects(user.register("other", ["suspend"]), {
    code: "FUNCTION_UNKNOWN",
    message: /it may use disk, net/,
  });
  await user.register("disk", ["suspend", "error-detected", "remove"]);
  const suspended = await service.notices.suspend(["disk"], "sleep");
  assert.deepEqual(suspended.consented, [{ ...own, function: "disk" }]);
  const recovered = await service.notices.error("disk", "error-detected", "an error");
  assert.deepEqual(
    recovered.votes.map(({ reason }) => reason),
    ["lost my queues"],
  );
  const [first] = heard;
  await assert.rejects(user.reply(first?.notice ?? -1, "refuse"), { code: "NOTICE_ANSWERED" });
  const removal = service.notices.remove("disk", 10_000, "unplugged");
  opening[Symbol.dispose]();
  assert.deepEqual((await removal).forced, []);
  await user.functions();
  assert.equal(heard.at(-1)?.graceMs, 10_000);
});

test("a user that hangs up is silent: the end of its connection vetoes", async (t) => {
  const { service, path } = setUp(t);
  service.notices.opened("disk", own, () => undefined);
  const user = new ServiceUser(path, { onNotice: () => user[Symbol.dispose]() });
  await user.register("disk", ["suspend"]);
  assert.equal((await service.notices.suspend(["disk"], "sleep")).silent.length, 1);
  assert.equal(user.ended.aborted, true);
});

test("descriptors are handed over, and the connection is the lease", async (t) => {
  const { service, path } = setUp(t);
  const before = descriptors();
  const user = new ServiceUser(path);
  await assert.rejects(user.open("net"), { code: "PERMISSION_DENIED", message: /not for uid/ });
  await assert.rejects(user.open("other"), { code: "FUNCTION_UNKNOWN" });
  const { address, backend, descriptors: files } = await user.open("disk");
  assert.deepEqual([address, backend], ["0000:01:00.0", "group"]);
  assert.deepEqual(
    files.map((file) => fstatSync(file.number).size),
    [4096, 8192, 12_288],
  );
  assert.deepEqual(service.notices.users("disk"), [{ ...own, function: "disk" }]);
  await assert.rejects(user.open("disk"), { code: "FUNCTION_BUSY", message: /this connection has disk already/ });
  const other = new ServiceUser(path);
  await assert.rejects(other.open("disk"), { code: "FUNCTION_BUSY" });
  const returned = new Promise<void>((resolve) => (service.onReturned = resolve));
  user[Symbol.dispose]();
  await returned;
  assert.deepEqual(service.notices.users("disk"), []);
  for (const file of files) file.close();
  const again = await other.open("disk");
  for (const file of again.descriptors) file.close();
  const returnedAgain = new Promise<void>((resolve) => (service.onReturned = resolve));
  other[Symbol.dispose]();
  await returnedAgain;
  assert.equal(descriptors(), before, "nobody keeps a descriptor");
});

test("open takes what the service hands over; where no function comes of it, everything goes back", async (t) => {
  const { service, path } = setUp(t);
  const before = descriptors();
  await assert.rejects(open("ring3d:"), { code: "ADDRESS_INVALID" });
  await assert.rejects(open("ring3d:disk@"), { code: "ADDRESS_INVALID" });
  await assert.rejects(open(`ring3d:disk@${path}.not`), { code: "SYSTEM_CALL", message: /is it being served/ });
  await assert.rejects(open(`ring3d:net@${path}`), { code: "PERMISSION_DENIED" });
  const returned = new Promise<void>((resolve) => (service.onReturned = resolve));
  // The fake's address is no function of this machine.
  await assert.rejects(open(`ring3d:disk@${path}`), { code: "NOT_FOUND" });
  await returned;
  assert.deepEqual(service.returned, ["disk"]);
  using user = new ServiceUser(path);
  await user.functions();
  assert.ok(descriptors() <= before + 2, "nothing but this connection's two ends");
});

test("a user that hangs up while a function is being lent to it gets nothing, and the service has it back", async (t) => {
  const { service, path } = setUp(t);
  const { promise, resolve } = Promise.withResolvers<void>();
  service.lending = promise;
  const returned = new Promise<void>((done) => (service.onReturned = done));
  const user = new ServiceUser(path);
  const opened = assert.rejects(user.open("disk"), { code: "SERVICE_CLOSED" });
  await user.functions();
  user[Symbol.dispose]();
  await opened;
  using other = new ServiceUser(path);
  await other.functions();
  resolve();
  await returned;
  assert.deepEqual(service.returned, ["disk"]);
  assert.deepEqual(service.notices.users("disk"), []);
});

test("a removal hangs up on who has a function lent when its grace time is over", async (t) => {
  const { service, path } = setUp(t);
  using user = new ServiceUser(path);
  const { descriptors: files } = await user.open("disk");
  for (const file of files) file.close();
  const removal = service.notices.remove("disk", 1, "unplugged");
  await assert.rejects(user.open("disk"), { code: "FUNCTION_BUSY" });
  const ended = once(user.ended, "abort");
  for (const expire of Array.from(service.timers)) expire();
  await ended;
  assert.deepEqual((await removal).forced, [{ ...own, function: "disk" }]);
  using late = new ServiceUser(path);
  await assert.rejects(late.open("disk"), { code: "FUNCTION_REMOVED" });
});

test("after a reload who may not use a function any more hears nothing of it and gives it back", async (t) => {
  const { service, path } = setUp(t);
  const heard: Notice[] = [];
  using user = new ServiceUser(path, { onNotice: (notice) => heard.push(notice) });
  using lender = new ServiceUser(path);
  await user.register("disk", ["power-resume"]);
  await user.register("net", ["power-resume"]);
  for (const file of (await lender.open("disk")).descriptors) file.close();
  service.usable = service.usable.filter(({ name }) => name === "net");
  const ended = once(lender.ended, "abort");
  service.reloaded();
  service.notices.powerResumed(["disk", "net"], "awake");
  await ended;
  await user.functions();
  assert.deepEqual(
    heard.map((notice) => notice.function),
    ["net"],
  );
});

test("what is no request is answered with an error, and nothing else comes of it", async (t) => {
  const { path } = setUp(t);
  const codes = async (text: string | Uint8Array): Promise<unknown[]> =>
    (await said(path, text)).map(({ id, error }) => [id, error?.code]);
  assert.deepEqual(await codes('nonsense\n{"id":3,"request":"sleep"}\n{"id":4,"request":"functions"}\n'), [
    [null, "REQUEST_INVALID"],
    [3, "REQUEST_INVALID"],
    [4, undefined],
  ]);
  assert.deepEqual(await codes(`${"x".repeat(4097)}\n{"id":4,"request":"functions"}\n`), [[null, "LINE_TOO_LONG"]]);
  assert.deepEqual(await codes('{"id":4,"request":"functions"}'), [], "a line without its end is none");
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
      for (const answer of await said(path, bytes)) assert.equal(answer["error"]?.code, "REQUEST_INVALID");
    }),
    { numRuns: 50 },
  );
});

test("connections are bounded for each user, and their end makes room", async (t) => {
  const { path } = setUp(t, { connectionsPerUser: 2 });
  const first = new ServiceUser(path);
  using second = new ServiceUser(path);
  await Promise.all([first.functions(), second.functions()]);
  assert.match(JSON.stringify(await said(path, "")), /TOO_MANY_CONNECTIONS.*is 2 times connected already/);
  using third = new ServiceUser(path);
  await assert.rejects(third.functions(), { code: /TOO_MANY_CONNECTIONS|SERVICE_CLOSED/ });
  first[Symbol.dispose]();
  for (;;) {
    // The service hears of the end a turn later.
    using fourth = new ServiceUser(path);
    if (
      await fourth.functions().then(
        () => true,
        () => false,
      )
    )
      break;
  }
});

test("connections of all users together are bounded", async (t) => {
  const { path } = setUp(t, { connections: 1 });
  using only = new ServiceUser(path);
  await only.functions();
  assert.match(JSON.stringify(await said(path, "")), /1 users are connected already/);
});

test("who wants nothing, does not finish a line or does not read is hung up on; who waits for notices is not", async (t) => {
  const { path } = setUp(t, { silenceMs: 40 });
  using waiting = new ServiceUser(path);
  await waiting.register("disk", ["suspend"]);
  const idle = await connected(path);
  const slow = await connected(path);
  slow.write('{"id":1,"request":"register","function":"disk","notices":["suspend"]}\n{"id":');
  idle.resume();
  slow.resume();
  await Promise.all([closed(idle), closed(slow)]);
  assert.equal((await waiting.functions()).length, 2);
});

test("who asks and does not read is hung up on, and costs a bounded amount", async (t) => {
  const { path } = setUp(t);
  using other = new ServiceUser(path);
  const greedy = await connected(path);
  greedy.pause();
  const hungUp = closed(greedy);
  const requests = '{"id":1,"request":"functions"}\n'.repeat(1000);
  const feeding = setInterval(() => greedy.write(requests), 1);
  await hungUp;
  clearInterval(feeding);
  assert.equal((await other.functions()).length, 2);
});

test("descriptors that users send are closed", async (t) => {
  const { path } = setUp(t);
  using user = new ServiceUser(path);
  await user.functions();
  const { UnixSocket } = await import("ring3/linux");
  const before = descriptors();
  using socket = UnixSocket.connect(path);
  using file: FileDescriptor = createMemoryFile(4096);
  for (let i = 0; i < 20; i++) socket.send([new TextEncoder().encode("{}\n")], [file, file, file]);
  await user.functions();
  await user.functions();
  assert.ok(descriptors() <= before + 3, "the socket's two ends and the file");
});

test("disposal ends all connections and removes the socket", async (t) => {
  const { path, server } = setUp(t);
  using user = new ServiceUser(path);
  await user.register("disk", ["suspend"]);
  const ended = once(user.ended, "abort");
  server[Symbol.dispose]();
  await ended;
  await assert.rejects(user.functions(), { code: "SERVICE_CLOSED" });
  assert.throws(() => new ServiceUser(path), { code: "SYSTEM_CALL" });
});

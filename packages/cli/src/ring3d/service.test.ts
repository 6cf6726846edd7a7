// The service with functions in process behind it and real users, in processes of their own, before it.
// seconds: 10
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type PciFunction, Ring3Error } from "ring3";
import { EduDevice } from "ring3/devices/edu";
import { type ErrorVote, NOTICE_KINDS, type NoticeAnswer, type NoticeKind } from "ring3/notices";
import { type InProcessFunction, inProcess } from "ring3/virtual";
import type { Configuration, FunctionSettings } from "./configuration.ts";
import type { Hardware } from "./function-needs.ts";
import { FunctionService } from "./service.ts";
import type { FunctionState, ServiceEvent } from "./service-interface.ts";
import { ServiceUser } from "./service-user.ts";
import { machineDirectory, UserSet } from "./user-set.ts";

const uid = process.geteuid?.() ?? 0;
const by = { pid: 1, uid: 0 };

/** A machine with edu devices, each of which can fail, and a log of what was done to it. */
class FakeHardware implements Hardware {
  readonly done: string[] = [];
  readonly devices: Map<string, EduDevice> = new Map();
  readonly functions: Map<string, InProcessFunction> = new Map();
  /** What is on the bus of the first. */
  bus: readonly string[] = [];
  /** Why a function cannot be opened. */
  readonly refusals: Map<string, Error> = new Map();

  async take(address: string): Promise<boolean> {
    this.done.push(`take ${address}`);
    return await Promise.resolve(true);
  }

  async giveBack(address: string): Promise<boolean> {
    this.done.push(`give back ${address}`);
    return await Promise.resolve(true);
  }

  sharedBus(fn: PciFunction): readonly string[] {
    return fn === this.functions.get("0000:00:00.0") ? this.bus : [];
  }

  async resetBus(fn: PciFunction, neighbours: readonly PciFunction[]): Promise<"bus"> {
    this.done.push("reset the bus");
    await Promise.all([fn, ...neighbours].map((one) => one.reset()));
    return "bus";
  }

  lend(address: string): { readonly backend: "iommufd"; readonly descriptors: readonly [] } {
    const refusal = this.refusals.get(`lend ${address}`);
    if (refusal !== undefined) throw refusal;
    this.done.push(`lend ${address}`);
    return { backend: "iommufd", descriptors: [] };
  }

  async open(address: string, options: { readonly removalGraceMs: number }): Promise<PciFunction> {
    await Promise.resolve();
    const refusal = this.refusals.get(address);
    if (refusal !== undefined) throw refusal;
    const device = new EduDevice();
    this.devices.set(address, device);
    const fn = inProcess(device, options);
    this.functions.set(address, fn);
    return fn;
  }
}

class Scene {
  readonly hardware: FakeHardware = new FakeHardware();
  readonly events: ServiceEvent[] = [];
  readonly place: string;
  readonly service: FunctionService;
  next: Configuration;
  #changed: (() => void) | undefined;

  constructor(t: TestContext, names: readonly string[], change: Partial<FunctionSettings> = {}) {
    this.place = mkdtempSync(join(tmpdir(), "ring3d-"));
    this.next = this.configuration(names, change);
    this.service = new FunctionService(this.next, {
      hardware: this.hardware,
      reread: () => this.next,
    });
    this.service.on((event) => {
      this.events.push(event);
      this.#changed?.();
    });
    t.after(async () => {
      await this.service.stop("the test is over");
      rmSync(this.place, { recursive: true });
    });
  }

  configuration(names: readonly string[], change: Partial<FunctionSettings> = {}): Configuration {
    const functions = names.map((name) => ({
      name,
      address: `0000:00:0${names.indexOf(name)}.0`,
      bind: true,
      socket: this.socket(name),
      users: users(uid),
      rules: "strict" as const,
      hide: [],
      trap: false,
      ranges: [],
      lockLimit: undefined,
      maps: 100,
      openings: 1,
      queue: 0,
      queueSeconds: 30,
      handOver: users(),
      allowWithoutReset: false,
      trace: undefined,
      removalSeconds: 600,
      ...change,
    }));
    const control = join(this.place, "control.sock");
    const traces = this.place;
    const own = { control, controlGroup: undefined, users: this.socket("users"), metrics: undefined, audit: undefined };
    return { path: "test", ...own, traces, functions };
  }

  socket(name: string): string {
    return join(this.place, `${name}.sock`);
  }

  state(name: string): FunctionState | undefined {
    return this.service.functions().find((fn) => fn.name === name)?.state;
  }

  /** Resolves with the first event that `matches`, from the start or from now on. */
  async event(matches: (event: ServiceEvent) => boolean, from = 0): Promise<ServiceEvent> {
    for (;;) {
      const found = this.events.slice(from).find(matches);
      if (found !== undefined) return found;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#changed = resolve;
      await promise;
    }
  }

  /** The kinds of events so far, and those of functions with their name. */
  get told(): string[] {
    return this.events.map((event) => ("function" in event ? `${event.function} ${event.type}` : event.type));
  }
}

function users(...uids: number[]): UserSet {
  return new UserSet(uids, [], machineDirectory);
}

test("one user after another, each finds the function reset; at the end it goes back", async (t) => {
  const scene = new Scene(t, ["a", "b"]);
  await scene.service.start();
  assert.deepEqual([scene.state("a"), scene.state("b")], ["ready", "ready"]);
  for (let i = 0; i < 2; i++) {
    const from = scene.events.length;
    using user = new ServiceUser(scene.socket("a"));
    assert.equal(await user.says(), "has it");
    assert.equal(scene.state("a"), "used");
    const [status] = scene.service.functions();
    assert.deepEqual(
      status?.users.map(({ pid, uid: owner }) => [pid, owner]),
      [[user.pid, uid]],
    );
    user.read();
    assert.equal(await user.says(), "read 11e81234");
    using second = new ServiceUser(scene.socket("a"));
    assert.match(await second.says(), new RegExp(`refused: .*in use by pid ${user.pid} \\(uid ${uid}\\)`));
    await user.leave();
    const reset = await scene.event(({ type }) => type === "reset", from);
    assert.deepEqual(reset, { type: "reset", function: "a", cause: "handover", kind: "bus" });
    await scene.service.kick("a", "nobody has it", by);
    assert.equal(scene.state("a"), "ready");
  }
  assert.equal(scene.state("b"), "ready");
  await scene.service.stop("enough");
  assert.deepEqual(
    scene.hardware.done.toSorted(),
    ["a", "b"].flatMap((_, i) => [`take 0000:00:0${i}.0`, `give back 0000:00:0${i}.0`]).toSorted(),
  );
  assert.ok(!existsSync(scene.socket("a")));
  assert.equal(scene.told.at(-1), "stopped");
});

test("whoever is not among the users is told so, and told of", async (t) => {
  const scene = new Scene(t, ["a"], { users: users(uid + 1) });
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  assert.match(await user.says(), /refused: .*uid \d+ is not among the users of a/);
  const refused = await scene.event(({ type }) => type === "refused");
  assert.ok(refused.type === "refused" && refused.uid === uid && refused.pid === user.pid);
});

test("an administrator takes a function away, and traces it while it is used", async (t) => {
  const scene = new Scene(t, ["a"]);
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  assert.equal(await user.says(), "has it");
  const file = scene.service.setTrace("a", true, by);
  assert.equal(file, join(scene.place, "a.jsonl"));
  user.read();
  await user.says();
  assert.equal(scene.service.functions()[0]?.trace, file);
  assert.equal(scene.service.setTrace("a", false, by), file);
  assert.match(readFileSync(file, "utf8"), /"VENDOR_ID/);
  // What is there already is not lost.
  const second = scene.service.setTrace("a", true, by);
  assert.notEqual(second, file);
  const kicked = await scene.service.kick("a", "maintenance", by);
  assert.deepEqual(
    kicked.map(({ pid }) => pid),
    [user.pid],
  );
  assert.match(await user.says(), /^gone: /);
  const closed = await scene.event(({ type }) => type === "closed");
  assert.ok(closed.type === "closed" && closed.reason.includes("maintenance"));
  assert.equal(scene.state("a"), "ready");
  await assert.rejects(() => scene.service.kick("aa", "", by), /no function is called "aa"; did you mean a\?/);
});

test("what cannot be opened is told once, tried again, and nobody else is held up", async (t) => {
  const scene = new Scene(t, ["a", "b"]);
  scene.hardware.refusals.set("0000:00:00.0", new Error("the group is not viable"));
  await scene.service.start();
  assert.deepEqual([scene.state("a"), scene.state("b")], ["failed", "ready"]);
  assert.equal(scene.service.functions()[0]?.reason, "the group is not viable");
  await scene.event((event) => event.type === "failed" && event.reason === "the group is not viable");
  scene.hardware.refusals.clear();
  await scene.event((event) => event.type === "ready" && event.function === "a");
  assert.equal(scene.state("a"), "ready");
  assert.equal(scene.told.filter((what) => what === "a failed").length, 1);
});

test("a function that is wanted back: its user is told, nobody new gets it, and it comes back with the machine's", async (t) => {
  const scene = new Scene(t, ["a"]);
  await scene.service.start();
  const device = scene.hardware.devices.get("0000:00:00.0");
  {
    using user = new ServiceUser(scene.socket("a"));
    assert.equal(await user.says(), "has it");
    device?.requestRemoval();
    assert.equal(await user.says(), "wanted back");
    using late = new ServiceUser(scene.socket("a"));
    assert.match(await late.says(), /refused: .*ENODEV.*a is being taken from the machine/);
    await user.leave();
  }
  await scene.event(({ type }) => type === "removed");
  assert.ok(!existsSync(scene.socket("a")));
  await scene.event((event) => event.type === "notice" && event.notice === "removal-requested");
  // That somebody else did something to it is no reason to take it again; that it is there again is.
  scene.service.machineSays("0000:00:00.0", "changed");
  assert.equal(scene.state("a"), "removed");
  const from = scene.events.length;
  scene.service.machineSays("0000:00:00.0", "added");
  await scene.event(({ type }) => type === "ready", from);
  using next = new ServiceUser(scene.socket("a"));
  assert.equal(await next.says(), "has it");
});

test("a function that vanishes takes nobody along", async (t) => {
  const scene = new Scene(t, ["a", "b"]);
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  using other = new ServiceUser(scene.socket("b"));
  assert.deepEqual([await user.says(), await other.says()], ["has it", "has it"]);
  scene.hardware.devices.get("0000:00:00.0")?.remove("somebody pulled it");
  assert.match(await user.says(), /^gone: /);
  await scene.event(({ type }) => type === "removed");
  other.read();
  assert.equal(await other.says(), "read 11e81234");
});

test("a configuration is read again while users stay", async (t) => {
  const scene = new Scene(t, ["a", "b", "c"]);
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  assert.equal(await user.says(), "has it");
  const same = { added: [], removed: [], changed: [], deferred: [] };
  assert.deepEqual(await scene.service.reload(by), same);
  // "a" is used, "b" goes, "c" is free, "d" is new.
  const next = scene.configuration(["a", "b", "c", "d"], { maps: 50 });
  scene.next = { ...next, functions: next.functions.filter(({ name }) => name !== "b") };
  const from = scene.events.length;
  assert.deepEqual(await scene.service.reload(undefined), {
    added: ["d"],
    removed: ["b"],
    changed: ["c"],
    deferred: ["a"],
  });
  user.read();
  assert.equal(await user.says(), "read 11e81234");
  assert.deepEqual([scene.state("a"), scene.state("b"), scene.state("d")], ["used", undefined, "ready"]);
  await scene.event((event) => event.type === "ready" && event.function === "c", from);
  await user.leave();
  await scene.event((event) => event.type === "ready" && event.function === "a", from);
  assert.deepEqual(await scene.service.reload(by), same);
  // It was never given back to its driver in between.
  assert.ok(!scene.hardware.done.includes("give back 0000:00:00.0"));
});

test("a user who may not use the function any more loses it, others stay out and in", async (t) => {
  const scene = new Scene(t, ["a"]);
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  assert.equal(await user.says(), "has it");
  scene.next = scene.configuration(["a"], { users: users(uid, uid + 1) });
  assert.deepEqual((await scene.service.reload(by)).changed, ["a"]);
  user.read();
  assert.equal(await user.says(), "read 11e81234");
  scene.next = scene.configuration(["a"], { users: users(uid + 1) });
  assert.deepEqual((await scene.service.reload(by)).changed, ["a"]);
  assert.match(await user.says(), /^gone: /);
});

test("a configuration that is wrong, or that moves the service's own sockets, changes nothing", async (t) => {
  const scene = new Scene(t, ["a"]);
  await scene.service.start();
  scene.next = { ...scene.configuration([]), control: "/elsewhere.sock" };
  await assert.rejects(() => scene.service.reload(by), /control cannot change while the service runs/);
  assert.equal(scene.state("a"), "ready");
  assert.equal(scene.told.at(-1), "reload-refused");
});

test("users vote on an error: the function is reset under them, and who gives it up loses it", async (t) => {
  const scene = new Scene(t, ["a"]);
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  assert.equal(await user.says(), "has it");
  const said: string[] = [];
  const answers: Partial<Record<NoticeKind, NoticeAnswer>> = {
    "error-detected": "need-reset",
    "link-reset": "can-recover",
    "slot-reset": "recovered",
  };
  const resumed = Promise.withResolvers<void>();
  using connection = scene.service.notices.connect({ pid: user.pid, uid }, ({ kind, notice }) => {
    said.push(kind);
    if (kind === "error-resume") resumed.resolve();
    const answer = answers[kind];
    if (answer !== undefined) connection.reply(notice, answer);
  });
  connection.register("a", NOTICE_KINDS);
  const real = scene.hardware.functions.get("0000:00:00.0");
  real?.events.emit("error", { description: "a completer abort" });
  await scene.event((event) => event.type === "notice" && event.notice === "error-detected");
  assert.ok(!scene.events.some((event) => event.type === "reset" && event.cause === "user"), "the link may be down");
  real?.events.emit("recovered", { description: "the link was reset" });
  const end = await scene.event((event) => event.type === "notice" && event.notice === "slot-reset");
  assert.match(end.type === "notice" ? end.outcome : "", /^recovered; recovered from process \d+ of uid \d+ at a$/);
  await resumed.promise;
  // Its only way to be reset goes through its link.
  assert.deepEqual(said, ["error-detected", "link-reset", "slot-reset", "error-resume"]);
  assert.ok(scene.events.some((event) => event.type === "reset" && event.cause === "user"));
  user.read();
  assert.equal(await user.says(), "read 11e81234");
  answers["error-detected"] = "disconnect";
  real?.events.emit("error", { description: "another one" });
  assert.match(await user.says(), /^gone: /);
});

test("where a function's own reset does not help its bus is reset, and its neighbour's users go through it, too", async (t) => {
  const scene = new Scene(t, ["a", "b"]);
  scene.hardware.bus = ["0000:00:00.0", "0000:00:01.0"];
  await scene.service.start();
  const said: Record<"a" | "b", string[]> = { a: [], b: [] };
  const resumed = Promise.withResolvers<void>();
  const follow = async (name: "a" | "b", votes: Partial<Record<NoticeKind, ErrorVote[]>>): Promise<ServiceUser> => {
    const user = new ServiceUser(scene.socket(name));
    t.after(() => user[Symbol.dispose]());
    assert.equal(await user.says(), "has it");
    const connection = scene.service.notices.connect({ pid: user.pid, uid }, ({ kind, notice }) => {
      said[name].push(kind);
      const vote = votes[kind]?.shift();
      if (vote !== undefined) connection.reply(notice, vote);
      if (said.a.at(-1) === "error-resume" && said.b.at(-1) === "error-resume") resumed.resolve();
    });
    t.after(() => connection[Symbol.dispose]());
    connection.register(name, NOTICE_KINDS);
    return user;
  };
  const first = await follow("a", {
    "error-detected": ["need-reset", "need-reset"],
    "slot-reset": ["need-reset", "recovered", "need-reset"],
    "link-reset": ["can-recover"],
  });
  const second = await follow("b", {
    "error-detected": ["can-recover"],
    "link-reset": ["can-recover"],
    "slot-reset": ["recovered"],
  });
  const real = scene.hardware.functions.get("0000:00:00.0");
  assert.ok(real);
  const reset = real.reset.bind(real);
  real.reset = async () => {
    await reset();
    return "flr";
  };
  const fail = (): void => {
    real.events.emit("error", { description: "a completer abort" });
    real.events.emit("recovered", { description: "it was dealt with" });
  };
  fail();
  await resumed.promise;
  assert.deepEqual(said, {
    a: ["error-detected", "slot-reset", "link-reset", "slot-reset", "error-resume"],
    b: ["error-detected", "link-reset", "slot-reset", "error-resume"],
  });
  assert.ok(scene.hardware.done.includes("reset the bus"));
  second.read();
  assert.equal(await second.says(), "read 11e81234");
  // What is not the service's is not taken down.
  scene.hardware.bus = ["0000:00:00.0", "0000:00:1f.0"];
  fail();
  const why = /0000:00:1f\.0 is on the bus of 0000:00:00\.0 and not served/;
  await scene.event((event) => event.type === "fault" && why.test(event.description));
  assert.match(await first.says(), /^gone: /);
});

test("a user who does not let go within its time is made to", async (t) => {
  const scene = new Scene(t, ["a"], { removalSeconds: 0 });
  await scene.service.start();
  using user = new ServiceUser(scene.socket("a"));
  assert.equal(await user.says(), "has it");
  scene.hardware.devices.get("0000:00:00.0")?.requestRemoval();
  assert.equal(await user.says(), "wanted back");
  assert.match(await user.says(), /^gone: /);
  const outcome = await scene.event((event) => event.type === "notice" && event.notice === "remove");
  assert.match(
    outcome.type === "notice" ? outcome.outcome : "",
    new RegExp(`^taken by force: process ${user.pid} of uid ${uid} at a$`),
  );
  await scene.event(({ type }) => type === "removed");
});

test("the kernel's descriptors are lent to who may have them, and nobody else has the function meanwhile", async (t) => {
  const scene = new Scene(t, ["a"], { handOver: users(uid) });
  await scene.service.start();
  const peer = { pid: 4711, uid, gid: uid, groups: [] };
  const { service } = scene;
  await assert.rejects(() => service.lend("a", { ...peer, uid: uid + 1 }, () => undefined), {
    code: "PERMISSION_DENIED",
  });
  {
    using user = new ServiceUser(scene.socket("a"));
    assert.equal(await user.says(), "has it");
    await assert.rejects(() => service.lend("a", peer, () => undefined), /a is in use by pid \d+/);
    await user.leave();
    await service.kick("a", "", by);
  }
  // What cannot be lent is served again.
  scene.hardware.refusals.set("lend 0000:00:00.0", new Error("its group has another function"));
  await assert.rejects(() => service.lend("a", peer, () => undefined), /its group has another function/);
  assert.equal(scene.state("a"), "ready");
  scene.hardware.refusals.clear();
  let wanted = 0;
  const lease = await service.lend("a", peer, () => void wanted++);
  assert.equal(lease.address, "0000:00:00.0");
  assert.equal(scene.state("a"), "used");
  assert.ok(!existsSync(scene.socket("a")));
  await assert.rejects(() => service.lend("a", peer, () => undefined), { code: "FUNCTION_BUSY" });
  await service.kick("a", "maintenance", by);
  assert.equal(wanted, 1);
  // Its user keeps what it was lent, and is named though no process can be seen.
  scene.hardware.refusals.set("0000:00:00.0", new Ring3Error("BUSY", "it is held by a process of another user"));
  await lease[Symbol.asyncDispose]();
  const reason = service.functions()[0]?.reason ?? "";
  assert.match(
    reason,
    new RegExp(`by a process of another user; its descriptors were lent to process 4711 of uid ${uid}$`),
  );
  scene.hardware.refusals.clear();
  const before = scene.events.length;
  service.machineSays("0000:00:00.0", "changed");
  await scene.event(({ type }) => type === "ready", before);
  using user = new ServiceUser(scene.socket("a"));
  assert.equal(await user.says(), "has it");
});

test("who may use what: each user sees its own", async (t) => {
  const scene = new Scene(t, ["a", "b"], { handOver: users(uid + 1) });
  const seen = (who: number): unknown => {
    const peer = { pid: 1, uid: who, gid: who, groups: [] };
    return scene.service.usableBy(peer).map(({ name, handOver }) => [name, handOver]);
  };
  await scene.service.start();
  assert.deepEqual(seen(uid), [
    ["a", false],
    ["b", false],
  ]);
  assert.deepEqual(seen(uid + 1), [
    ["a", true],
    ["b", true],
  ]);
  assert.deepEqual(seen(uid + 2), []);
});

test("users wait in line where the configuration lets them", async (t) => {
  const scene = new Scene(t, ["a"], { queue: 1 });
  await scene.service.start();
  using first = new ServiceUser(scene.socket("a"));
  assert.equal(await first.says(), "has it");
  using second = new ServiceUser(scene.socket("a"));
  await scene.event((event) => event.type === "waiting" && event.pid === second.pid);
  assert.equal(scene.service.functions()[0]?.waiting, 1);
  using third = new ServiceUser(scene.socket("a"));
  assert.match(await third.says(), /^refused: .*EBUSY/);
  await first.leave();
  assert.equal(await second.says(), "has it");
});

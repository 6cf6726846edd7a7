// Against the real dbus-daemon, with a logind that is not.
// seconds: 2
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import test, { type TestContext } from "node:test";
import { NoticeBroker, type NoticeConnection, type NoticeKind, type SuspendOutcome } from "ring3/notices";
import { FakeLogind, TestBus } from "./fake-logind.ts";
import { connectLogind, systemBus } from "./logind.ts";
import { MachineSleep } from "./machine-sleep.ts";
import { type SleepEvent, SleepGuard } from "./sleep-guard.ts";

const installed = spawnSync("dbus-daemon", ["--version"]).status === 0;
const skip = installed ? false : "dbus-daemon is not installed";
const alice = { pid: 100, uid: 1000 };

type GuardEvent = SleepEvent | { readonly type: "asked"; readonly outcome: SuspendOutcome };

/** Events, in order, each awaited once. */
class Heard {
  readonly #events: GuardEvent[] = [];
  #wake: () => void = () => undefined;

  readonly take = (event: GuardEvent): void => {
    this.#events.push(event);
    this.#wake();
  };

  async next(): Promise<GuardEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

interface Scene {
  readonly bus: TestBus;
  readonly logind: FakeLogind;
  readonly notices: NoticeBroker;
  readonly heard: Heard;
  readonly guard: SleepGuard;
}

async function setUp(t: TestContext): Promise<Scene> {
  // Until the last of it is done, only the test's own promises are waited for.
  const alive = setInterval(() => undefined, 1000);
  t.after(() => clearInterval(alive));
  const bus = await TestBus.start();
  t.after(() => bus[Symbol.asyncDispose]());
  const logind = await FakeLogind.start(bus);
  t.after(() => logind[Symbol.dispose]());
  const notices = new NoticeBroker({ suspendReplyMs: 60_000 });
  const heard = new Heard();
  const sleep = new MachineSleep({
    notices,
    functions: () => ["disk"],
    onOutcome: (outcome) => heard.take({ type: "asked", outcome }),
  });
  const guard = new SleepGuard({
    notices,
    sleep,
    connect: (onSleep) => connectLogind(onSleep, bus.socket),
    onEvent: heard.take,
  });
  t.after(() => guard[Symbol.dispose]());
  assert.deepEqual(await heard.next(), { type: "logind-connected", delayMs: 5000 });
  return { bus, logind, notices, heard, guard };
}

function user(
  notices: NoticeBroker,
  answer: "consent" | "refuse" | undefined,
): { connection: NoticeConnection; opening: Disposable; kinds: NoticeKind[] } {
  const kinds: NoticeKind[] = [];
  const connection: NoticeConnection = notices.connect(alice, ({ notice, kind }) => {
    kinds.push(kind);
    if (kind === "suspend" && answer !== undefined) connection.reply(notice, answer, "busy");
  });
  connection.register("disk", ["suspend", "power-resume"]);
  return { connection, opening: notices.opened("disk", alice, () => undefined), kinds };
}

test("the system bus is where the environment says, or where it usually is", () => {
  const at = (address?: string): string => systemBus({ DBUS_SYSTEM_BUS_ADDRESS: address });
  assert.equal(at(), "/run/dbus/system_bus_socket");
  assert.equal(at("tcp:host=x"), "/run/dbus/system_bus_socket");
  assert.equal(at("tcp:host=x;unix:path=/tmp/a%20bus,guid=12"), "/tmp/a bus");
});

test("the delay is held from the start, let go by consent, and taken again when the machine is awake", {
  skip,
}, async (t) => {
  const { logind, notices, heard, guard } = await setUp(t);
  assert.deepEqual(
    [...logind.locks],
    [{ what: "sleep", who: "ring3d", why: "asks the users of PCI functions before a sleep", mode: "delay" }],
  );
  const { kinds } = user(notices, "consent");
  logind.prepareForSleep(true);
  const asked = await heard.next();
  assert.ok(asked.type === "asked" && asked.outcome.allowed);
  await logind.until((modes) => modes.length === 0);
  logind.prepareForSleep(false);
  assert.deepEqual(await heard.next(), { type: "awake" });
  await logind.until((modes) => String(modes) === "delay");
  assert.deepEqual(kinds, ["suspend", "power-resume"]);
  guard[Symbol.dispose]();
  await logind.until((modes) => modes.length === 0);
});

test("after a refusal the delay is held: the machine sleeps when logind has waited, and users hear when it is awake", {
  skip,
}, async (t) => {
  const { logind, notices, heard } = await setUp(t);
  const { kinds } = user(notices, "refuse");
  logind.prepareForSleep(true);
  const asked = await heard.next();
  assert.ok(asked.type === "asked" && !asked.outcome.allowed);
  assert.deepEqual(asked.outcome.refused, [{ ...alice, function: "disk", reason: "busy" }]);
  logind.prepareForSleep(false);
  assert.deepEqual(await heard.next(), { type: "awake" });
  assert.deepEqual(
    Array.from(logind.locks, ({ mode }) => mode),
    ["delay"],
  );
  assert.deepEqual(kinds, ["suspend", "power-resume", "power-resume"]);
});

test("while a user cannot be asked, sleep is forbidden beforehand", { skip }, async (t) => {
  const { logind, notices } = await setUp(t);
  const opening = notices.opened("disk", alice, () => undefined);
  await logind.until((modes) => String(modes) === "block,delay");
  const block = Array.from(logind.locks).find(({ mode }) => mode === "block");
  assert.equal(block?.why, "process 100 drives disk and cannot be asked");
  const connection = notices.connect(alice, () => undefined);
  connection.register("disk", ["suspend"]);
  await logind.until((modes) => String(modes) === "delay");
  connection.register("disk", []);
  await logind.until((modes) => String(modes) === "block,delay");
  opening[Symbol.dispose]();
  await logind.until((modes) => String(modes) === "delay");
});

test("a sleep that is over before all have answered leaves the delay held", { skip }, async (t) => {
  const { logind, notices, heard } = await setUp(t);
  const { connection, opening } = user(notices, undefined);
  logind.prepareForSleep(true);
  logind.prepareForSleep(false);
  assert.deepEqual(await heard.next(), { type: "awake" });
  opening[Symbol.dispose]();
  const asked = await heard.next();
  assert.ok(asked.type === "asked" && asked.outcome.allowed, "who has closed does not count");
  connection[Symbol.dispose]();
  notices.opened("disk", alice, () => undefined);
  await logind.until((modes) => String(modes) === "block,delay");
});

test("a bus that ends in the middle of a sleep is the end of it: users go on", { skip }, async (t) => {
  const { bus, logind, notices, heard } = await setUp(t);
  const { kinds } = user(notices, "consent");
  logind.prepareForSleep(true);
  assert.equal((await heard.next()).type, "asked");
  await bus[Symbol.asyncDispose]();
  const ends = [(await heard.next()).type, (await heard.next()).type];
  assert.deepEqual(ends.toSorted(), ["awake", "logind-missing"]);
  assert.deepEqual(kinds, ["suspend", "power-resume"]);
});

test("signals of strangers on the bus are not logind's", { skip }, async (t) => {
  const { bus, logind, notices, heard } = await setUp(t);
  const { kinds } = user(notices, "consent");
  const words = [
    "--type=signal",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager.PrepareForSleep",
    "boolean:true",
  ];
  const sent = spawnSync("dbus-send", [`--bus=unix:path=${bus.socket}`, ...words]);
  if (sent.error !== undefined) return t.skip("dbus-send is not installed");
  assert.equal(sent.status, 0, sent.stderr.toString());
  logind.prepareForSleep(false);
  assert.deepEqual(await heard.next(), { type: "awake" });
  assert.deepEqual(kinds, []);
});

test("without a bus, without logind and without its locks that is told once, and tried again", { skip }, async (t) => {
  const { bus, logind, notices, heard } = await setUp(t);
  logind.refuses = true;
  const opening = notices.opened("disk", alice, () => undefined);
  const missing = await heard.next();
  assert.ok(missing.type === "logind-missing" && /closed/.test(missing.reason));
  logind.refuses = false;
  opening[Symbol.dispose]();
  assert.equal((await heard.next()).type, "logind-connected");
  await bus[Symbol.asyncDispose]();
  assert.match(JSON.stringify(await heard.next()), /logind-missing.*ended the connection/);
  await assert.rejects(
    connectLogind(() => undefined, `${bus.socket}.not`),
    { code: "SYSTEM_CALL" },
  );
});

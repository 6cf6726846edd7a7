import assert from "node:assert/strict";
import test from "node:test";
import type { Notice } from "./book.ts";
import { NoticeBroker, type NoticeConnection } from "./broker.ts";
import { type NoticeKind, NOTICE_KINDS, worstVote } from "./kinds.ts";
import { ManualTimers } from "./manual-timers.ts";
import { outcomeText } from "./outcome.ts";

const alice = { pid: 100, uid: 1000 };
const bob = { pid: 200, uid: 1001 };
const noForce = (): void => assert.fail("nobody was to be forced");

function listening(
  broker: NoticeBroker,
  user: { pid: number; uid: number },
): { connection: NoticeConnection; heard: Notice[]; last: () => Notice } {
  const heard: Notice[] = [];
  const connection = broker.connect(user, (notice) => heard.push(notice));
  return { connection, heard, last: () => heard.at(-1) ?? assert.fail("nothing was heard") };
}

function setUp(kinds: readonly NoticeKind[] = NOTICE_KINDS) {
  const timers = new ManualTimers();
  const broker = new NoticeBroker({ timers });
  const a = listening(broker, alice);
  const b = listening(broker, bob);
  a.connection.register("disk", kinds);
  b.connection.register("net", kinds);
  return { timers, broker, a, b };
}

test("a suspend takes the consent of all users", async () => {
  const { timers, broker, a, b } = setUp();
  broker.opened("disk", alice, noForce);
  broker.opened("net", bob, noForce);
  const outcome = broker.suspend(["disk", "net"], "the machine goes to sleep");
  assert.deepEqual(a.last(), {
    notice: a.last().notice,
    kind: "suspend",
    function: "disk",
    description: "the machine goes to sleep",
    answers: ["consent", "refuse"],
    replyWithinMs: 5000,
  });
  a.connection.reply(a.last().notice, "consent");
  b.connection.reply(b.last().notice, "consent");
  const { allowed, consented } = await outcome;
  assert.ok(allowed);
  assert.deepEqual(consented, [
    { ...alice, function: "disk" },
    { ...bob, function: "net" },
  ]);
  assert.equal(timers.armed, 0);
  broker.powerResumed(["disk", "net"], "awake");
  assert.equal(a.last().kind, "power-resume");
  assert.equal(a.last().answers, undefined);
});

test("one refusal vetoes at once, and who had consented hears that it goes on", async () => {
  const { timers, broker, a, b } = setUp();
  broker.opened("disk", alice, noForce);
  broker.opened("net", bob, noForce);
  const outcome = broker.suspend(["disk", "net"], "sleep");
  const { notice } = a.last();
  b.connection.reply(b.last().notice, "refuse", "a write is under way");
  const { allowed, refused, silent } = await outcome;
  assert.ok(!allowed);
  assert.deepEqual(refused, [{ ...bob, function: "net", reason: "a write is under way" }]);
  assert.deepEqual(silent, []);
  assert.equal(timers.armed, 0);
  assert.equal(a.last().kind, "power-resume");
  assert.throws(() => a.connection.reply(notice, "consent"), { code: "NOTICE_ENDED" });
  assert.equal(outcomeText(await outcome), "vetoed; refused by process 200 of uid 1001 at net (a write is under way)");
});

test("silence vetoes after 5 s and is named", async () => {
  const { timers, broker, a, b } = setUp();
  broker.opened("disk", alice, noForce);
  broker.opened("net", bob, noForce);
  const outcome = broker.suspend(["disk", "net"], "sleep");
  a.connection.reply(a.last().notice, "consent");
  timers.pass(4999);
  assert.equal(timers.armed, 1);
  timers.pass(1);
  const { allowed, silent } = await outcome;
  assert.ok(!allowed);
  assert.deepEqual(silent, [{ ...bob, function: "net" }]);
  assert.throws(() => b.connection.reply(b.heard[0]?.notice ?? -1, "consent"), {
    code: "NOTICE_ENDED",
    message: /late/,
  });
});

test("an open user that is not registered for it vetoes, and nobody is told in vain", async () => {
  const { broker, a } = setUp();
  broker.opened("disk", alice, noForce);
  broker.opened("net", { pid: 201, uid: 1001 }, noForce);
  const { allowed, unasked } = await broker.suspend(["disk", "net"], "sleep");
  assert.ok(!allowed);
  assert.deepEqual(unasked, [{ pid: 201, uid: 1001, function: "net" }]);
  assert.deepEqual(a.heard, []);
});

test("a connection speaks for another process of its own user, and for nobody else's", async () => {
  const { broker, b } = setUp();
  broker.opened("net", { pid: 201, uid: 1001 }, noForce);
  b.connection.register("net", ["suspend"], 201);
  const outcome = broker.suspend(["net"], "sleep");
  b.connection.reply(b.last().notice, "consent");
  assert.deepEqual((await outcome).consented, [{ pid: 201, uid: 1001, function: "net" }]);
  broker.opened("net", alice, noForce);
  b.connection.register("net", ["suspend"], alice.pid);
  assert.equal((await broker.suspend(["net"], "sleep")).unasked.length, 2);
});

test("without users a suspend is allowed; one that opens meanwhile vetoes, one that closes does not count", async () => {
  const { broker, a } = setUp();
  assert.ok((await broker.suspend(["disk"], "sleep")).allowed);
  assert.deepEqual(a.heard, [], "registered and not open: nobody to ask");
  const opening = broker.opened("disk", alice, noForce);
  const first = broker.suspend(["disk"], "sleep");
  opening[Symbol.dispose]();
  assert.ok((await first).allowed);
  const again = broker.opened("disk", alice, noForce);
  const second = broker.suspend(["disk"], "sleep");
  broker.opened("disk", bob, noForce);
  assert.deepEqual((await second).unasked, [{ ...bob, function: "disk" }]);
  again[Symbol.dispose]();
  again[Symbol.dispose]();
  assert.deepEqual(broker.users("disk"), [{ ...bob, function: "disk" }]);
});

test("hanging up with the function open vetoes", async () => {
  const { broker, a } = setUp();
  broker.opened("disk", alice, noForce);
  const outcome = broker.suspend(["disk"], "sleep");
  a.connection[Symbol.dispose]();
  assert.deepEqual((await outcome).silent, [{ ...alice, function: "disk" }]);
  assert.equal((await broker.suspend(["disk"], "sleep")).unasked.length, 1);
});

test("votes on an error: the worst wins, silence after 3 s is none", async () => {
  const { timers, broker, a } = setUp();
  const c = listening(broker, bob);
  c.connection.register("disk", ["error-detected"]);
  broker.opened("disk", alice, noForce);
  broker.opened("disk", bob, noForce);
  broker.opened("disk", { pid: 7, uid: 7 }, noForce);
  const first = broker.error("disk", "error-detected", "an uncorrected error");
  assert.equal(a.last().replyWithinMs, 3000);
  assert.throws(() => a.connection.reply(a.last().notice, "consent"), {
    code: "ANSWER_INVALID",
    message: /need-reset/,
  });
  a.connection.reply(a.last().notice, "can-recover");
  c.connection.reply(c.last().notice, "need-reset");
  const { vote, unasked } = await first;
  assert.equal(vote, "need-reset");
  assert.deepEqual(unasked, [{ pid: 7, uid: 7, function: "disk" }]);
  const second = broker.error("disk", "error-detected", "again");
  c.connection.reply(c.last().notice, "disconnect", "no way back");
  timers.pass(3000);
  const outcome = await second;
  assert.equal(outcome.vote, "disconnect");
  assert.deepEqual(outcome.silent, [{ ...alice, function: "disk" }]);
  assert.match(outcomeText(outcome), /^disconnect; disconnect from process 200.*no way back.*; no answer: process 100/);
  broker.errorResumed("disk", "recovered");
  assert.equal(a.last().kind, "error-resume");
  assert.equal(c.last().kind, "error-detected", "not in its mask");
  assert.equal((await broker.error("net", "slot-reset", "nobody there")).vote, "none");
});

test("votes are merged as the kernel merges them", () => {
  assert.equal(worstVote([]), "none");
  assert.equal(worstVote(["none", "recovered"]), "recovered");
  assert.equal(worstVote(["can-recover", "recovered"]), "can-recover");
  assert.equal(worstVote(["can-recover", "disconnect"]), "disconnect");
  assert.equal(worstVote(["disconnect", "need-reset", "none"]), "need-reset");
});

test("late, double and unknown replies are told apart", async () => {
  const { timers, broker, a, b } = setUp();
  broker.opened("disk", alice, noForce);
  broker.opened("net", bob, noForce);
  const outcome = broker.suspend(["disk", "net"], "sleep");
  const { notice } = a.last();
  a.connection.reply(notice, "consent");
  assert.throws(() => a.connection.reply(notice, "refuse"), { code: "NOTICE_ANSWERED" });
  assert.throws(() => a.connection.reply(b.last().notice, "consent"), { code: "NOTICE_UNKNOWN" }, "another's");
  timers.pass(5000);
  assert.throws(() => b.connection.reply(b.heard[0]?.notice ?? -1, "consent"), { code: "NOTICE_ENDED" });
  await outcome;
  void broker.remove("disk", 10, "unplugged");
  assert.throws(() => a.connection.reply(a.last().notice, "consent"), { code: "NOTICE_UNKNOWN" }, "wants no reply");
});

test("a removal stops opens, tells, and ends when the last has closed", async () => {
  const { timers, broker, a } = setUp();
  const first = broker.opened("disk", alice, noForce);
  const second = broker.opened("disk", alice, noForce);
  const outcome = broker.remove("disk", 10_000, "unplugged");
  assert.equal(a.last().kind, "remove");
  assert.equal(a.last().graceMs, 10_000);
  assert.equal(broker.remove("disk", 1, "again"), outcome);
  assert.throws(() => broker.opened("disk", alice, noForce), { code: "FUNCTION_REMOVED" });
  assert.throws(() => broker.returned("disk"), { code: "REMOVAL_PENDING" });
  first[Symbol.dispose]();
  assert.equal(timers.armed, 1);
  second[Symbol.dispose]();
  assert.deepEqual(await outcome, { kind: "remove", function: "disk", forced: [] });
  assert.equal(timers.armed, 0);
  assert.throws(() => broker.checkOpenable("disk"), { code: "FUNCTION_REMOVED" });
  broker.returned("disk");
  broker.opened("disk", alice, noForce);
  assert.equal(outcomeText(await outcome), "closed by all users");
});

test("a removal forces those who stay, after the grace time", async () => {
  const { timers, broker } = setUp();
  const forced: string[] = [];
  const opening = broker.opened("disk", alice, (reason) => {
    forced.push(reason);
    opening[Symbol.dispose]();
  });
  const outcome = broker.remove("disk", 10_000, "unplugged");
  timers.pass(9999);
  assert.deepEqual(forced, []);
  timers.pass(1);
  assert.match(forced.join(), /^the grace time of 10000 ms is over: unplugged$/);
  assert.deepEqual((await outcome).forced, [{ ...alice, function: "disk" }]);
  assert.match(outcomeText(await outcome), /^taken by force: process 100 of uid 1000 at disk$/);
  assert.deepEqual((await broker.remove("net", 5, "nobody there")).forced, []);
});

test("a mask replaces the one before; an empty one ends the registration", async () => {
  const { broker, a } = setUp(["suspend"]);
  broker.opened("disk", alice, noForce);
  a.connection.register("disk", ["power-resume"]);
  assert.equal((await broker.suspend(["disk"], "sleep")).unasked.length, 1);
  broker.powerResumed(["disk"], "awake");
  assert.equal(a.heard.length, 1);
  a.connection.register("disk", []);
  broker.powerResumed(["disk"], "awake");
  assert.equal(a.heard.length, 1);
});

test("who cannot be asked is known at any time, and every change is told", () => {
  const { broker, a } = setUp(["suspend"]);
  const seen: number[] = [];
  const listening = broker.onChange(() => seen.push(broker.unregistered("suspend").length));
  const first = broker.opened("disk", alice, noForce);
  const second = broker.opened("net", { pid: 7, uid: 7 }, noForce);
  a.connection.register("disk", ["remove"]);
  assert.deepEqual(broker.unregistered("suspend"), [
    { ...alice, function: "disk" },
    { pid: 7, uid: 7, function: "net" },
  ]);
  second[Symbol.dispose]();
  a.connection.register("disk", ["suspend"]);
  a.connection[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.deepEqual(seen, [0, 1, 2, 1, 0, 1, 0]);
  listening[Symbol.dispose]();
  broker.opened("disk", bob, noForce);
  assert.equal(seen.length, 7);
});

test("a user may answer, and hang up, while others are being told", async () => {
  const timers = new ManualTimers();
  const broker = new NoticeBroker({ timers });
  const heard: string[] = [];
  const connections = [alice, bob].map((user) => {
    const connection: NoticeConnection = broker.connect(user, ({ notice, kind }) => {
      heard.push(`${user.pid} ${kind}`);
      if (user === alice && kind === "suspend") connection.reply(notice, "refuse");
      if (user === alice && kind === "remove") connections[1]?.[Symbol.dispose]();
    });
    connection.register("disk", ["suspend", "remove"]);
    broker.opened("disk", user, () => undefined);
    return connection;
  });
  assert.equal((await broker.suspend(["disk"], "sleep")).refused.length, 1);
  void broker.remove("disk", 1, "unplugged");
  timers.pass(1);
  assert.deepEqual(heard, ["100 suspend", "100 remove"]);
});

test("the machine's timers are used where none are given", async () => {
  const broker = new NoticeBroker({ suspendReplyMs: 1, errorReplyMs: 1 });
  listening(broker, alice).connection.register("disk", NOTICE_KINDS);
  const opening = broker.opened("disk", alice, () => opening[Symbol.dispose]());
  assert.equal((await broker.suspend(["disk"], "sleep")).silent.length, 1);
  assert.equal((await broker.error("disk", "link-reset", "x")).silent.length, 1);
  assert.equal((await broker.remove("disk", 1, "x")).forced.length, 1);
});

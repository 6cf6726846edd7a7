import assert from "node:assert/strict";
import test from "node:test";
import { NoticeBroker, type NoticeConnection, type SuspendOutcome } from "ring3/notices";
import { MachineSleep } from "./machine-sleep.ts";

/** Two functions, `disk` with one user who answers what `answers` says, and what was heard of questions. */
function scene(answers: ("consent" | "refuse")[]) {
  const notices = new NoticeBroker();
  const outcomes: SuspendOutcome[] = [];
  const heard: string[] = [];
  const sleep = new MachineSleep({
    notices,
    functions: () => ["disk", "card"],
    onOutcome: (outcome) => outcomes.push(outcome),
  });
  const join = (pid: number, fn: string): Disposable => {
    const connection: NoticeConnection = notices.connect({ pid, uid: 1000 }, ({ notice, kind }) => {
      heard.push(`${pid} ${kind}`);
      if (kind === "suspend") connection.reply(notice, answers.shift() ?? "consent");
    });
    connection.register(fn, ["suspend", "power-resume"]);
    return notices.opened(fn, { pid, uid: 1000 }, () => undefined);
  };
  const opening = join(1, "disk");
  return { sleep, outcomes, heard, join, opening };
}

test("who asks during an announced sleep gets the answer that there is; users are asked once", async () => {
  const { sleep, outcomes, heard } = scene(["consent"]);
  const announced = sleep.announced();
  const asked = await sleep.ask();
  assert.ok(asked.allowed);
  assert.equal(asked, await announced);
  assert.equal(await sleep.ask(), asked);
  assert.deepEqual([outcomes.length, heard], [1, ["1 suspend"]]);
  for (let time = 0; time < 2; time++) sleep.over();
  assert.deepEqual(heard, ["1 suspend", "1 power-resume"]);
});

test("who consented to a sleep that nobody announced hears of its end, and nobody of one that never began", async () => {
  const { sleep, heard } = scene(["refuse", "consent"]);
  sleep.over();
  await sleep.ask();
  sleep.over();
  assert.deepEqual(heard, ["1 suspend", "1 power-resume"], "the veto's own");
  await sleep.ask();
  sleep.over();
  assert.deepEqual(heard.slice(2), ["1 suspend", "1 power-resume"]);
});

test("a veto stands until the announced sleep is over, whatever its user would say now", async () => {
  const { sleep, outcomes, opening } = scene(["refuse", "consent"]);
  assert.equal((await sleep.announced()).allowed, false);
  opening[Symbol.dispose]();
  assert.equal((await sleep.ask()).allowed, false);
  sleep.over();
  assert.ok((await sleep.ask()).allowed);
  assert.equal(outcomes.length, 2);
});

test("whoever opens a function after all have consented is asked, and may refuse", async () => {
  const { sleep, heard, join } = scene(["consent", "consent", "refuse"]);
  assert.ok((await sleep.announced()).allowed);
  join(2, "card");
  const { allowed, refused } = await sleep.ask();
  assert.equal(allowed, false);
  assert.deepEqual(
    refused.map(({ pid, function: fn }) => [pid, fn]),
    [[2, "card"]],
  );
  assert.deepEqual(heard, ["1 suspend", "1 suspend", "2 suspend", "1 power-resume", "2 power-resume"]);
});

test("who has closed its function since has consented to nothing that counts", async () => {
  const { sleep, outcomes, opening } = scene(["consent"]);
  await sleep.announced();
  opening[Symbol.dispose]();
  assert.ok((await sleep.ask()).allowed);
  assert.equal(outcomes.length, 1);
});

test("without an announcement each question is a new one, but not two at a time", async () => {
  const { sleep, outcomes } = scene(["refuse", "consent", "consent"]);
  assert.equal((await sleep.ask()).allowed, false);
  const [first, second] = await Promise.all([sleep.ask(), sleep.ask()]);
  assert.ok(first.allowed);
  assert.equal(first, second);
  assert.ok((await sleep.ask()).allowed);
  assert.equal(outcomes.length, 3);
});

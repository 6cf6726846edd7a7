import assert from "node:assert/strict";
import { test } from "node:test";
import { type ErrorVote, NoticeBroker, type NoticeConnection, type NoticeKind } from "ring3/notices";
import { FunctionNotices } from "./function-notices.ts";

const user = { pid: 1, uid: 1000 };

/** A function with one user that votes `votes`, and what comes of it, in order. */
function scene(votes: Partial<Record<NoticeKind, ErrorVote>>, reset: () => Promise<unknown> = async () => undefined) {
  const broker = new NoticeBroker();
  const told: string[] = [];
  const waiting: (() => void)[] = [];
  const tell = (what: string): void => {
    told.push(what);
    for (const wake of waiting.splice(0)) wake();
  };
  const connection: NoticeConnection = broker.connect(user, ({ notice, kind }) => {
    tell(kind);
    const vote = votes[kind];
    if (vote !== undefined) connection.reply(notice, vote);
  });
  connection.register("disk", ["error-detected", "mmio-enabled", "slot-reset", "error-resume"]);
  const notices = new FunctionNotices("disk", broker, {
    emit: (event) => event.type === "fault" && tell(`fault ${event.description}`),
    reset: async () => {
      tell("reset");
      await reset();
    },
    disconnect: async (reason) => tell(`disconnected: ${reason}`),
  });
  const until = async (what: RegExp): Promise<void> => {
    while (!told.some((one) => what.test(one))) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  return { notices, told, until };
}

test("nothing is done to a function before the platform has dealt with its error", async () => {
  const { notices, told, until } = scene({ "error-detected": "need-reset", "slot-reset": "recovered" });
  notices.opened(user);
  notices.error("a link error");
  notices.error("and what follows of it");
  await new Promise<void>((resolve) => setImmediate(resolve));
  assert.deepEqual(told, ["error-detected"]);
  notices.recovered("the link was reset");
  await until(/error-resume/);
  assert.deepEqual(told, ["error-detected", "reset", "slot-reset", "error-resume"]);
  // The next one is another.
  await new Promise<void>((resolve) => setImmediate(resolve));
  notices.error("again");
  assert.equal(told.at(-1), "error-detected");
  notices.recovered("the link was reset");
  await until(/^reset/);
});

test("who can recover is not reset; an error of a function that nobody has is the platform's alone", async () => {
  const { notices, told, until } = scene({ "error-detected": "can-recover", "mmio-enabled": "recovered" });
  notices.error("nobody has it");
  notices.recovered("it was dealt with");
  assert.deepEqual(told, ["error-resume"]);
  told.length = 0;
  notices.opened(user);
  notices.error("an error");
  notices.recovered("it was dealt with");
  await until(/error-resume/);
  assert.deepEqual(told, ["error-detected", "mmio-enabled", "error-resume"]);
});

test("who gives it up loses it at once, and so does everybody where it cannot be reset", async () => {
  const given = scene({ "error-detected": "disconnect" });
  given.notices.opened(user);
  given.notices.error("an error");
  await given.until(/disconnected: it cannot go on after an error: an error/);
  const stuck = scene({ "error-detected": "need-reset" }, () => Promise.reject(new Error("it does not answer")));
  stuck.notices.opened(user);
  stuck.notices.error("an error");
  stuck.notices.recovered("it was dealt with");
  await stuck.until(/disconnected: it could not be reset after an error: it does not answer/);
  assert.deepEqual(stuck.told.slice(0, 3), [
    "error-detected",
    "reset",
    "fault after an error it was not reset: it does not answer",
  ]);
});

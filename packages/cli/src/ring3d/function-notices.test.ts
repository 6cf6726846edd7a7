import assert from "node:assert/strict";
import { test } from "node:test";
import type { ResetMethod } from "ring3";
import { type ErrorVote, NOTICE_KINDS, NoticeBroker, type NoticeConnection, type NoticeKind } from "ring3/notices";
import { FunctionNotices } from "./function-notices.ts";

const user = { pid: 1, uid: 1000 };

interface Resets {
  readonly alone?: () => Promise<ResetMethod>;
  readonly bus?: () => Promise<ResetMethod>;
}

/** A function with one user that votes `votes`, each at its turn, and what comes of it, in order. */
function scene(votes: Partial<Record<NoticeKind, ErrorVote | ErrorVote[]>>, { alone, bus }: Resets = {}) {
  const broker = new NoticeBroker();
  const told: string[] = [];
  const waiting: (() => void)[] = [];
  const tell = (what: string): void => {
    told.push(what);
    for (const wake of waiting.splice(0)) wake();
  };
  const connection: NoticeConnection = broker.connect(user, ({ notice, kind }) => {
    tell(kind);
    const given = votes[kind];
    const vote = Array.isArray(given) ? given.shift() : given;
    if (vote !== undefined) connection.reply(notice, vote);
  });
  connection.register("disk", NOTICE_KINDS);
  const notices = new FunctionNotices("disk", broker, {
    emit: (event) => event.type === "fault" && tell(`fault ${event.description}`),
    reset: async () => {
      tell("reset");
      return alone === undefined ? "flr" : await alone();
    },
    resetBus: async () => {
      tell("reset of the bus");
      if (bus === undefined) throw new Error("somebody else is on its bus");
      return await bus();
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
  const stuck = scene(
    { "error-detected": "need-reset" },
    { alone: () => Promise.reject(new Error("it does not answer")) },
  );
  stuck.notices.opened(user);
  stuck.notices.error("an error");
  stuck.notices.recovered("it was dealt with");
  await stuck.until(/disconnected: it could not be reset after an error: somebody else is on its bus/);
  assert.deepEqual(stuck.told.slice(0, 5), [
    "error-detected",
    "reset",
    "fault after an error its own reset failed: it does not answer",
    "reset of the bus",
    "fault after an error it was not reset: somebody else is on its bus",
  ]);
});

test("a link that the platform has reset is told, in place of registers that can be read, and voted on", async () => {
  const go = scene({ "error-detected": "can-recover", "link-reset": "recovered" });
  go.notices.opened(user);
  go.notices.error("a fatal error");
  go.notices.recovered("it was dealt with", "bus");
  await go.until(/error-resume/);
  assert.deepEqual(go.told, ["error-detected", "link-reset", "error-resume"]);
  // Who needed a reset before needs it still, whatever others say of the link.
  const reset = scene({ "error-detected": "need-reset", "link-reset": "can-recover", "slot-reset": "recovered" });
  reset.notices.opened(user);
  reset.notices.error("a fatal error");
  reset.notices.recovered("it was dealt with", "bus");
  await reset.until(/error-resume/);
  assert.deepEqual(reset.told, ["error-detected", "link-reset", "reset", "slot-reset", "error-resume"]);
  const gone = scene({ "error-detected": "can-recover", "link-reset": "disconnect" });
  gone.notices.opened(user);
  gone.notices.error("a fatal error");
  gone.notices.recovered("it was dealt with", "bus");
  await gone.until(/^disconnected/);
  assert.deepEqual(gone.told.slice(0, 2), ["error-detected", "link-reset"]);
});

test("a reset that goes through the link is told as one, before the reset of the function", async () => {
  const votes = { "error-detected": "need-reset", "link-reset": "need-reset", "slot-reset": "recovered" } as const;
  const { notices, told, until } = scene(votes, { alone: async () => "bus" });
  notices.opened(user);
  notices.error("an error");
  notices.recovered("it was dealt with");
  await until(/error-resume/);
  assert.deepEqual(told, ["error-detected", "reset", "link-reset", "slot-reset", "error-resume"]);
});

test("where a function's own reset fails or does not help, its bus is reset, once", async () => {
  const bus = async (): Promise<ResetMethod> => "bus";
  const helped = scene(
    { "error-detected": "need-reset", "link-reset": "none", "slot-reset": ["need-reset", "recovered"] },
    { bus },
  );
  helped.notices.opened(user);
  helped.notices.error("an error");
  helped.notices.recovered("it was dealt with");
  await helped.until(/error-resume/);
  const both = ["error-detected", "reset", "slot-reset", "reset of the bus", "link-reset", "slot-reset"];
  assert.deepEqual(helped.told, [...both, "error-resume"]);
  const lost = scene({ "error-detected": "need-reset", "link-reset": "none", "slot-reset": "need-reset" }, { bus });
  lost.notices.opened(user);
  lost.notices.error("an error");
  lost.notices.recovered("it was dealt with");
  await lost.until(/^disconnected/);
  assert.deepEqual(lost.told.slice(0, -1), both);
});

test("a reset of the bus for a neighbour is an error to its users; in an error of their own it is a part of that", async () => {
  const votes = {
    "error-detected": "can-recover",
    "link-reset": "none",
    "slot-reset": "recovered",
    "mmio-enabled": "recovered",
  } as const;
  const { notices, told, until } = scene(votes);
  const reset = Promise.resolve("bus" as const);
  await notices.beforeBusReset("nobody has it");
  await notices.afterBusReset(reset, "nobody has it");
  assert.deepEqual(told, []);
  notices.opened(user);
  await notices.beforeBusReset("for the other one");
  assert.deepEqual(told, ["error-detected"]);
  await notices.afterBusReset(reset, "for the other one");
  assert.deepEqual(told, ["error-detected", "link-reset", "slot-reset", "error-resume"]);
  told.length = 0;
  notices.error("of its own");
  await notices.beforeBusReset("for the other one");
  await notices.afterBusReset(reset, "for the other one");
  assert.deepEqual(told, ["error-detected", "link-reset", "slot-reset"]);
  notices.recovered("it was dealt with");
  await until(/error-resume/);
  assert.deepEqual(told.slice(3), ["mmio-enabled", "error-resume"]);
});

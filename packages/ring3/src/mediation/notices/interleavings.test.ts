// Any order of register, reply, open, close, hang up and time: each notice ends exactly once, with the outcome that a plain
// record of what happened leads to.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { Notice } from "./book.ts";
import { NoticeBroker, type NoticeConnection } from "./broker.ts";
import {
  ERROR_STAGES,
  ERROR_VOTES,
  type ErrorVote,
  NOTICE_KINDS,
  type NoticeAnswer,
  type NoticeKind,
  SUSPEND_ANSWERS,
  worstVote,
} from "./kinds.ts";
import { ManualTimers } from "./manual-timers.ts";
import type { FunctionUser, NoticeOutcome } from "./outcome.ts";

const FUNCTIONS = ["disk", "net"] as const;
const USERS = [
  { pid: 1, uid: 1000 },
  { pid: 2, uid: 1000 },
  { pid: 3, uid: 1001 },
];
const GRACE_MS = 7000;

const user = fc.nat({ max: USERS.length - 1 });
const fn = fc.constantFrom(...FUNCTIONS);
// Most want everything, and speak for themselves: otherwise nobody would be asked anything in most runs.
const kinds = fc.oneof({ weight: 3, arbitrary: fc.constant([...NOTICE_KINDS]) }, fc.subarray([...NOTICE_KINDS]));
const step = fc.oneof(
  fc.record({ do: fc.constant("register" as const), user, fn, kinds, pid: fc.option(user) }),
  fc.record({
    do: fc.constant("reply" as const),
    user,
    heard: fc.nat({ max: 5 }),
    answer: fc.constantFrom<NoticeAnswer>(...ERROR_VOTES, ...SUSPEND_ANSWERS, ...SUSPEND_ANSWERS, ...SUSPEND_ANSWERS),
  }),
  fc.record({ do: fc.constant("hang-up" as const), user }),
  fc.record({ do: fc.constant("open" as const), user, fn }),
  fc.record({ do: fc.constant("close" as const), which: fc.nat({ max: 5 }) }),
  fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(1, 1500, 3000, 5000) }),
  fc.record({ do: fc.constant("error" as const), fn, stage: fc.constantFrom(...ERROR_STAGES) }),
  fc.record({ do: fc.constant("suspend" as const), fns: fc.subarray([...FUNCTIONS]) }),
  fc.record({ do: fc.constant("remove" as const), fn }),
  fc.record({ do: fc.constant("return" as const), fn }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

interface Asked {
  readonly notice: Notice;
  readonly listener: number;
  readonly user: FunctionUser;
  fate: "open" | "answered" | "silent" | "closed" | "cut off";
}

/** What the record knows of one notice. */
interface Told {
  readonly kind: NoticeKind;
  readonly functions: readonly string[];
  readonly due: number;
  readonly asked: Asked[];
  readonly accepted: NoticeAnswer[];
  readonly unasked: FunctionUser[];
  readonly outcomes: NoticeOutcome[];
  forced: FunctionUser[];
  over: boolean;
}

class Record {
  readonly timers: ManualTimers = new ManualTimers();
  readonly broker: NoticeBroker = new NoticeBroker({ timers: this.timers });
  readonly connections: NoticeConnection[] = [];
  readonly registered: Map<string, { kinds: Set<NoticeKind>; pid: number }>[] = [];
  readonly heard: Notice[][] = [];
  readonly openings: { user: FunctionUser; handle: Disposable }[] = [];
  readonly told: Told[] = [];
  readonly removed: Set<string> = new Set();
  now = 0;

  constructor() {
    for (const index of USERS.keys()) this.connect(index);
  }

  connect(index: number): void {
    this.heard[index] = [];
    this.registered[index] = new Map();
    this.connections[index] = this.broker.connect(USERS[index] ?? assert.fail(), (notice) => {
      this.heard[index]?.push(notice);
      const told = this.told.at(-1);
      if (notice.answers === undefined || told === undefined) return;
      const { pid } = this.registered[index]?.get(notice.function) ?? assert.fail("told without being registered");
      told.asked.push({
        notice,
        listener: index,
        user: { pid, uid: USERS[index]?.uid ?? -1, function: notice.function },
        fate: "open",
      });
    });
  }

  /** Ends what has to end by now. */
  settle(): void {
    for (const told of this.told) {
      if (told.over) continue;
      if (told.kind === "remove") {
        const left = this.openings.filter(({ user: { function: name } }) => told.functions.includes(name));
        if (left.length === 0) told.over = true;
        else if (told.due <= this.now) {
          told.over = true;
          told.forced = left.map((opening) => opening.user);
        }
        continue;
      }
      const open = told.asked.filter(({ fate }) => fate === "open");
      if (told.due <= this.now) for (const asked of open) asked.fate = "silent";
      const against =
        told.unasked.length > 0 || told.accepted.includes("refuse") || told.asked.some(({ fate }) => fate === "silent");
      told.over = told.asked.every(({ fate }) => fate !== "open") || (told.kind === "suspend" && against);
      if (told.over) for (const asked of open) if (asked.fate === "open") asked.fate = "cut off";
    }
  }

  announce(
    kind: NoticeKind,
    functions: readonly string[],
    withinMs: number,
    start: () => Promise<NoticeOutcome>,
  ): void {
    const covered = (opening: FunctionUser): boolean =>
      this.registered.some((mine, index) => {
        const registration = mine.get(opening.function);
        return (
          registration !== undefined &&
          registration.kinds.has(kind) &&
          registration.pid === opening.pid &&
          USERS[index]?.uid === opening.uid
        );
      });
    const unasked = this.openings
      .map((opening) => opening.user)
      .filter((opening) => kind !== "remove" && functions.includes(opening.function) && !covered(opening));
    const told: Told = {
      kind,
      functions,
      due: this.now + withinMs,
      asked: [],
      accepted: [],
      unasked,
      outcomes: [],
      forced: [],
      over: false,
    };
    this.told.push(told);
    void start().then((outcome) => told.outcomes.push(outcome));
  }
}

function take(record: Record, step: Step): void {
  const { broker } = record;
  switch (step.do) {
    case "register": {
      const pid = USERS[step.pid ?? step.user]?.pid ?? -1;
      record.connections[step.user]?.register(step.fn, step.kinds, pid);
      if (step.kinds.length === 0) record.registered[step.user]?.delete(step.fn);
      else record.registered[step.user]?.set(step.fn, { kinds: new Set(step.kinds), pid });
      return;
    }
    case "reply": {
      const notice = record.heard[step.user]?.at(-1 - step.heard);
      if (notice === undefined) return;
      const told = record.told.find(({ asked }) => asked.some((one) => one.notice === notice));
      const asked = told?.asked.find((one) => one.notice === notice);
      const say = (): void => record.connections[step.user]?.reply(notice.notice, step.answer);
      if (told === undefined || asked === undefined) assert.throws(say, { code: "NOTICE_UNKNOWN" });
      else if (asked.fate === "answered") assert.throws(say, { code: "NOTICE_ANSWERED" });
      else if (asked.fate !== "open") assert.throws(say, { code: "NOTICE_ENDED" });
      else if (notice.answers?.includes(step.answer) !== true) assert.throws(say, { code: "ANSWER_INVALID" });
      else {
        say();
        asked.fate = "answered";
        told.accepted.push(step.answer);
      }
      return;
    }
    case "hang-up": {
      record.connections[step.user]?.[Symbol.dispose]();
      for (const { asked } of record.told) {
        for (const one of asked) if (one.listener === step.user && one.fate === "open") one.fate = "silent";
      }
      record.settle();
      record.connect(step.user);
      return;
    }
    case "open": {
      const who = USERS[step.user] ?? assert.fail();
      if (record.removed.has(step.fn)) {
        assert.throws(() => broker.opened(step.fn, who, () => undefined), { code: "FUNCTION_REMOVED" });
        return;
      }
      const opened = { ...who, function: step.fn };
      for (const told of record.told) {
        if (!told.over && told.kind === "suspend" && told.functions.includes(step.fn)) told.unasked.push(opened);
      }
      record.openings.push({ user: opened, handle: broker.opened(step.fn, who, () => undefined) });
      return;
    }
    case "close": {
      const [opening] = record.openings.splice(step.which, 1);
      if (opening === undefined) return;
      opening.handle[Symbol.dispose]();
      const same = (other: FunctionUser): boolean =>
        other.pid === opening.user.pid && other.uid === opening.user.uid && other.function === opening.user.function;
      if (record.openings.some((other) => same(other.user))) return;
      for (const { asked } of record.told) {
        for (const one of asked) if (one.fate === "open" && same(one.user)) one.fate = "closed";
      }
      return;
    }
    case "pass":
      record.now += step.ms;
      record.timers.pass(step.ms);
      return;
    case "error":
      record.announce(step.stage, [step.fn], 3000, () => broker.error(step.fn, step.stage, "an error"));
      return;
    case "suspend":
      record.announce("suspend", step.fns, 5000, () => broker.suspend(step.fns, "sleep"));
      return;
    case "remove":
      if (record.removed.has(step.fn)) return;
      record.removed.add(step.fn);
      record.announce("remove", [step.fn], GRACE_MS, () => broker.remove(step.fn, GRACE_MS, "unplugged"));
      return;
    case "return": {
      const pending = record.told.some(
        ({ kind, functions, over }) => kind === "remove" && !over && functions[0] === step.fn,
      );
      if (pending) assert.throws(() => broker.returned(step.fn), { code: "REMOVAL_PENDING" });
      else {
        broker.returned(step.fn);
        record.removed.delete(step.fn);
      }
    }
  }
}

/** All users have all functions open and want all notices. */
function everybody(): Step[] {
  return USERS.keys()
    .flatMap((index) =>
      FUNCTIONS.flatMap((name): Step[] => [
        { do: "register", user: index, fn: name, kinds: [...NOTICE_KINDS], pid: null },
        { do: "open", user: index, fn: name },
      ]),
    )
    .toArray();
}

const sorted = (users: readonly FunctionUser[]): string[] =>
  users.map(({ pid, uid, function: name }) => `${pid} ${uid} ${name}`).sort();

function judge(told: Told): void {
  assert.equal(told.outcomes.length, told.over ? 1 : 0, `${told.kind} ended ${told.outcomes.length} times`);
  const [outcome] = told.outcomes;
  if (outcome === undefined) return;
  assert.equal(outcome.kind, told.kind);
  if (outcome.kind === "remove") {
    assert.deepEqual(sorted(outcome.forced), sorted(told.forced));
    return;
  }
  const silent = told.asked.filter(({ fate }) => fate === "silent").map((asked) => asked.user);
  assert.deepEqual(sorted(outcome.silent), sorted(silent));
  assert.deepEqual(sorted(outcome.unasked), sorted(told.unasked));
  if (outcome.kind === "suspend") {
    assert.equal(outcome.refused.length + outcome.consented.length, told.accepted.length);
    assert.equal(outcome.allowed, !told.accepted.includes("refuse") && silent.length + told.unasked.length === 0);
  } else {
    assert.equal(outcome.vote, worstVote(told.accepted as ErrorVote[]));
    assert.deepEqual(
      outcome.votes.map(({ vote }) => vote),
      told.accepted,
    );
  }
}

test("in any interleaving each notice ends exactly once, with the right outcome", async () => {
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 40 }), async (settled, steps) => {
      const record = new Record();
      if (settled) for (const one of everybody()) take(record, one);
      for (const one of steps) {
        take(record, one);
        record.settle();
        // An outcome is there a few turns after what ended it.
        for (let turn = 0; turn < 4; turn++) await Promise.resolve();
        for (const told of record.told) judge(told);
      }
      record.now += GRACE_MS;
      record.timers.pass(GRACE_MS);
      record.settle();
      for (let turn = 0; turn < 4; turn++) await Promise.resolve();
      for (const told of record.told) {
        assert.ok(told.over);
        judge(told);
      }
      assert.equal(record.timers.armed, 0);
    }),
    { numRuns: 2000 },
  );
});

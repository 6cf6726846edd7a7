import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { LineBudget } from "./line-budget.ts";

test("some at once, then a rate; what was left out is told before the next line, and each key is by itself", () => {
  let nowMs = 0;
  const told: [string, number][] = [];
  using budget = new LineBudget((key, count) => told.push([key, count]), { burst: 3, nowMs: () => nowMs });
  const admitted = (key: string, times: number): number =>
    Array.from({ length: times }, () => budget.admits(key)).filter(Boolean).length;
  assert.equal(admitted("a", 10), 3);
  assert.equal(admitted("b", 2), 2);
  assert.deepEqual(told, []);
  nowMs = 999;
  assert.equal(admitted("a", 1), 0);
  nowMs = 1000;
  assert.equal(admitted("a", 5), 1);
  assert.deepEqual(told, [["a", 8]]);
  // A long rest fills the budget and no more.
  nowMs = 1_000_000;
  assert.equal(admitted("a", 10), 3);
  assert.deepEqual(told, [
    ["a", 8],
    ["a", 4],
  ]);
});

test("where nothing follows, what was left out is told after a while", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const told: [string, number][] = [];
  using budget = new LineBudget((key, count) => told.push([key, count]), { burst: 1, nowMs: () => 0 });
  for (let i = 0; i < 5; i++) budget.admits("a");
  t.mock.timers.tick(9_999);
  assert.deepEqual(told, []);
  t.mock.timers.tick(1);
  assert.deepEqual(told, [["a", 4]]);
  budget.admits("a");
  t.mock.timers.tick(10_000);
  assert.deepEqual(told.at(-1), ["a", 1]);
});

test("every line is admitted or told of, and no more are admitted than the budget has", () => {
  const step = fc.record({ key: fc.constantFrom("a", "b", "c"), afterMs: fc.nat({ max: 3000 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 5 }), (steps, burst) => {
      let nowMs = 0;
      let leftOut = 0;
      const budget = new LineBudget((_key, count) => void (leftOut += count), { burst, nowMs: () => nowMs });
      let admitted = 0;
      for (const { key, afterMs } of steps) {
        nowMs += afterMs;
        if (budget.admits(key)) admitted++;
      }
      budget[Symbol.dispose]();
      assert.equal(admitted + leftOut, steps.length);
      assert.ok(admitted <= 3 * burst + (3 * nowMs) / 1000);
    }),
  );
});

test("somebody who makes up keys has one budget for them all in the end", () => {
  using budget = new LineBudget(() => undefined, { burst: 2, nowMs: () => 0 });
  let admitted = 0;
  for (let key = 0; key < 100_000; key++) if (budget.admits(`made up ${key}`)) admitted++;
  assert.ok(admitted < 1100, `${admitted} were admitted`);
});

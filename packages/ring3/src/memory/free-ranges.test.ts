import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FreeRanges } from "./free-ranges.ts";

const UNITS = 64;

/** One boolean per unit: the model that needs no proof. */
function runs(free: readonly boolean[]): [number, number][] {
  const found: [number, number][] = [];
  for (let at = 0; at < free.length; at++) {
    const last = found.at(-1);
    if (!free[at]) continue;
    if (last !== undefined && last[0] + last[1] === at) last[1]++;
    else found.push([at, 1]);
  }
  return found;
}

const placement = fc.record({
  alignment: fc.constantFrom(1, 2, 4, 16),
  low: fc.constantFrom(0, 5, 40),
  high: fc.constantFrom(20, 50, UNITS),
});
const step = fc.oneof(
  fc.record({ do: fc.constant("take" as const), size: fc.integer({ min: 1, max: 12 }), placement }),
  fc.record({ do: fc.constant("takeAt" as const), at: fc.nat(UNITS - 1), size: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ do: fc.constant("give" as const), at: fc.nat(UNITS - 1), size: fc.integer({ min: 1, max: 12 }) }),
);

test("behaves as one flag per unit does, and takes the lowest fit", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const ranges = new FreeRanges();
      const free: boolean[] = Array(UNITS).fill(true);
      ranges.give(0, UNITS);
      for (const action of steps) {
        if (action.do === "take") {
          const { alignment, low, high } = action.placement;
          let expected: number | undefined;
          for (let at = Math.ceil(low / alignment) * alignment; at + action.size <= high; at += alignment) {
            if (free.slice(at, at + action.size).every(Boolean)) {
              expected = at;
              break;
            }
          }
          assert.equal(ranges.take(action.size, action.placement), expected);
          if (expected !== undefined) free.fill(false, expected, expected + action.size);
        } else if (action.do === "takeAt") {
          const inside = action.at + action.size <= UNITS;
          const possible = inside && free.slice(action.at, action.at + action.size).every(Boolean);
          assert.equal(ranges.has(action.at, action.size), possible);
          assert.equal(ranges.takeAt(action.at, action.size), possible);
          if (possible) free.fill(false, action.at, action.at + action.size);
        } else {
          const size = Math.min(action.size, UNITS - action.at);
          if (free.slice(action.at, action.at + size).some(Boolean)) {
            assert.throws(() => ranges.give(action.at, size), RangeError);
          } else {
            ranges.give(action.at, size);
            free.fill(true, action.at, action.at + size);
          }
        }
        const expected = runs(free);
        assert.deepEqual([...ranges], expected);
        assert.equal(ranges.count, expected.length);
        assert.equal(ranges.bytes, free.filter(Boolean).length);
        assert.equal(ranges.longest, Math.max(0, ...expected.map(([, size]) => size)));
      }
    }),
    { numRuns: 300 },
  );
});

test("65,535 pieces: finds the one that is aligned, and joins all again", () => {
  const ranges = new FreeRanges();
  const pieces = 65_535;
  // Every other page is free, shifted so that none is aligned to 8 KiB; the last one is.
  for (let i = 0; i < pieces; i++) ranges.give(i * 16384 + 4096, 4096);
  ranges.give(pieces * 16384, 4096);
  assert.equal(ranges.take(4096, { alignment: 8192, low: 0, high: 2 ** 48 }), pieces * 16384);
  assert.equal(ranges.take(8192, { alignment: 4096, low: 0, high: 2 ** 48 }), undefined);
  for (let i = 0; i < pieces; i++) {
    ranges.give(i * 16384, 4096);
    ranges.give(i * 16384 + 8192, 8192);
  }
  assert.deepEqual([...ranges], [[0, pieces * 16384]]);
});

test("stays exact up to 2^53", () => {
  const ranges = new FreeRanges();
  ranges.give(2 ** 53 - 8192, 8192);
  assert.equal(ranges.take(4096, { alignment: 4096, low: 2 ** 53 - 4096, high: 2 ** 53 }), 2 ** 53 - 4096);
  assert.throws(() => ranges.give(2 ** 53, 4096), RangeError);
  assert.throws(() => ranges.take(0, { alignment: 1, low: 0, high: 1 }), RangeError);
});

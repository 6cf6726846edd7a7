import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { bit, bits, type Field } from "./field.ts";

const field: fc.Arbitrary<Field> = fc
  .nat(31)
  .chain((offset) => fc.integer({ min: 1, max: 32 - offset }).map((width) => bits(offset, width)));
const word = fc.integer({ min: 0, max: 0xffff_ffff });

test("get, of, set and test agree on any word", () => {
  fc.assert(
    fc.property(field, word, word, (a, current, other) => {
      const value = a.get(other);
      assert.ok(value >= 0 && value < 2 ** a.width);
      assert.equal(a.get(a.of(value)), value);
      const changed = a.set(current, value);
      assert.equal(a.get(changed), value);
      assert.equal((changed & ~a.mask) >>> 0, (current & ~a.mask) >>> 0);
      assert.equal(a.set(changed, a.get(current)), current);
      assert.equal(a.test(current), a.get(current) !== 0);
      assert.ok(changed >= 0 && a.of(value) >= 0);
    }),
  );
});

test("the whole word and its highest bit stay unsigned", () => {
  assert.equal(bits(0, 32).mask, 0xffff_ffff);
  assert.equal(bits(0, 32).of(0xffff_ffff), 0xffff_ffff);
  assert.equal(bit(31).of(1), 0x8000_0000);
  assert.equal(bit(31).set(0, 1), 0x8000_0000);
  assert.equal(bits(28, 4).get(0xa000_0000), 0xa);
});

test("fields that do not fit, and values that do not, are refused", () => {
  for (const [offset, width] of [
    [32, 1],
    [0, 33],
    [31, 2],
    [-1, 1],
    [0, 0],
    [0.5, 1],
    [0, 1.5],
  ] as const) {
    assert.throws(() => bits(offset, width), RangeError);
  }
  for (const value of [4, -1, 0.5, Number.NaN]) assert.throws(() => bits(3, 2).of(value), RangeError);
});

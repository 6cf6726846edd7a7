// The state codec: everything comes back, and nothing else gets in.
// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { throwsCode } from "../../../../tests/contract/fixture.ts";
import { isRing3Error } from "../binary/error.ts";
import { decodeState, encodeState, type StateRecord, type StateValue } from "./state.ts";
import { StateFields } from "./state-fields.ts";

const { record: anyRecord } = fc.letrec<{ value: StateValue; record: StateRecord }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.double(),
    fc.bigInt(),
    fc.string({ unit: "binary" }),
    fc.boolean(),
    fc.uint8Array(),
    tie("record"),
    fc.array(tie("value"), { maxLength: 4 }),
  ),
  record: fc.dictionary(
    fc.string().filter((key) => key !== "__proto__"),
    tie("value"),
    { maxKeys: 5, noNullPrototype: true },
  ),
}));

test("any record comes back as it was", () => {
  fc.assert(fc.property(anyRecord, (record) => assert.deepEqual(decodeState(encodeState(record)), record)));
});

test("whatever is changed, decoding gives a record or STATE_INVALID, and never anything else", () => {
  const mutation = fc.tuple(fc.nat(), fc.nat(255));
  fc.assert(
    fc.property(anyRecord, fc.array(mutation, { maxLength: 6 }), fc.nat(), (record, mutations, cut) => {
      const bytes = encodeState(record);
      for (const [at, value] of mutations) bytes[at % bytes.length] = value;
      const part = bytes.subarray(0, cut % 3 === 0 ? cut % (bytes.length + 1) : bytes.length);
      try {
        decodeState(part);
      } catch (error) {
        assert.ok(isRing3Error(error, "STATE_INVALID"), String(error));
      }
    }),
    { numRuns: 1000 },
  );
  throwsCode(() => decodeState(new Uint8Array()), "STATE_INVALID");
  throwsCode(() => decodeState(Uint8Array.of(...encodeState({ a: 1 }), 0)), "STATE_INVALID");
});

test("what no state can hold is refused when it is made", () => {
  let deep: StateValue = 1;
  for (let i = 0; i < 100; i++) deep = [deep];
  throwsCode(() => encodeState({ deep }), "STATE_INVALID");
  throwsCode(() => encodeState({ nothing: null as never }), "STATE_INVALID");
  throwsCode(() => encodeState({ missing: undefined as never }), "STATE_INVALID");
  throwsCode(() => encodeState(JSON.parse('{"__proto__": 1}')), "STATE_INVALID");
});

test("fields are checked for kind and limits, by their path", () => {
  const fields = new StateFields(
    { count: 3, wide: 5n, name: "x", on: true, bytes: Uint8Array.of(1), inner: { list: [{ a: 1 }], words: [1, 2] } },
    "disk",
  );
  assert.equal(fields.number("count", { maximum: 3 }), 3);
  assert.equal(fields.bigint("wide"), 5n);
  assert.equal(fields.string("name"), "x");
  assert.equal(fields.boolean("on"), true);
  assert.deepEqual(fields.bytes("bytes", 1), Uint8Array.of(1));
  assert.deepEqual(fields.record("inner").numbers("words", 2), [1, 2]);
  assert.equal(fields.record("inner").records("list")[0]?.number("a"), 1);
  assert.equal(fields.has("toString"), false);
  for (const act of [
    () => fields.number("count", { maximum: 2 }),
    () => fields.number("wide"),
    () => fields.number("absent"),
    () => fields.bigint("wide", 4n),
    () => fields.string("toString"),
    () => fields.boolean("count"),
    () => fields.bytes("bytes", 2),
    () => fields.record("bytes"),
    () => fields.record("inner").numbers("words", 1),
    () => fields.record("inner").list("words", 1),
    () => fields.record("inner").records("words"),
  ]) {
    throwsCode(act, "STATE_INVALID");
  }
  assert.throws(() => fields.record("inner").records("list")[0]?.number("b"), /disk\.inner\.list\[0\]\.b is missing/);
});

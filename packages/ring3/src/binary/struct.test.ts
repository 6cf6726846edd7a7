import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error, Ring3Error } from "./error.ts";
import { hexdump } from "./hexdump.ts";
import { array, ascii, bytes, i32, struct, u8, u16, u32, u64, u128 } from "./struct.ts";

const Inner = struct("Inner", 8, { low: [0, u32], high: [4, i32] });
const Outer = struct("Outer", 64, {
  flags: [0, u8],
  count: [2, u16],
  inner: [4, Inner],
  wide: [16, u64],
  words: [24, array(u16, 3)],
  raw: [32, bytes(4)],
  name: [36, ascii(8)],
  counter: [48, u128],
});

const plain = { noNullPrototype: true } as const;
const inner = fc.record(
  { low: fc.integer({ min: 0, max: 0xffff_ffff }), high: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) },
  plain,
);
const members = {
  flags: fc.nat(0xff),
  count: fc.nat(0xffff),
  inner,
  wide: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  words: fc.array(fc.nat(0xffff), { minLength: 3, maxLength: 3 }),
  raw: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  name: fc.stringMatching(/^[!-~]{0,8}$/),
  counter: fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }),
};
const value = fc.record(members, plain);

test("what is encoded decodes to itself, at any offset", () => {
  fc.assert(
    fc.property(value, fc.nat(7), (sample, offset) => {
      const encoded = Outer.bytes(sample);
      assert.equal(encoded.length, 64);
      const placed = new Uint8Array(80).fill(0xee);
      placed.set(encoded, offset);
      assert.deepEqual(Outer.from(placed, offset), sample);
      assert.deepEqual(Outer.bytes(Outer.from(encoded)), encoded);
    }),
  );
});

test("little endian, at the declared offsets, absent members zero", () => {
  const encoded = Outer.bytes({ count: 0x1234, inner: { low: 0xaabb_ccdd, high: -2 }, name: "ab" });
  assert.equal(hexdump(encoded.subarray(0, 16)), "00: 00 00 34 12 dd cc bb aa fe ff ff ff 00 00 00 00");
  assert.equal(hexdump(encoded.subarray(32, 48), 0x20), "20: 00 00 00 00 61 62 20 20 20 20 20 20 00 00 00 00");
  assert.deepEqual(Outer.offsets, {
    flags: 0,
    count: 2,
    inner: 4,
    wide: 16,
    words: 24,
    raw: 32,
    name: 36,
    counter: 48,
  });
});

test("decoded bytes are a copy", () => {
  const source = Outer.bytes({ raw: Uint8Array.of(1, 2, 3, 4) });
  const { raw } = Outer.from(source);
  source.fill(0xff);
  assert.deepEqual([...raw], [1, 2, 3, 4]);
});

test("text: cut at NUL, blanks trimmed, what is not ASCII shown as ? and never written", () => {
  const Text = struct("Text", 6, { text: [0, ascii(6)] });
  const decode = (...codes: number[]): string => Text.from(Uint8Array.from(codes)).text;
  assert.equal(decode(0x61, 0x20, 0x62, 0x20, 0x20, 0x20), "a b");
  assert.equal(decode(0x61, 0x00, 0x62, 0x63, 0x64, 0x65), "a");
  assert.equal(decode(0x07, 0xe9, 0x7f, 0x61, 0x20, 0x20), "???a");
  assert.throws(() => Text.bytes({ text: "1234567" }), RangeError);
  assert.throws(() => Text.bytes({ text: "é" }), RangeError);
  assert.deepEqual([...struct("Z", 3, { text: [0, ascii(3, "\0")] }).bytes({ text: "a" })], [0x61, 0, 0]);
});

test("too few bytes are an error that counts them", () => {
  for (const [length, offset] of [
    [63, 0],
    [64, 1],
    [64, 65],
    [64, -1],
  ] as const) {
    assert.throws(() => Outer.from(new Uint8Array(length), offset), { code: "STRUCT_TRUNCATED" });
  }
  assert.throws(() => Outer.bytes({ raw: new Uint8Array(5) }), RangeError);
  assert.throws(() => Outer.bytes({ words: [1, 2, 3, 4] }), RangeError);
  assert.throws(() => struct("Bad", 4, { wide: [0, u64] }), /Bad\.wide lies outside its 4 bytes/);
});

test("a view into a larger buffer is decoded from its own start", () => {
  const buffer = new Uint8Array(100);
  buffer.set(Inner.bytes({ low: 7, high: 9 }), 40);
  assert.deepEqual(Inner.from(buffer.subarray(40, 48)), { low: 7, high: 9 });
});

test("errors carry their code, errno, call and cause", () => {
  const cause = new Error("below");
  const error = new Ring3Error("GROUP_NOT_VIABLE", "bind the whole group", { errno: "EPERM", call: "ioctl", cause });
  assert.equal(error.message, "GROUP_NOT_VIABLE: bind the whole group");
  assert.deepEqual([error.name, error.errno, error.call, error.cause], ["Ring3Error", "EPERM", "ioctl", cause]);
  assert.ok(isRing3Error(error, "GROUP_NOT_VIABLE"));
  assert.ok(!isRing3Error(error, "OTHER") && !isRing3Error(cause) && isRing3Error(error));
  assert.ok(!("cause" in new Ring3Error("X", "y")));
});

test("hexdump: sixteen bytes a line, offsets from where the bytes lie", () => {
  assert.equal(hexdump(new Uint8Array(0)), "");
  assert.equal(
    hexdump(
      Uint8Array.from({ length: 17 }, (_, i) => i),
      0x100,
      3,
    ).split("\n")[1],
    "110: 10",
  );
});

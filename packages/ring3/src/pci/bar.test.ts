// BARs: PCIe 6.0, section 7.5.1.2.1. Sizes are what reads back after all ones were written.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { barSize, decodeBars, romSize } from "./bar.ts";

test("sizes of every kind", () => {
  assert.equal(barSize(0), 0);
  assert.equal(barSize(0xffff_ffff), 0);
  assert.equal(barSize(0xffff_f000), 4096);
  assert.equal(barSize(0xffff_fff8), 16);
  assert.equal(barSize(0x8000_0000), 2 ** 31);
  assert.equal(barSize(0xffff_ffe1), 32);
  assert.equal(barSize(0x0000_ff01), 256);
  assert.equal(barSize(0xffff_c004, 0xffff_ffff), 16384);
  assert.equal(barSize(0x0000_000c, 0xffff_fffe), 2 ** 33);
  assert.equal(barSize(0x0000_000c, 0x8000_0000), 2 ** 63);
  assert.equal(romSize(0xfffe_0001), 2 ** 17);
  assert.equal(romSize(0), 0);
  assert.equal(romSize(0xffff_ffff), 0);
});

test("a memory BAR of any size gives that size back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 4, max: 63 }), fc.boolean(), (log, prefetchable) => {
      const mask = BigInt.asUintN(64, ~(2n ** BigInt(log) - 1n)) | (prefetchable ? 8n : 0n);
      assert.equal(barSize(Number((mask | 4n) & 0xffff_ffffn), Number(mask >> 32n)), 2 ** log);
      if (log < 32) assert.equal(barSize(Number(mask & 0xffff_ffffn)), 2 ** log);
    }),
  );
});

test("a 64-bit BAR takes the next register, wherever it is", () => {
  const bars = decodeBars([0xfe00_0000, 0xf000_000c, 0x0000_00ff, 0xe001, 0x0004, 0x0001]);
  assert.deepEqual(
    bars.map(({ kind, prefetchable, address }) => [kind, prefetchable, address]),
    [
      ["memory32", false, 0xfe00_0000n],
      ["memory64", true, 0xff_f000_0000n],
      ["none", false, 0n],
      ["io", false, 0xe000n],
      ["memory64", false, 0x1_0000_0000n],
      ["none", false, 0n],
    ],
  );
});

test("what a BAR cannot be is said", () => {
  assert.match(decodeBars([0, 0, 0, 0, 0, 0xf000_0004])[5]?.problem ?? "", /no register for its upper half/);
  assert.match(decodeBars([0xf000_0006])[0]?.problem ?? "", /reserved memory type/);
  assert.match(decodeBars([0xffff_ffff])[0]?.problem ?? "", /all ones/);
  assert.equal(decodeBars(Array.from({ length: 9 }, () => 0)).length, 6);
});

// The walks on good, odd and hostile config spaces: they end, never throw, and say what was wrong.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { readBars } from "./bar.ts";
import { readSerialNumber } from "./capabilities/device-serial-number.ts";
import { msiVectors } from "./capabilities/msi.ts";
import { readMsiXLayout } from "./capabilities/msi-x.ts";
import { readResizableBars } from "./capabilities/resizable-bar.ts";
import { readVirtualFunctions } from "./capabilities/single-root-io-virtualization.ts";
import { findDesignated } from "./capabilities/vendor-specific.ts";
import { bytesConfigAccess, ConfigSpace } from "./config-space.ts";
import { readExpress } from "./express.ts";
import { identify } from "./identification.ts";

function space(size: number, content: Readonly<Record<number, readonly number[]>>): ConfigSpace {
  const bytes = new Uint8Array(size);
  bytes.set([0x86, 0x80, 0x00, 0x10, 0, 0, 0x10, 0]);
  for (const [offset, values] of Object.entries(content)) bytes.set(values, Number(offset));
  return new ConfigSpace(bytesConfigAccess(bytes));
}

const offsets = (config: ConfigSpace): number[] => config.capabilities().map((entry) => entry.offset);
const problem = (config: ConfigSpace, kind: "standard" | "extended" = "standard"): string =>
  config.walk(kind).problems.join("; ");

test("a list in any order, ended by a null pointer", () => {
  const config = space(256, { 0x34: [0x80], 0x80: [0x05, 0x40], 0x40: [0x01, 0xf8], 0xf8: [0x11, 0x00] });
  assert.deepEqual(offsets(config), [0x80, 0x40, 0xf8]);
  assert.equal(problem(config), "");
});

test("without the status bit there is no list", () => {
  const config = space(256, { 0x06: [0x00], 0x34: [0x40], 0x40: [0x01, 0x00] });
  assert.deepEqual(config.walk("standard"), { entries: [], problems: [] });
});

test("loops end, wherever they lead back to", () => {
  const self = space(256, { 0x34: [0x40], 0x40: [0x01, 0x40] });
  assert.deepEqual(offsets(self), [0x40]);
  assert.match(problem(self), /loops.*back to 0x40/);
  const far = space(256, { 0x34: [0x40], 0x40: [0x01, 0x50], 0x50: [0x05, 0x60], 0x60: [0x11, 0x50] });
  assert.deepEqual(offsets(far), [0x40, 0x50, 0x60]);
  assert.match(problem(far), /loops.*back to 0x50/);
});

test("pointers into the header, with low bits set, and past the end of a dump", () => {
  const low = space(256, { 0x34: [0x40], 0x40: [0x01, 0x3c] });
  assert.deepEqual(offsets(low), [0x40]);
  assert.match(problem(low), /leads to 0x3c, inside the header/);
  const unaligned = space(256, { 0x34: [0x43], 0x40: [0x01, 0x00] });
  assert.deepEqual(offsets(unaligned), [0x40]);
  assert.match(problem(unaligned), /low bits should be 0/);
  const cut = space(64, { 0x34: [0x40] });
  assert.deepEqual(offsets(cut), []);
  assert.match(problem(cut), /beyond the 64 bytes/);
  assert.match(problem(space(16, {})), /less than a header/);
});

test("a function that is gone reads as ones: no entries, one problem", () => {
  const config = new ConfigSpace(bytesConfigAccess(new Uint8Array(4096).fill(0xff)));
  assert.equal(config.isPresent(), false);
  assert.match(problem(config), /all ones/);
  assert.deepEqual(config.extendedCapabilities(), []);
  const half = space(256, { 0x34: [0x40], 0x40: [0x01, 0x50], 0x50: [0xff, 0xff] });
  assert.deepEqual(offsets(half), [0x40]);
  assert.match(problem(half), /0x50 reads as all ones/);
});

test("a virtual function whose ids read FFFF is present all the same", () => {
  const config = space(256, {
    0x00: [0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x10, 0x00],
    0x34: [0x40],
    0x40: [0x11, 0x00],
  });
  assert.equal(config.isPresent(), true);
  assert.deepEqual(offsets(config), [0x40]);
});

test("a CardBus bridge keeps its pointer elsewhere; an unknown header has none", () => {
  const cardbus = space(256, { 0x0e: [0x02], 0x14: [0xa0], 0x34: [0x40], 0xa0: [0x01, 0x00] });
  assert.deepEqual(offsets(cardbus), [0xa0]);
  const unknown = space(256, { 0x0e: [0x05], 0x34: [0x40] });
  assert.match(problem(unknown), /header type 0x5 is unknown/);
});

test("the extended list: placeholder first, versions, loops, low pointers", () => {
  const hidden = space(4096, { 0x100: [0x00, 0x00, 0x00, 0x14], 0x140: [0x03, 0x00, 0x02, 0x00] });
  assert.deepEqual(
    hidden.extendedCapabilities().map((entry) => [entry.offset, entry.id, entry.version]),
    [
      [0x100, 0, 0],
      [0x140, 3, 2],
    ],
  );
  const loop = space(4096, { 0x100: [0x01, 0x00, 0x01, 0x14], 0x140: [0x03, 0x00, 0x01, 0x10] });
  assert.equal(loop.extendedCapabilities().length, 2);
  assert.match(problem(loop, "extended"), /loops.*back to 0x100/);
  const low = space(4096, { 0x100: [0x01, 0x00, 0x01, 0x04] });
  assert.match(problem(low, "extended"), /below the extended area/);
  const cut = space(1024, { 0x100: [0x01, 0x00, 0x01, 0x40] });
  assert.match(problem(cut, "extended"), /0x400 lies beyond the 1024 bytes/);
  const empty = space(4096, { 0x100: [0x01, 0x00, 0x01, 0x40] });
  assert.match(problem(empty, "extended"), /0x100 leads to 0x400, which is empty/);
  assert.deepEqual(space(256, {}).walk("extended"), { entries: [], problems: [] });
  const ones = space(4096, { 0x100: [0xff, 0xff, 0xff, 0xff] });
  assert.deepEqual(ones.walk("extended"), { entries: [], problems: [] });
});

/** Bytes that look like a config space more often than chance would have it. */
const anySpace = fc
  .record({
    size: fc.constantFrom(0, 3, 16, 63, 64, 68, 255, 256, 257, 1024, 4096),
    noise: fc.uint8Array({ minLength: 64, maxLength: 64 }),
    seeds: fc.array(fc.tuple(fc.nat({ max: 4095 }), fc.nat({ max: 255 })), { maxLength: 60 }),
    pointers: fc.array(fc.tuple(fc.nat({ max: 63 }), fc.nat({ max: 0x15 }), fc.nat({ max: 255 })), { maxLength: 30 }),
    extended: fc.array(fc.tuple(fc.nat({ max: 1023 }), fc.nat({ max: 0x36 }), fc.nat({ max: 4095 })), {
      maxLength: 30,
    }),
    list: fc.boolean(),
    type: fc.constantFrom(0, 0, 1, 2, 3, 0x7f, 0x80, 0xff),
  })
  .map(({ size, noise, seeds, pointers, extended, list, type }) => {
    const bytes = new Uint8Array(4096);
    bytes.set(noise);
    for (const [at, value] of seeds) bytes[at] = value;
    for (const [slot, id, next] of pointers) bytes.set([id, next], slot * 4);
    for (const [slot, id, next] of extended) {
      const word = (id | (1 << 16) | (next << 20)) >>> 0;
      if (slot >= 64) new DataView(bytes.buffer).setUint32(slot * 4, word, true);
    }
    if (list) bytes[0x06] = 0x10;
    bytes[0x0e] = type;
    return bytes.slice(0, size);
  });

test("no bytes make a walk throw, repeat an entry or leave config space", () => {
  fc.assert(
    fc.property(anySpace, (bytes) => {
      const config = new ConfigSpace(bytesConfigAccess(bytes));
      for (const kind of ["standard", "extended"] as const) {
        const { entries } = config.walk(kind);
        assert.ok(entries.length <= (kind === "standard" ? 48 : 960));
        assert.equal(new Set(entries.map((entry) => entry.offset)).size, entries.length);
        for (const entry of entries) {
          assert.equal(entry.kind, kind);
          assert.equal(entry.offset % 4, 0);
          assert.ok(entry.offset >= (kind === "standard" ? 0x40 : 0x100) && entry.offset + 4 <= bytes.length);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test("no bytes of at least a header make a decoder throw", () => {
  const whole = anySpace.filter((bytes) => bytes.length >= 64);
  fc.assert(
    fc.property(whole, (bytes) => {
      const config = new ConfigSpace(bytesConfigAccess(bytes));
      for (const decode of [
        identify,
        readBars,
        readExpress,
        readMsiXLayout,
        msiVectors,
        readResizableBars,
        readSerialNumber,
        readVirtualFunctions,
      ]) {
        decode(config);
      }
      findDesignated(config, 0x1e98, 8);
    }),
    { numRuns: 1000 },
  );
});

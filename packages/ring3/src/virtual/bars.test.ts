// One BAR: which of the model's handlers sees what, at every width, alignment and length.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Arena } from "../memory/arena.ts";
import { memoryRanges } from "./bar-areas.ts";
import { type BarModel, VirtualBar } from "./bars.ts";
import type { BarDeclaration } from "./declaration.ts";
import { MsixTable } from "./msix-table.ts";

const arena = Arena.create({ initialBytes: 2 ** 20 });

/** A model over bytes that writes down each access. */
function setUp(
  widths: readonly (1 | 2 | 4 | 8)[],
  declaration: Partial<BarDeclaration> = {},
): { bar: VirtualBar; log: string[]; store: Uint8Array } {
  const log: string[] = [];
  const store = Uint8Array.from({ length: 256 }, (_, i) => i);
  const view = new DataView(store.buffer);
  const there = widths.reduce<number>((sum, width) => sum | width, 0);
  const seen = <T>(name: string, at: number, value: T): T => {
    log.push(`${name} ${at}`);
    return value;
  };
  const model: BarModel = {
    reads: () => there,
    writes: () => there,
    read8: (_, at) => seen("r8", at, view.getUint8(at)),
    read16: (_, at) => seen("r16", at, view.getUint16(at, true)),
    // Signed on purpose: what a model computes with | has a sign.
    read32: (_, at) => seen("r32", at, view.getInt32(at % 256, true)),
    read64: (_, at) => seen("r64", at, view.getBigInt64(at, true)),
    write8: (_, at, value) => seen("w8", at, view.setUint8(at, value)),
    write16: (_, at, value) => seen("w16", at, view.setUint16(at, value, true)),
    write32: (_, at, value) => seen("w32", at, view.setUint32(at, value, true)),
    write64: (_, at, value) => seen("w64", at, view.setBigUint64(at, value, true)),
  };
  const bar = new VirtualBar(0, {
    declaration: { size: 256, ...declaration },
    arena: () => arena,
    model,
    msix: undefined,
  });
  return { bar, log, store };
}

describe("handlers", () => {
  test("a narrower read takes lanes of a wider handler", () => {
    const { bar, log } = setUp([4]);
    assert.equal(bar.read(7, 1), 7);
    assert.equal(bar.read(6, 2), 0x0706);
    assert.equal(bar.read(0xfc, 4), 0xfffe_fdfc);
    assert.deepEqual(log, ["r32 4", "r32 4", "r32 252"]);
    const wide = setUp([8]);
    assert.equal(wide.bar.read(15, 1), 15);
    assert.equal(wide.bar.read(12, 4), 0x0f0e_0d0c);
    assert.equal(wide.bar.read64(0xf8), 0xfffe_fdfc_fbfa_f9f8n);
    assert.deepEqual(wide.log, ["r64 8", "r64 8", "r64 248"]);
  });

  test("a wider access is several narrower ones, lowest first", () => {
    const { bar, log } = setUp([2]);
    assert.equal(bar.read64(8), 0x0f0e_0d0c_0b0a_0908n);
    bar.write(4, 4, 0x8765_4321);
    bar.write64(16, 0x1122_3344_5566_7788n);
    assert.deepEqual(log.splice(0), [
      "r16 8",
      "r16 10",
      "r16 12",
      "r16 14",
      "w16 4",
      "w16 6",
      "w16 16",
      "w16 18",
      "w16 20",
      "w16 22",
    ]);
    assert.equal(bar.read(4, 4), 0x8765_4321);
    assert.equal(bar.read64(16), 0x1122_3344_5566_7788n);
  });

  test("a narrower write is dropped, or merged where the declaration says so", () => {
    const dropping = setUp([4]);
    dropping.bar.write(5, 1, 0xaa);
    dropping.bar.write(6, 2, 0xaaaa);
    assert.deepEqual(dropping.log, []);
    const merging = setUp([4], { narrowWrites: "merge" });
    merging.bar.write(5, 1, 0xaa);
    merging.bar.write(6, 2, 0xbbcc);
    assert.deepEqual(merging.log, ["r32 4", "w32 4", "r32 4", "w32 4"]);
    assert.equal(merging.bar.read(4, 4), 0xbbcc_aa04);
    const wide = setUp([8], { narrowWrites: "merge" });
    wide.bar.write(0xff, 1, 0x11);
    wide.bar.write(0xf8, 4, 0x2233_4455);
    assert.equal(wide.bar.read64(0xf8), 0x11fe_fdfc_2233_4455n);
  });

  test("a width that is not listed reads ones and is dropped; longer accesses use those that are", () => {
    const { bar, log } = setUp([4, 8], { widths: [4] });
    assert.equal(bar.read(0, 1), 0xff);
    assert.equal(bar.read(0, 2), 0xffff);
    assert.equal(bar.read64(0), 0xffff_ffff_ffff_ffffn);
    bar.write64(0, 0n);
    bar.write(0, 2, 0);
    assert.deepEqual(log, []);
    const target = new Uint8Array(16);
    bar.readInto(8, target);
    assert.deepEqual(log, ["r32 8", "r32 12", "r32 16", "r32 20"]);
    assert.deepEqual(
      [...target],
      Array.from({ length: 16 }, (_, i) => i + 8),
    );
  });

  test("a BAR without handlers reads ones", () => {
    const { bar } = setUp([]);
    assert.equal(bar.read(0, 4), 0xffff_ffff);
    assert.equal(bar.read(1, 1), 0xff);
    assert.equal(bar.read64(0), 0xffff_ffff_ffff_ffffn);
    bar.write(0, 4, 1);
    bar.write64(0, 1n);
  });

  test("any run of bytes is read and written as one would expect, whatever the model's width", () => {
    const run = fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 40 }));
    const width = fc.constantFrom<1 | 2 | 4 | 8>(1, 2, 4, 8);
    fc.assert(
      fc.property(width, run, fc.infiniteStream(fc.nat(255)), (one, [at, count], bytes) => {
        const { bar, store } = setUp([one], { narrowWrites: "merge" });
        const size = Math.min(count, 256 - at);
        const source = Uint8Array.from({ length: size }, () => bytes.next().value as number);
        const expected = store.slice();
        expected.set(source, at);
        bar.writeFrom(at, source);
        assert.deepEqual(store, expected);
        const target = new Uint8Array(size);
        bar.readInto(at, target);
        assert.deepEqual(target, source);
      }),
    );
  });
});

describe("memory", () => {
  test("takes every width, and the arena shows it", () => {
    const { bar, log } = setUp([4], { size: 0x4000, memory: [{ offset: 0x1000, size: 0x1000 }] });
    const [area] = bar.areas;
    assert.ok(area !== undefined);
    bar.write64(0x1008, 0x8877_6655_4433_2211n);
    bar.write(0x1010, 4, 0xffff_fffe);
    bar.write(0x1014, 2, 0xabcd);
    bar.write(0x1016, 1, 0xef);
    assert.deepEqual(
      [...area.range.bytes.subarray(8, 24)],
      [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0xfe, 0xff, 0xff, 0xff, 0xcd, 0xab, 0xef, 0],
    );
    assert.equal(bar.read64(0x1008), 0x8877_6655_4433_2211n);
    assert.equal(bar.read(0x1010, 4), 0xffff_fffe);
    assert.equal(bar.read(0x1014, 2), 0xabcd);
    assert.equal(bar.read(0x1016, 1), 0xef);
    assert.deepEqual(log, []);
    // An access across the area's end: memory below, the model above.
    const target = new Uint8Array(8);
    bar.write(0x1000, 4, 0x0403_0201);
    bar.readInto(0xffc, target);
    assert.deepEqual(log, ["r32 4092"]);
    assert.deepEqual([...target], [0xfc, 0xfd, 0xfe, 0xff, 1, 2, 3, 4]);
    bar.clear();
    assert.equal(bar.read(0x1010, 4), 0);
    bar.dispose();
  });

  test("grows and shrinks with a resizable BAR, and keeps what fits", () => {
    const { bar } = setUp([], { size: 0x2000, memory: true });
    bar.write(0xffc, 4, 1);
    bar.write(0x1ffc, 4, 2);
    bar.resize(0x8000);
    assert.deepEqual(
      bar.areas.map(({ offset, size }) => [offset, size]),
      [[0, 0x8000]],
    );
    assert.deepEqual([bar.read(0xffc, 4), bar.read(0x1ffc, 4), bar.read(0x7ffc, 4)], [1, 2, 0]);
    bar.resize(0x1000);
    assert.deepEqual([bar.size, bar.read(0xffc, 4)], [0x1000, 1]);
    bar.dispose();
  });

  test("pages of the MSI-X structures are no memory", () => {
    const table = new MsixTable(2, () => undefined);
    const msix = {
      table,
      tablePlace: { bar: 0, offset: 0x2800, size: 32 },
      pendingPlace: { bar: 0, offset: 0x4000, size: 8 },
    };
    assert.deepEqual(memoryRanges(0, 0x8000, true, msix), [
      { offset: 0, size: 0x2000 },
      { offset: 0x3000, size: 0x1000 },
      { offset: 0x5000, size: 0x3000 },
    ]);
    assert.deepEqual(memoryRanges(1, 0x8000, true, msix), [{ offset: 0, size: 0x8000 }]);
    assert.deepEqual(memoryRanges(0, 0x2000, [{ offset: 0x1000, size: 0x4000 }], msix), [
      { offset: 0x1000, size: 0x1000 },
    ]);
  });
});

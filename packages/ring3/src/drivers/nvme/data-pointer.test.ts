// Laws of data pointers: what the controller would access is exactly what was given, byte for byte, for PRP and SGL.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FakeFunction } from "../../../../../tests/fakes/fake-function.ts";
import { dataSegments } from "../../../../../tests/fakes/fake-nvme-data.ts";
import { DataPointers, type DataSegment, listBytesFor } from "./data-pointer.ts";

const PAGE = 4096;

function pointers(kind: "prp" | "sgl", maxTransferBytes: number, slots = 3) {
  const fn = new FakeFunction();
  fn.busMaster = true;
  const slotBytes = listBytesFor(maxTransferBytes, PAGE);
  const buffer = fn.dma.allocate(slotBytes * slots);
  const lists = { words: buffer.words, base: 0, iova: buffer.iova, slotBytes };
  return { fn, data: new DataPointers(kind, lists, PAGE), command: new Uint32Array(32), buffer, slotBytes };
}

function joined(segments: readonly DataSegment[]): DataSegment[] {
  const result: { iova: number; size: number }[] = [];
  for (const { iova, size } of segments) {
    const last = result.at(-1);
    if (last !== undefined && last.iova + last.size === iova) last.size += size;
    else result.push({ iova, size });
  }
  return result;
}

test("PRP: one segment at any place and of any size up to the limit", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 0, max: 2 ** 46 }),
      fc.integer({ min: 1, max: 1100 }),
      fc.integer({ min: 0, max: 2 }),
      (pages, place, quarters, slot) => {
        const max = pages * 512 * 1024;
        const { fn, data, command } = pointers("prp", max);
        const segment = { iova: place * 4, size: Math.min(quarters * 4096 - 512, max) };
        data.write(command, 16, slot, [segment]);
        assert.deepEqual(joined(dataSegments(fn, command.subarray(16), segment.size) ?? []), [segment]);
      },
    ),
    { numRuns: 80 },
  );
});

test("PRP: lists that continue in another page", () => {
  const size = 2100 * PAGE;
  const { fn, data, command, slotBytes } = pointers("prp", size);
  assert.equal(slotBytes, 5 * PAGE);
  for (const offset of [0, 4, 4092]) {
    const segment = { iova: 2 ** 40 + offset, size };
    data.write(command, 0, 2, [segment]);
    assert.deepEqual(joined(dataSegments(fn, command.subarray(0, 16), size) ?? []), [segment]);
  }
  assert.throws(() => data.write(command, 0, 0, [{ iova: PAGE, size: 4 * size }]), { code: "NVME_DATA_POINTER" });
});

test("PRP: one page, two pages and three use entry one, entry two and a list", () => {
  const { data, command, buffer } = pointers("prp", 64 * 1024);
  data.write(command, 0, 0, [{ iova: 0x1_2345_6004, size: PAGE - 4 }]);
  assert.deepEqual([...command.subarray(6, 10)], [0x2345_6004, 1, 0, 0]);
  data.write(command, 0, 0, [{ iova: 0x1_2345_6004, size: PAGE }]);
  assert.deepEqual([...command.subarray(6, 10)], [0x2345_6004, 1, 0x2345_7000, 1]);
  data.write(command, 0, 1, [{ iova: 0x1_2345_6000, size: 3 * PAGE }]);
  const list = buffer.iova + 128;
  assert.deepEqual([...command.subarray(6, 10)], [0x2345_6000, 1, list % 2 ** 32, Math.floor(list / 2 ** 32)]);
  assert.deepEqual([...buffer.words.subarray(32, 36)], [0x2345_7000, 1, 0x2345_8000, 1]);
});

test("PRP: a list holds what its slot is for, and not one page more", () => {
  const { fn, data, command, slotBytes } = pointers("prp", 64 * 1024);
  const entries = slotBytes / 8;
  const segment = { iova: 2 ** 33, size: (entries + 1) * PAGE };
  data.write(command, 0, 0, [segment]);
  assert.deepEqual(joined(dataSegments(fn, command.subarray(0, 16), segment.size) ?? []), [segment]);
  const longer = { iova: 2 ** 33, size: segment.size + 4 };
  assert.throws(() => data.write(command, 0, 0, [longer]), { code: "NVME_DATA_POINTER" });
});

test("PRP: segments join only at page borders", () => {
  const { fn, data, command } = pointers("prp", 256 * 1024);
  const good = [
    { iova: 0x10800, size: 0x800 },
    { iova: 0x40000, size: 0x2000 },
    { iova: 0x90000, size: 0x123 },
  ];
  data.write(command, 0, 0, good);
  assert.deepEqual(joined(dataSegments(fn, command.subarray(0, 16), 0x2923) ?? []), good);
  const bad = [
    [
      { iova: 0x10000, size: 0x800 },
      { iova: 0x40000, size: 0x1000 },
    ],
    [
      { iova: 0x10000, size: 0x1000 },
      { iova: 0x40004, size: 0x1000 },
    ],
  ];
  for (const segments of bad) assert.throws(() => data.write(command, 0, 0, segments), { code: "NVME_DATA_POINTER" });
});

test("SGL: any segments", () => {
  const segment = fc.record(
    {
      iova: fc.integer({ min: 0, max: 2 ** 46 }).map((at) => at * 4),
      size: fc.integer({ min: 1, max: 2 ** 20 }),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 16 }), fc.nat({ max: 2 }), (segments, slot) => {
      const { fn, data, command } = pointers("sgl", 128 * 1024);
      command[0] = 0x0005_0002;
      data.write(command, 0, slot, segments);
      assert.equal(command[0], 0x0005_4002);
      const total = segments.reduce((sum, { size }) => sum + size, 0);
      assert.deepEqual(dataSegments(fn, command.subarray(0, 16), total), segments);
    }),
  );
});

test("what cannot be a segment is refused", () => {
  const { data, command } = pointers("prp", 4096);
  for (const bad of [
    { iova: 2, size: 4 },
    { iova: -4, size: 4 },
    { iova: 0, size: 0 },
    { iova: Number.NaN, size: 4 },
  ]) {
    assert.throws(() => data.write(command, 0, 0, [bad]), { code: "NVME_DATA_POINTER" });
  }
});

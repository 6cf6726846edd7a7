import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { IovaAllocator } from "./iova-allocator.ts";

/** What an Intel IOMMU reports: the MSI window is a hole. */
const USUAL = [
  { first: 0, last: 0xfedf_ffff },
  { first: 0xfef0_0000, last: 0xffff_ffff_ffff },
];
const MEBIBYTE = 2 ** 20;

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isRing3Error(error)) return error.code;
    throw error;
  }
  return "none";
}

test("prefers addresses from 4 GiB on, and keeps `below`, alignment and holes", () => {
  const iovas = new IovaAllocator(USUAL);
  assert.equal(iovas.allocate(4096), 2 ** 32);
  assert.equal(iovas.allocate(100), 2 ** 32 + 4096);
  assert.equal(iovas.allocate(4096, { alignment: 2 * MEBIBYTE }), 2 ** 32 + 2 * MEBIBYTE);
  assert.equal(iovas.allocate(4096, { below: 2 ** 28 }), 4096);
  assert.equal(iovas.allocate(2 ** 30, { alignment: 2 ** 30, below: 2 ** 32 }), 2 ** 30);
  assert.equal(
    code(() => iovas.allocate(2 ** 30, { alignment: 2 ** 31, below: 2 ** 31 })),
    "IOVA_EXHAUSTED",
  );
  assert.equal(iovas.count, 5);
});

test("fixed addresses: overlap, holes, alignment, zero", () => {
  const iovas = new IovaAllocator(USUAL);
  iovas.reserve(0, 4096);
  iovas.reserve(0x10_0000, MEBIBYTE);
  assert.throws(() => iovas.reserve(0x18_0000, 4096), { code: "IOVA_IN_USE", errno: "EEXIST" });
  assert.equal(
    code(() => iovas.reserve(0xfee0_0000, 4096)),
    "IOVA_OUT_OF_RANGE",
  );
  assert.equal(
    code(() => iovas.reserve(0xfedf_f000, 8192)),
    "IOVA_OUT_OF_RANGE",
  );
  assert.equal(
    code(() => iovas.reserve(0x1000_0800, 4096)),
    "IOVA_INVALID",
  );
  assert.equal(
    code(() => iovas.reserve(0x1000_0000, 0)),
    "IOVA_INVALID",
  );
  assert.equal(
    code(() => iovas.allocate(4096, { alignment: 3 * 4096 })),
    "IOVA_INVALID",
  );
  assert.equal(
    code(() => iovas.allocate(4096, { alignment: 2 ** 52 - 1 })),
    "IOVA_INVALID",
  );
  assert.equal(iovas.release(0x10_0000), MEBIBYTE);
  assert.equal(
    code(() => iovas.release(0x10_0000)),
    "IOVA_NOT_MAPPED",
  );
  iovas.releaseAll();
  assert.equal(iovas.count, 0);
  assert.equal(iovas.freeBytes, 0xfee0_0000 + 0x1_0000_0000_0000 - 0xfef0_0000);
});

test("odd reports of the kernel: unaligned ends, neighbours, overlaps, above 2^53", () => {
  const odd = new IovaAllocator([
    { first: 0x1800, last: 0x47ff },
    { first: 0x6000, last: 0x6fff },
    { first: 0x5000, last: 0x5fff },
    { first: 2 ** 53 - 4096, last: 2 ** 64 },
  ]);
  assert.deepEqual(odd.ranges, [
    { first: 0x2000, last: 0x3fff },
    { first: 0x5000, last: 0x6fff },
    { first: 2 ** 53 - 4096, last: 2 ** 53 - 1 },
  ]);
  const overlapping = [
    { first: 0, last: 0xffff },
    { first: 0x8000, last: 0x1_ffff },
  ];
  assert.equal(
    code(() => new IovaAllocator(overlapping)),
    "IOVA_RANGES_INVALID",
  );
  assert.equal(
    code(() => new IovaAllocator([{ first: 5, last: 4 }])),
    "IOVA_RANGES_INVALID",
  );
});

test("allocations never overlap, lie in range, are aligned, and come back whole", () => {
  const request = fc.record({
    pages: fc.integer({ min: 1, max: 700 }),
    alignment: fc.constantFrom(4096, 2 * MEBIBYTE),
    below: fc.constantFrom(undefined, 2 ** 24, 2 ** 32),
    release: fc.option(fc.nat()),
  });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
      const ranges = [
        { first: 0, last: 2 ** 23 - 1 },
        { first: 2 ** 23 + 2 ** 20, last: 2 ** 25 - 1 },
      ];
      const iovas = new IovaAllocator(ranges);
      const total = iovas.freeBytes;
      const live: { start: number; size: number }[] = [];
      for (const { pages, alignment, below, release } of requests) {
        const size = pages * 4096;
        try {
          const start = iovas.allocate(size, { alignment, ...(below === undefined ? {} : { below }) });
          assert.equal(start % alignment, 0);
          assert.ok(start > 0 && (below === undefined || start + size <= below));
          assert.ok(ranges.some(({ first, last }) => start >= first && start + size - 1 <= last));
          assert.ok(live.every((other) => start + size <= other.start || other.start + other.size <= start));
          live.push({ start, size });
        } catch (error) {
          if (!isRing3Error(error, "IOVA_EXHAUSTED")) throw error;
        }
        if (release !== null && live.length > 0) {
          const [gone] = live.splice(release % live.length, 1);
          if (gone !== undefined) assert.equal(iovas.release(gone.start), gone.size);
        }
        assert.equal(iovas.freeBytes, total - live.reduce((sum, { size: bytes }) => sum + bytes, 0));
      }
      iovas.releaseAll();
      assert.equal(iovas.freeBytes, total);
    }),
  );
});

test("65,535 mappings", () => {
  const iovas = new IovaAllocator(USUAL);
  const taken = Array.from({ length: 65_535 }, (_, i) => iovas.allocate(4096 * (1 + (i % 3))));
  assert.equal(new Set(taken).size, 65_535);
  for (const [i, iova] of taken.entries()) if (i % 2 === 0) iovas.release(iova);
  const again = iovas.allocate(4096);
  assert.equal(again, taken[0]);
  iovas.releaseAll();
  assert.equal(iovas.ranges.length, 2);
});

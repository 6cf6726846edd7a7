import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { decodeRegion, mappableAreas, type Region } from "./region.ts";
import { RegionFlag } from "./uapi.ts";
import { CapabilityHeader, RegionInfo, SparseMmap, SparseMmapArea } from "./uapi-structs.ts";

const plain: Region = decodeRegion(
  RegionInfo.bytes({ flags: RegionFlag.READ | RegionFlag.WRITE | RegionFlag.MMAP, size: 0x8000n, offset: 1n << 40n }),
);

function sparse(areas: readonly (readonly [offset: bigint, size: bigint])[], size = 0x10000n): Region {
  const bytes = new Uint8Array(RegionInfo.size + SparseMmap.size + areas.length * SparseMmapArea.size);
  bytes.set(RegionInfo.bytes({ flags: RegionFlag.MMAP | RegionFlag.CAPS, size, cap_offset: RegionInfo.size }));
  bytes.set(SparseMmap.bytes({ nr_areas: areas.length }), RegionInfo.size);
  bytes.set(CapabilityHeader.bytes({ id: 1, version: 1 }), RegionInfo.size);
  for (const [i, [offset, length]] of areas.entries()) {
    bytes.set(
      SparseMmapArea.bytes({ offset, size: length }),
      RegionInfo.size + SparseMmap.size + i * SparseMmapArea.size,
    );
  }
  return decodeRegion(bytes);
}

test("a region's numbers, and what it does not have", () => {
  assert.equal(plain.size, 0x8000);
  assert.equal(plain.fileOffset, 2 ** 40);
  assert.equal(plain.mmap, true);
  assert.equal(plain.sparse, undefined);
  assert.equal(plain.type, undefined);
  assert.equal(decodeRegion(RegionInfo.bytes({ size: 2n ** 63n })).size, 0);
});

test("sparse areas are sorted, and nonsense is dropped", () => {
  const region = sparse([
    [0x3000n, 0x1000n],
    [0n, 0x1000n],
    [0x800n, 0x1000n],
    [0xf000n, 0x2000n],
    [0x2000n, 0n],
    [0x3000n, 0x2000n],
  ]);
  assert.deepEqual(region.sparse, [
    { offset: 0, size: 0x1000 },
    { offset: 0x3000, size: 0x1000 },
  ]);
  assert.deepEqual(mappableAreas(region, undefined), region.sparse);
});

test("the page of the MSI-X table is carved out unless the kernel allows it", () => {
  const table = { offset: 0x2ff0, size: 0x40 };
  assert.deepEqual(mappableAreas(plain, table), [
    { offset: 0, size: 0x2000 },
    { offset: 0x4000, size: 0x4000 },
  ]);
  assert.deepEqual(mappableAreas({ ...plain, msixMappable: true }, table), [{ offset: 0, size: 0x8000 }]);
  assert.deepEqual(mappableAreas({ ...plain, size: 0x1000 }, { offset: 0, size: 16 }), []);
  assert.deepEqual(mappableAreas({ ...plain, mmap: false }, undefined), []);
});

test("carving leaves whole pages, ascending, without the table", () => {
  fc.assert(
    fc.property(fc.nat(0x7ff0), fc.integer({ min: 1, max: 0x8000 }), (offset, size) => {
      let end = 0;
      for (const area of mappableAreas(plain, { offset, size })) {
        assert.ok(area.offset >= end && area.offset % 4096 === 0 && area.size % 4096 === 0 && area.size > 0);
        end = area.offset + area.size;
        assert.ok(end <= plain.size && (end <= offset || area.offset >= offset + size));
      }
    }),
  );
});

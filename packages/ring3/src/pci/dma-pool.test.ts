import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { Arena, type ArenaRange } from "../memory/arena.ts";
import { MappedBuffer } from "./dma-buffer.ts";
import { DmaPool } from "./dma-pool.ts";
import type { DmaBuffer, DmaSpace } from "./function.ts";

/** Mappings that exist in the test only. */
function fakeSpace(): DmaSpace & { mapped: number } {
  const arena = Arena.over(new SharedArrayBuffer(16 * 2 ** 20));
  const space = {
    arena,
    mapped: 0,
    limits: () => assert.fail("not asked for"),
    map: (_range: ArenaRange) => assert.fail("not asked for"),
    unmapAll: () => undefined,
    allocate: (size: number): DmaBuffer => {
      const range = arena.reserve(size, 4096);
      space.mapped++;
      const parts = {
        iova: 2 ** 32 + range.offset,
        size: range.size,
        permission: "read-write",
        arena,
        arenaOffset: range.offset,
      } as const;
      return new MappedBuffer(parts, () => {
        space.mapped--;
        range[Symbol.dispose]();
      });
    },
  };
  return space;
}

test("many buffers, one mapping", () => {
  const space = fakeSpace();
  using pool = new DmaPool(space);
  const buffers = Array.from({ length: 1000 }, () => pool.allocate(100));
  assert.equal(space.mapped, 1);
  assert.ok(buffers.every(({ iova, size }) => iova % 64 === 0 && size === 128));
  assert.equal(new Set(buffers.map(({ iova }) => iova)).size, 1000);
});

test("a request larger than a slab gets one of its own, given back when it is free", () => {
  const space = fakeSpace();
  using pool = new DmaPool(space, { slabBytes: 4096 });
  const small = pool.allocate(64);
  const large = pool.allocate(20_000, 4096);
  assert.equal(large.iova % 4096, 0);
  assert.equal(space.mapped, 2);
  large[Symbol.dispose]();
  assert.equal(space.mapped, 1);
  small[Symbol.dispose]();
  assert.equal(space.mapped, 1, "the last one is kept");
});

test("disposing the pool unmaps all; a buffer of it cannot be touched", () => {
  const space = fakeSpace();
  const pool = new DmaPool(space);
  const buffer = pool.allocate(64);
  pool[Symbol.dispose]();
  assert.equal(space.mapped, 0);
  assert.throws(
    () => buffer.bytes,
    (error: unknown) => isRing3Error(error, "DMA_UNMAPPED"),
  );
  assert.throws(
    () => pool.allocate(64),
    (error: unknown) => isRing3Error(error, "DMA_UNMAPPED"),
  );
});

test("in any order of taking and giving, live buffers are disjoint and new ones zero", () => {
  const step = fc.oneof(
    fc.record({ size: fc.integer({ min: 1, max: 5000 }), alignment: fc.constantFrom(64, 256, 4096) }),
    fc.nat(1000),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      using pool = new DmaPool(fakeSpace(), { slabBytes: 16384 });
      const live: DmaBuffer[] = [];
      for (const one of steps) {
        if (typeof one === "number") {
          live.splice(one % Math.max(1, live.length), 1)[0]?.[Symbol.dispose]();
          continue;
        }
        const buffer = pool.allocate(one.size, one.alignment);
        assert.equal(buffer.iova % one.alignment, 0);
        assert.ok(buffer.size >= one.size && buffer.bytes.every((byte) => byte === 0));
        for (const other of live) {
          assert.ok(buffer.iova + buffer.size <= other.iova || other.iova + other.size <= buffer.iova);
        }
        buffer.bytes.fill(0xff);
        live.push(buffer);
      }
    }),
    { numRuns: 50 },
  );
});

// The part of the contract about DMA memory: where it lies, what may overlap, what is left after it is given back.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DmaSpace } from "../../packages/ring3/src/pci/function.ts";
import { type OpenFixture, throwsCode } from "./fixture.ts";

const PAGE = 4096;
const MEGABYTE = 2 ** 20;

function insideRanges(dma: DmaSpace, iova: number, size: number): boolean {
  return dma.limits().ranges.some(({ first, last }) => iova >= first && iova + size - 1 <= last);
}

export function dmaContract(open: OpenFixture): void {
  test("limits are ordered and usable", async (t) => {
    const { dma } = (await open(t)).fn;
    const { ranges, pageSizes, mappingsLeft, lockableBytes } = dma.limits();
    assert.ok(ranges.length > 0 && pageSizes.length > 0);
    assert.equal(pageSizes[0], PAGE);
    let end = -1;
    for (const { first, last } of ranges) {
      assert.ok(first > end && last >= first && last < 2 ** 53);
      end = last;
    }
    for (let i = 1; i < pageSizes.length; i++) assert.ok((pageSizes[i] ?? 0) > (pageSizes[i - 1] ?? 0));
    assert.ok(mappingsLeft === undefined || mappingsLeft > 0);
    assert.ok(lockableBytes === undefined || lockableBytes > 0);
  });

  test("allocated memory is zeroed, page aligned, and one memory by all its names", async (t) => {
    const { dma } = (await open(t)).fn;
    using buffer = dma.allocate(PAGE + 1);
    assert.equal(buffer.size, 2 * PAGE);
    assert.equal(buffer.permission, "read-write");
    assert.equal(buffer.iova % PAGE, 0);
    assert.notEqual(buffer.iova, 0, "devices take 0 for none");
    assert.ok(insideRanges(dma, buffer.iova, buffer.size));
    assert.equal(buffer.arena, dma.arena);
    assert.equal(buffer.bytes.length, buffer.size);
    assert.ok(buffer.bytes.every((byte) => byte === 0));
    buffer.words[1] = 0x0403_0201;
    assert.deepEqual([...buffer.bytes.subarray(4, 8)], [1, 2, 3, 4]);
    assert.equal(buffer.bytes.byteOffset, buffer.arenaOffset);
  });

  test("memory used before comes back zeroed", async (t) => {
    const { dma } = (await open(t)).fn;
    for (let round = 0; round < 3; round++) {
      using buffer = dma.allocate(2 * PAGE);
      assert.ok(
        buffer.bytes.every((byte) => byte === 0),
        `round ${round}`,
      );
      buffer.bytes.fill(0xa5);
    }
  });

  test("allocations overlap neither in memory nor in IOVA", async (t) => {
    const { dma } = (await open(t)).fn;
    using stack = new DisposableStack();
    const buffers = Array.from({ length: 20 }, (_, i) => stack.use(dma.allocate(PAGE * (1 + (i % 3)))));
    for (const key of ["iova", "arenaOffset"] as const) {
      const sorted = [...buffers].sort((a, b) => a[key] - b[key]);
      for (let i = 1; i < sorted.length; i++) {
        const [before, after] = [sorted[i - 1], sorted[i]];
        assert.ok(before !== undefined && after !== undefined && before[key] + before.size <= after[key], key);
      }
    }
  });

  test("placement is kept: fixed, below, aligned", async (t) => {
    const { dma } = (await open(t)).fn;
    using low = dma.allocate(PAGE, { below: 2 ** 28 });
    assert.ok(low.iova + low.size <= 2 ** 28);
    using aligned = dma.allocate(PAGE, { alignment: 2 * MEGABYTE });
    assert.equal(aligned.iova % (2 * MEGABYTE), 0);
    const fixed = 0x1234_5000;
    using placed = dma.allocate(PAGE, { iova: fixed });
    assert.equal(placed.iova, fixed);
    throwsCode(() => dma.allocate(PAGE, { iova: fixed }), "IOVA_IN_USE");
    throwsCode(() => dma.allocate(2 * PAGE, { iova: fixed - PAGE }), "IOVA_IN_USE");
  });

  test("what cannot be mapped is refused before it is tried", async (t) => {
    const { dma } = (await open(t)).fn;
    throwsCode(() => dma.allocate(PAGE, { iova: 0x1234_5678 }), "IOVA_INVALID");
    throwsCode(() => dma.allocate(0), "IOVA_INVALID", "DMA_INVALID");
    throwsCode(() => dma.allocate(-PAGE), "IOVA_INVALID", "DMA_INVALID");
    throwsCode(() => dma.allocate(Number.NaN), "IOVA_INVALID", "DMA_INVALID");
    throwsCode(() => dma.allocate(PAGE, { alignment: 3 * PAGE }), "IOVA_INVALID");
    throwsCode(() => dma.allocate(PAGE, { below: 1024 }), "IOVA_EXHAUSTED");
    const top = dma.limits().ranges.at(-1);
    assert.ok(top !== undefined);
    const beyond = Math.ceil((top.last + 1) / PAGE) * PAGE;
    if (Number.isSafeInteger(beyond + PAGE)) {
      throwsCode(() => dma.allocate(PAGE, { iova: beyond }), "IOVA_OUT_OF_RANGE");
    }
  });

  test("permissions are kept", async (t) => {
    const { dma } = (await open(t)).fn;
    for (const permission of ["read", "write", "read-write"] as const) {
      using buffer = dma.allocate(PAGE, { permission });
      assert.equal(buffer.permission, permission);
    }
  });

  test("own memory is mapped and stays after unmapping", async (t) => {
    const { dma } = (await open(t)).fn;
    using range = dma.arena.reserve(2 * PAGE);
    const own = dma.arena.bytes(range.offset, range.size);
    own.fill(0x3c);
    const buffer = dma.map(range);
    assert.equal(buffer.arenaOffset, range.offset);
    assert.equal(buffer.size, range.size);
    assert.equal(buffer.bytes[0], 0x3c);
    const { iova } = buffer;
    buffer[Symbol.dispose]();
    assert.equal(own[0], 0x3c);
    using again = dma.map(range, { iova });
    assert.equal(again.iova, iova, "the IOVA is free again");
  });

  test("a buffer given back cannot be touched through its own name", async (t) => {
    const { dma } = (await open(t)).fn;
    const buffer = dma.allocate(PAGE);
    buffer[Symbol.dispose]();
    buffer[Symbol.dispose]();
    throwsCode(() => buffer.bytes, "DMA_UNMAPPED");
    throwsCode(() => buffer.words, "DMA_UNMAPPED");
  });

  test("unmapAll takes everything, and later disposal does no harm", async (t) => {
    const { dma } = (await open(t)).fn;
    const fixed = 0x0800_0000;
    const first = dma.allocate(PAGE, { iova: fixed });
    const second = dma.allocate(PAGE);
    // Enough of them for a back end that unmaps many by one call.
    for (let i = 0; i < 100; i++) dma.allocate(PAGE);
    dma.unmapAll();
    throwsCode(() => first.bytes, "DMA_UNMAPPED");
    using third = dma.allocate(PAGE, { iova: fixed });
    third.bytes.fill(0x77);
    first[Symbol.dispose]();
    second[Symbol.dispose]();
    assert.equal(third.bytes[0], 0x77);
  });

  test("mapping and unmapping goes on for long", async (t) => {
    const { dma } = (await open(t)).fn;
    for (let i = 0; i < 300; i++) {
      using buffer = dma.allocate(PAGE);
      buffer.words[0] = i;
    }
  });

  test("the function moves data both ways, where permissions allow", async (t) => {
    const { fn, copy, copyBelow } = await open(t);
    if (copy === undefined) return t.skip("the fixture cannot copy");
    const below = copyBelow ?? 2 ** 53;
    using source = fn.dma.allocate(PAGE, { permission: "read", below });
    using target = fn.dma.allocate(PAGE, { permission: "write", below });
    for (let i = 0; i < 64; i++) source.bytes[i] = i ^ 0x5a;
    fn.busMaster = true;
    await copy(source.iova, target.iova, 64);
    assert.deepEqual([...target.bytes.subarray(0, 64)], [...source.bytes.subarray(0, 64)]);
    assert.equal(target.bytes[64], 0);
  });

  test("the function cannot write where it may only read", async (t) => {
    const { fn, copy, copyBelow } = await open(t);
    if (copy === undefined) return t.skip("the fixture cannot copy");
    const below = copyBelow ?? 2 ** 53;
    using source = fn.dma.allocate(PAGE, { below });
    using target = fn.dma.allocate(PAGE, { permission: "read", below });
    source.bytes.fill(0xee);
    fn.busMaster = true;
    await copy(source.iova, target.iova, 64);
    assert.ok(target.bytes.every((byte) => byte === 0));
  });
}

// The dirty log against a set of bytes; its bounds.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { throwsCode } from "../../../../tests/contract/fixture.ts";
import { DirtyLog } from "./dirty-log.ts";

const KIB = 1024;

function pagesOf(bitmap: Uint8Array, count: number): number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => ((bitmap[i >> 3] ?? 0) & (1 << (i & 7))) !== 0);
}

function report(log: DirtyLog, iova: number, length: number, pageSize: number): number[] {
  const pages = Math.ceil(length / pageSize);
  const bitmap = new Uint8Array(Math.ceil(pages / 8)).fill(0xaa);
  log.report(iova, length, pageSize, bitmap);
  return pagesOf(bitmap, pages);
}

test("records only while it is on and only what is watched; a report cleans", () => {
  const log = new DirtyLog();
  log.mark(0, 4096);
  throwsCode(() => log.report(0, 4096, 4096, new Uint8Array(1)), "DIRTY_LOG_INVALID");
  log.start(4096, [
    { offset: 0x8000, size: 0x2000 },
    { offset: 0x1000, size: 0x1000 },
  ]);
  log.mark(0, 0x10000);
  assert.deepEqual(report(log, 0, 0x10000, 4096), [1, 8, 9]);
  assert.deepEqual(report(log, 0, 0x10000, 4096), []);
  log.mark(0x1fff, 1);
  log.mark(0x2000, 1);
  assert.deepEqual(report(log, 0x1000, 0x2000, 4096), [0]);
  log.mark(0x1000, 0);
  assert.deepEqual(report(log, 0x1000, 0x2000, 4096), []);
  log.stop();
  assert.equal(log.bytes, 0);
});

test("refuses what is no page size, range or bitmap", () => {
  const log = new DirtyLog();
  for (const pageSize of [0, 1, 2048, 4097, 12_288, Number.NaN, 2 ** 60]) {
    throwsCode(() => log.start(pageSize), "DIRTY_LOG_INVALID");
  }
  throwsCode(
    () =>
      log.start(4096, [
        { offset: 0, size: 8192 },
        { offset: 4096, size: 4096 },
      ]),
    "DIRTY_LOG_INVALID",
  );
  throwsCode(() => log.start(4096, [{ offset: 2 ** 53 - 4096, size: 8192 }]), "DIRTY_LOG_INVALID");
  assert.equal(log.active, false);
  log.start();
  throwsCode(() => log.report(0, 9 * 4096, 4096, new Uint8Array(1)), "DIRTY_LOG_INVALID");
  throwsCode(() => log.report(1, 4096, 4096, new Uint8Array(1)), "DIRTY_LOG_INVALID");
  throwsCode(() => log.report(0, 0, 4096, new Uint8Array(1)), "DIRTY_LOG_INVALID");
  throwsCode(() => log.report(0, 4096, 1000, new Uint8Array(1)), "DIRTY_LOG_INVALID");
});

test("a page that was reported only in part stays dirty", () => {
  const log = new DirtyLog();
  log.start(64 * KIB);
  log.mark(5000, 1);
  assert.deepEqual(report(log, 0, 8192, 4096), [0, 1]);
  assert.deepEqual(report(log, 0, 64 * KIB, 64 * KIB), [0]);
  assert.deepEqual(report(log, 0, 64 * KIB, 64 * KIB), []);
});

test("beyond its bound it says too much, never too little", () => {
  const log = new DirtyLog({ maximumBytes: 1024 });
  log.start(4096, [{ offset: 0, size: 2 ** 40 }]);
  for (let i = 0; i < 100; i++) log.mark(i * 2 ** 30, 1);
  assert.ok(log.bytes <= 1024);
  assert.equal(log.overflowed, true);
  assert.deepEqual(report(log, 2 ** 30, 4 * 4096, 4096), [0, 1, 2, 3]);
  assert.deepEqual(report(log, 2 ** 40 - 4096, 2 * 4096, 4096), [0]);
  log.start();
  assert.equal(log.overflowed, false);
});

test("against a set of bytes: any page sizes, watched ranges, writes and reports", () => {
  const limit = 64 * 4096 * 16;
  const place = fc.nat(limit - 1);
  const command = fc.oneof(
    fc.record({ kind: fc.constant("mark" as const), at: place, size: fc.integer({ min: 1, max: 300_000 }) }),
    fc.record({
      kind: fc.constant("report" as const),
      at: place,
      size: fc.integer({ min: 1, max: limit }),
      order: fc.integer({ min: 0, max: 5 }),
    }),
  );
  const ranges = fc
    .uniqueArray(fc.nat(200), { maxLength: 8 })
    .map((cuts) => cuts.sort((a, b) => a - b).map((cut) => cut * 20_000))
    .map((cuts) =>
      Array.from({ length: cuts.length >> 1 }, (_, i) => ({
        offset: cuts[2 * i] ?? 0,
        size: (cuts[2 * i + 1] ?? 0) - (cuts[2 * i] ?? 0),
      })),
    );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 }), ranges, fc.array(command, { maxLength: 30 }), (order, watched, run) => {
      const log = new DirtyLog();
      const pageSize = 4096 << order;
      log.start(pageSize, watched);
      const dirty = new Set<number>();
      const inside = (from: number, to: number): boolean =>
        watched.length === 0 || watched.some(({ offset, size }) => from < offset + size && to > offset);
      for (const one of run) {
        if (one.kind === "mark") {
          for (let page = Math.floor(one.at / pageSize); page * pageSize < one.at + one.size; page++) {
            const from = Math.max(page * pageSize, one.at);
            const to = Math.min((page + 1) * pageSize, one.at + one.size);
            if (inside(from, to)) dirty.add(page);
          }
          log.mark(one.at, one.size);
          continue;
        }
        const unit = 4096 << one.order;
        const at = one.at - (one.at % unit);
        const expected = new Set<number>();
        for (const page of dirty) {
          const from = Math.max(page * pageSize, at);
          const to = Math.min((page + 1) * pageSize, at + one.size);
          for (let bit = Math.floor((from - at) / unit); from < to && at + bit * unit < to; bit++) expected.add(bit);
          if (page * pageSize >= at && (page + 1) * pageSize <= at + one.size) dirty.delete(page);
        }
        assert.deepEqual(
          report(log, at, one.size, unit),
          [...expected].sort((a, b) => a - b),
        );
      }
    }),
    { numRuns: 300 },
  );
});

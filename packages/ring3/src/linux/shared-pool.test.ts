// DMA memory with descriptors: pieces of a pool, and memory that gets its descriptor later.
// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { ArenaRange } from "../memory/arena-range.ts";
import { createArena } from "./arena-memory.ts";
import { readAt } from "./file-access.ts";
import { openFilesCount } from "./limits.ts";
import { SharedMemoryPool, type SharedPiece } from "./shared-pool.ts";
import { reserveShared, shareRange } from "./shared-range.ts";

const arena = createArena({ initialBytes: 2 ** 21 });
const PAGE = 4096;

/** What another process sees of a piece. */
function seen(piece: SharedPiece): Uint8Array {
  const bytes = new Uint8Array(piece.size);
  readAt(piece.fd, piece.fileOffset, bytes);
  return bytes;
}

test("pieces never overlap, are zero, and are where their file says", () => {
  const sizes = fc.oneof(
    fc.integer({ min: 1, max: 5 * PAGE }),
    fc.constantFrom(2 ** 20, 3 * 2 ** 20 + 1, 2 ** 20 - PAGE),
  );
  const steps = fc.array(fc.record({ size: sizes, keep: fc.boolean() }), { maxLength: 25 });
  fc.assert(
    fc.property(steps, (list) => {
      using pool = new SharedMemoryPool(arena);
      const live: { piece: SharedPiece; mark: number }[] = [];
      for (const [i, { size, keep }] of list.entries()) {
        const piece = pool.reserve(size);
        const bytes = arena.bytes(piece.arenaOffset, piece.size);
        assert.ok(piece.size >= size && piece.arenaOffset % PAGE === 0 && piece.fileOffset % PAGE === 0);
        assert.ok(bytes.every((byte) => byte === 0));
        bytes.fill(i + 1);
        if (keep) live.push({ piece, mark: i + 1 });
        else {
          piece[Symbol.dispose]();
          piece[Symbol.dispose]();
        }
      }
      for (const { piece, mark } of live) assert.ok(seen(piece).every((byte) => byte === mark));
    }),
    { numRuns: 40 },
  );
});

test("many small pieces take few descriptors, and disposal closes them", () => {
  const before = openFilesCount();
  const pool = new SharedMemoryPool(arena);
  const pieces = Array.from({ length: 2000 }, () => pool.reserve(PAGE));
  assert.ok(openFilesCount() - before <= 5);
  assert.equal(new Set(pieces.map(({ arenaOffset }) => arenaOffset)).size, 2000);
  pool[Symbol.dispose]();
  pieces[0]?.[Symbol.dispose]();
  assert.equal(openFilesCount(), before);
});

test("memory in use gets a file, and has none after its last user", () => {
  const before = openFilesCount();
  const range = arena.reserve(3 * PAGE);
  const { bytes } = range;
  bytes.fill(7, PAGE, 2 * PAGE);
  const first = shareRange(range);
  const second = shareRange(range);
  assert.equal(first.fd, second.fd);
  bytes[0] = 9;
  const other = new Uint8Array(3 * PAGE);
  readAt(first.fd, first.fileOffset, other);
  assert.deepEqual(other, bytes);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  readAt(second.fd, 0, other);
  assert.equal(openFilesCount(), before + 1);
  second[Symbol.dispose]();
  assert.equal(openFilesCount(), before);
  assert.deepEqual([bytes[0], bytes[PAGE], bytes[2 * PAGE]], [9, 7, 0]);
  range[Symbol.dispose]();
});

test("memory that an IOMMU may hold is not taken away under it; what has a file keeps it", () => {
  using range = arena.reserve(PAGE);
  {
    using _ = range.hold();
    assert.throws(
      () => shareRange(range),
      (error: unknown) => isRing3Error(error, "RANGE_BUSY"),
    );
  }
  using shared = reserveShared(arena, PAGE);
  using file = shareRange(shared.range);
  assert.equal(file.fd, shared.fd);
});

test("a part of memory that has a file is that file's, by whatever range it is named", () => {
  using shared = reserveShared(arena, 4 * PAGE);
  const part = new ArenaRange(arena, shared.range.offset + PAGE, 2 * PAGE, () => undefined);
  using file = shareRange(part);
  assert.deepEqual([file.fd, file.fileOffset], [shared.fd, shared.fileOffset + PAGE]);
  // Whoever writes to the file is seen in the arena, and the other way round.
  part.bytes[0] = 5;
  const seen = new Uint8Array(1);
  readAt(file.fd, file.fileOffset, seen);
  assert.equal(seen[0], 5);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { createArena, type LinuxArenaOptions } from "./arena-memory.ts";
import { MappedMemory } from "./mapped-memory.ts";
import { shareInPlace } from "./shared-in-place.ts";

for (const backing of ["webassembly", "mapped"] as const satisfies LinuxArenaOptions["backing"][]) {
  test(`memory of the arena becomes a file's and its own again, and keeps its bytes and views (${backing})`, () => {
    const arena = createArena({ backing });
    using first = arena.reserve(8192);
    using second = arena.reserve(4096);
    const { bytes } = first;
    const words = second.words;
    bytes[5000] = 55;
    words[3] = 33;
    const shared = shareInPlace(
      [
        { range: first, fileOffset: 0x4000, size: 8192 },
        { range: second, fileOffset: 0x1000, size: 4096 },
      ],
      0x10_000,
    );
    using mapped = MappedMemory.file(shared.fd, 0, 0x10_000);
    assert.equal(mapped.bytes[0x4000 + 5000], 55);
    assert.equal(mapped.bytes[0x1000 + 12], 33);
    mapped.bytes[0x4001] = 77;
    words[4] = 44;
    assert.equal(bytes[1], 77);
    assert.equal(mapped.bytes[0x1000 + 16], 44);
    shared[Symbol.dispose]();
    assert.deepEqual([bytes[1], bytes[5000], words[3], words[4]], [77, 55, 33, 44]);
    mapped.bytes.fill(0xee);
    assert.deepEqual([bytes[1], bytes[2], words[3]], [77, 0, 33]);
    assert.throws(() => shared.fd.number, { code: "FD_CLOSED" });
  });
}

test("a range that is given back meanwhile is not reused before the sharing ends", () => {
  const arena = createArena();
  const range = arena.reserve(4096);
  range.words[0] = 1;
  const shared = shareInPlace([{ range, fileOffset: 0, size: 4096 }], 4096);
  const { freeBytes } = arena;
  range[Symbol.dispose]();
  assert.equal(arena.freeBytes, freeBytes);
  shared[Symbol.dispose]();
  assert.equal(arena.freeBytes, freeBytes + 4096);
  using again = arena.reserve(4096);
  assert.equal(again.words[0], 0);
});

test("what does not lie on pages is refused, and nothing changes", () => {
  const arena = createArena();
  using range = arena.reserve(8192);
  range.words[0] = 9;
  assert.throws(
    () =>
      shareInPlace(
        [
          { range, fileOffset: 0, size: 4096 },
          { range, rangeOffset: 4096, fileOffset: 100, size: 4096 },
        ],
        8192,
      ),
    { errno: "EINVAL" },
  );
  assert.equal(range.words[0], 9);
});

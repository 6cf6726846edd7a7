// What every arena must do, whatever memory lies under it. Each implementation's test calls it with its own factory.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Arena, ArenaRange } from "./arena.ts";
import { OwnedWindow } from "./window.ts";

/** Runs the suite on arenas that `create` makes; each has at least 2 MiB. */
export function arenaContract(name: string, create: () => Arena): void {
  describe(`arena: ${name}`, () => {
    test("ranges are aligned, apart, zero when reused, and all comes back", () => {
      const arena = create();
      const total = (): number => arena.size - arena.freeBytes;
      const used = total();
      const request = fc.record({
        size: fc.integer({ min: 1, max: 70_000 }),
        alignment: fc.constantFrom(8, 64, 4096, 65536),
        disposes: fc.option(fc.nat()),
      });
      fc.assert(
        fc.property(fc.array(request, { maxLength: 20 }), (requests) => {
          const live: ArenaRange[] = [];
          for (const { size, alignment, disposes } of requests) {
            const range = arena.reserve(size, alignment);
            assert.equal(range.offset % alignment, 0);
            assert.ok(range.size >= size && range.size % Math.min(alignment, 4096) === 0);
            assert.ok(live.every((o) => range.offset + range.size <= o.offset || o.offset + o.size <= range.offset));
            assert.ok(range.bytes.every((byte) => byte === 0));
            range.bytes.fill(0xa5);
            live.push(range);
            if (disposes !== null) live.splice(disposes % live.length, 1)[0]?.[Symbol.dispose]();
          }
          for (const range of live) range[Symbol.dispose]();
          assert.equal(total(), used);
        }),
        { numRuns: 50 },
      );
    });

    test("offset 0 is nobody's, and views outside are refused", () => {
      const arena = create();
      using range = arena.reserve(8, 8);
      assert.ok(range.offset > 0);
      assert.throws(() => arena.words(range.offset + 2, 1), { code: "ARENA_RANGE" });
      assert.throws(() => arena.bytes(arena.size - 4, 8), { code: "ARENA_RANGE" });
      assert.throws(() => arena.bytes(-8, 8), { code: "ARENA_RANGE" });
      assert.throws(() => arena.reserve(0), { code: "ARENA_INVALID" });
      assert.throws(() => arena.reserve(64, 48), { code: "ARENA_INVALID" });
      assert.throws(() => arena.reserve(2 ** 33), { code: "ARENA_FULL", message: /bytes are free.*dispose/s });
    });

    test("all views show the same bytes", () => {
      const arena = create();
      using range = arena.reserve(4096);
      range.words.set([0x4433_2211, 0x8877_6655]);
      assert.deepEqual([...range.bytes.subarray(0, 4)], [0x11, 0x22, 0x33, 0x44]);
      assert.equal(range.halfwords[1], 0x4433);
      assert.equal(range.longwords[0], 0x8877_6655_4433_2211n);
      assert.equal(arena.words(range.offset + 4, 1)[0], 0x8877_6655);
      assert.equal(range.words, range.words);
    });

    test("a held range is not reused, and gives no views after disposal", () => {
      const arena = create();
      const range = arena.reserve(4096);
      const hold = range.hold();
      range[Symbol.dispose]();
      assert.throws(() => range.bytes, { code: "RANGE_DISPOSED" });
      assert.throws(() => range.hold(), { code: "RANGE_DISPOSED" });
      using other = arena.reserve(4096);
      assert.notEqual(other.offset, range.offset);
      hold[Symbol.dispose]();
      hold[Symbol.dispose]();
      range[Symbol.dispose]();
      using third = arena.reserve(4096);
      assert.equal(third.offset, range.offset);
    });

    test("what was mapped over a range goes before the range is reused", () => {
      const arena = create();
      const range = arena.reserve(4096);
      let before = 0;
      range.beforeRelease(() => {
        before = arena.freeBytes;
      });
      const free = arena.freeBytes;
      range[Symbol.dispose]();
      assert.equal(before, free);
      assert.equal(arena.freeBytes, free + 4096);
    });

    test("loads are unsigned and of their width; offsets are checked", () => {
      const arena = create();
      using range = arena.reserve(4096);
      using window = OwnedWindow.over(arena, range.offset, 32);
      window.write32(4, 0xfedc_ba98);
      window.write32(0, 0x8765_4321);
      assert.equal(window.read32(4), 0xfedc_ba98);
      assert.equal(window.read16(6), 0xfedc);
      assert.equal(window.read8(5), 0xba);
      assert.equal(window.read64(0), 0xfedc_ba98_8765_4321n);
      window.write64(8, 0xffff_ffff_ffff_fff0n);
      assert.equal(window.read64(8), 0xffff_ffff_ffff_fff0n);
      window.write16(16, 0xabcd);
      window.write8(18, 0xef);
      assert.equal(window.read32(16), 0x00ef_abcd);
      for (const offset of [-4, 2, 32, 30, 1.5, 4.5, Number.NaN, 2 ** 32, 2 ** 32 + 4, Number.POSITIVE_INFINITY]) {
        assert.throws(() => window.read32(offset), { code: "REGISTER_RANGE" }, `${offset}`);
        assert.throws(() => window.write32(offset, 0), { code: "REGISTER_RANGE" }, `${offset}`);
      }
      for (const access of [() => window.read16(31), () => window.read64(28), () => window.read8(32)]) {
        assert.throws(access, { code: "REGISTER_RANGE" });
      }
      for (const access of [() => window.write16(1, 0), () => window.write64(4, 0n), () => window.write8(-1, 0)]) {
        assert.throws(access, { code: "REGISTER_RANGE" });
      }
    });

    test("a window and its slices are suspended, resumed and revoked together; a word is never mistaken again", () => {
      const arena = create();
      using range = arena.reserve(4096);
      const window = OwnedWindow.over(arena, range.offset, 4096);
      const slice = window.slice(64, 16);
      slice.write32(4, 7);
      assert.equal(window.read32(68), 7);
      assert.equal(slice.arenaOffset, range.offset + 64);
      assert.throws(() => slice.read32(16), { code: "REGISTER_RANGE" });
      assert.throws(() => window.slice(4090, 16), { code: "REGISTER_RANGE" });
      window.suspend();
      assert.equal(slice.state, "suspended");
      assert.throws(() => slice.read32(4), { code: "REGION_DISABLED" });
      assert.throws(() => slice.write32(4, 1), { code: "REGION_DISABLED" });
      window.resume();
      assert.equal(slice.read32(4), 7);
      window.revoke();
      window.revoke();
      window.resume();
      window.suspend();
      assert.equal(slice.state, "revoked");
      for (const access of [() => slice.read8(0), () => slice.read16(0), () => window.read64(0)]) {
        assert.throws(access, { code: "REGION_REVOKED" });
      }
      for (const access of [() => slice.write8(0, 0), () => slice.write16(0, 0), () => window.write64(0, 0n)]) {
        assert.throws(access, { code: "REGION_REVOKED" });
      }
      using next = OwnedWindow.over(arena, range.offset, 4096);
      assert.equal(next.handle().control, window.handle().control);
      assert.equal(next.state, "live");
      assert.equal(slice.state, "revoked");
    });

    test("runs out of windows with an error", () => {
      const arena = create();
      using range = arena.reserve(4096);
      const windows: OwnedWindow[] = [];
      assert.throws(
        () => {
          for (;;) windows.push(OwnedWindow.over(arena, range.offset, 8));
        },
        { code: "WINDOWS_FULL" },
      );
      windows.pop()?.revoke();
      windows.push(OwnedWindow.over(arena, range.offset, 8));
      for (const window of windows) window.revoke();
    });

    test("a retired range is reused only when there is nothing else", () => {
      const arena = create();
      const range = arena.reserve(4096);
      let released = false;
      arena.retire(() => {
        released = true;
        range[Symbol.dispose]();
      });
      using other = arena.reserve(4096);
      assert.notEqual(other.offset, range.offset);
      assert.equal(released, false);
      assert.throws(() => arena.reserve(2 ** 33), { code: "ARENA_FULL" });
      assert.equal(released, true);
    });
  });
}

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Arena } from "../../memory/arena.ts";
import { PacketPool } from "./packet-pool.ts";
import { PACKET_WORDS, Packets, PacketWord } from "./packets.ts";

test("whatever is taken and given back, no buffer has two owners and none is lost", () => {
  const arena = Arena.create();
  const step = fc.record({ take: fc.boolean(), count: fc.integer({ min: 1, max: 9 }), shift: fc.nat({ max: 400 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 24 }), (steps, buffers) => {
      using pool = PacketPool.create(arena, { buffers, bufferBytes: 512, headroom: 32 });
      using packets = new Packets(arena, 8);
      // The same stack seen by another thread.
      const other = PacketPool.attach(arena, pool.handle());
      const owned: number[] = [];
      for (const { take, count, shift } of steps) {
        if (take) {
          const taken = pool.takeAll(packets, count);
          assert.equal(taken, Math.min(count, 8, buffers - owned.length));
          for (let i = 0; i < taken; i++) owned.push(packets.words[i * PACKET_WORDS + PacketWord.PLACE] as number);
        } else {
          for (const place of owned.splice(0, count)) other.give(place + shift);
        }
        assert.equal(pool.free, buffers - owned.length);
        assert.equal(new Set(owned.map((place) => Math.floor(place / 512))).size, owned.length);
        assert.ok(owned.every((place) => place % 512 === 32 && place < pool.bytes.length));
      }
    }),
  );
});

test("an empty pool says -1; places outside and buffers given back twice are refused", () => {
  const arena = Arena.create();
  using pool = PacketPool.create(arena, { buffers: 2, bufferBytes: 256, headroom: 0 });
  assert.deepEqual([pool.take(), pool.take(), pool.take()], [0, 256, -1]);
  assert.throws(() => pool.give(-1), { code: "NET_INVALID" });
  assert.throws(() => pool.give(512), { code: "NET_INVALID" });
  pool.give(300);
  pool.give(0);
  assert.throws(() => pool.give(0), { code: "NET_INVALID", message: /given back twice/ });
  const gone = PacketPool.create(arena, { buffers: 2 });
  gone[Symbol.dispose]();
  assert.equal(gone.take(), -1);
  assert.throws(() => gone.give(0), { code: "NET_INVALID", message: /disposed/ });
  for (const bad of [{ bufferBytes: 1500 }, { buffers: 0 }, { headroom: 2000 }, { buffers: 2 ** 21 }]) {
    assert.throws(() => PacketPool.create(arena, bad), { code: "NET_INVALID" });
  }
});

test("frames are views of the pool, and bursts move", () => {
  const arena = Arena.create();
  using pool = PacketPool.create(arena, { buffers: 8 });
  using packets = new Packets(arena, 4);
  pool.takeAll(packets, 4);
  for (let i = 0; i < 4; i++) packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = 60 + i;
  pool.frame(packets, 3).fill(7);
  packets.move(3, 1);
  const frame = pool.frame(packets, 0);
  assert.equal(frame.length, 63);
  assert.ok(frame.every((byte) => byte === 7));
  pool.giveAll(packets, 1);
  pool.giveAll(packets, 2, 1);
  assert.equal(pool.free, 7);
});

test("queues of one device share its mapping, and the last one unmaps", () => {
  const arena = Arena.create();
  using pool = PacketPool.create(arena, { buffers: 8 });
  let mapped = 0;
  const dma = {
    map: () => {
      mapped++;
      return { iova: 0x10000, [Symbol.dispose]: () => void mapped-- };
    },
  } as unknown as Parameters<PacketPool["map"]>[0];
  const first = pool.map(dma);
  const second = pool.map(dma);
  assert.deepEqual([mapped, first.iova, second.iova], [1, 0x10000, 0x10000]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.equal(mapped, 1);
  second[Symbol.dispose]();
  assert.equal(mapped, 0);
  assert.throws(() => PacketPool.attach(arena, pool.handle()).map(dma), { code: "NET_INVALID" });
});

// The driver's rings against devices that are honest, and against devices that lie.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { FakeVirtqueue } from "../../../../../tests/fakes/fake-virtqueue.ts";
import { Arena } from "../../memory/arena.ts";
import type { BufferRing } from "./buffer-ring.ts";
import type { RingKind } from "./queue-place.ts";

const arena = Arena.create();
const IOVA = 0x5_4321_0000;

/** A ring with its device; `limit` is what each buffer takes, 0 where the device only reads. */
function rings(
  kind: RingKind,
  size: number,
  options: { readonly eventIndex?: boolean; readonly limit?: number } = {},
): { readonly device: FakeVirtqueue; readonly ring: BufferRing } & Disposable {
  const device = new FakeVirtqueue(arena, kind, size);
  const ring = device.ring();
  ring.start(options.eventIndex ?? false, options.limit ?? 100);
  return { device, ring, [Symbol.dispose]: () => device[Symbol.dispose]() };
}

const KINDS = ["split", "packed"] as const;

for (const kind of KINDS) {
  test(`${kind}: buffers go and come back in any order, over many wraps, each once`, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...(kind === "split" ? [2, 4, 16] : [2, 3, 7, 16])),
        fc.array(fc.tuple(fc.nat(16), fc.nat(16), fc.nat()), { maxLength: 80 }),
        fc.boolean(),
        (size, rounds, write) => {
          using parts = rings(kind, size, { limit: write ? 1000 : 0 });
          const { ring, device } = parts;
          const held: { id: number; token: number }[] = [];
          const tokens: number[] = [];
          let next = 0;
          for (const [puts, takes, pick] of rounds) {
            for (let i = 0; i < puts && ring.free > 0; i++) {
              const token = next++;
              tokens.push(token);
              ring.put(IOVA + 64 * token, write ? 1000 : token, token);
            }
            assert.equal(
              ring.publish(),
              tokens.length > 0,
              "without the event index a device that says nothing is told",
            );
            for (const { id, iova, length, write: writes } of device.see()) {
              const token = tokens.shift() as number;
              assert.deepEqual([iova, length, writes], [IOVA + 64 * token, write ? 1000 : token, write]);
              held.push({ id, token });
            }
            assert.equal(held.length, size - ring.free);
            for (let i = 0; i < takes && held.length > 0; i++) {
              const [{ id, token }] = held.splice((pick + i) % held.length, 1) as [(typeof held)[number]];
              assert.equal(ring.ready, false);
              assert.equal(ring.take(), -1);
              device.use(id, write ? token % 1000 : 77);
              assert.ok(ring.ready);
              assert.equal(ring.take(), token);
              assert.equal(
                ring.length,
                write ? token % 1000 : 0,
                "of a buffer that it only reads the length is nothing",
              );
            }
          }
          const left: number[] = [];
          ring.drain((token) => left.push(token));
          assert.deepEqual(
            left.sort((a, b) => a - b),
            held.map(({ token }) => token).sort((a, b) => a - b),
          );
          assert.equal(device.problem, undefined);
        },
      ),
      { numRuns: 300 },
    );
  });

  test(`${kind}: with the event index the device is told of what it asked for and nothing else`, () => {
    using parts = rings(kind, 4, { eventIndex: true });
    const { ring, device } = parts;
    const put = (): boolean => {
      ring.put(IOVA, 100, 1);
      return ring.publish();
    };
    for (let round = 0; round < 20; round++) {
      device.see();
      device.wantNext();
      assert.equal(put(), true, `round ${round}`);
      assert.equal(put(), false);
      for (const { id } of device.see()) device.use(id, 1);
      while (ring.take() >= 0);
      // Two at once, across the ring's end in some rounds.
      device.wantNext();
      ring.put(IOVA, 100, 1);
      assert.equal(put(), true, `round ${round}, two at once`);
      for (const { id } of device.see()) device.use(id, 1);
      while (ring.take() >= 0);
      ring.put(IOVA, 100, 1);
      ring.publish();
      for (const { id } of device.see()) device.use(id, 1);
      while (ring.take() >= 0);
    }
  });

  test(`${kind}: a device that lies ends the ring, and crashes nothing`, () => {
    const lies: [string, (device: FakeVirtqueue, id: number) => void, RegExp][] = [
      ["an identifier beyond the ring", (device) => device.use(9999, 1), /buffer 9999, which it does not have/],
      ["a buffer that it does not have", (device, id) => device.use(id ^ 1, 1), /which it does not have/],
      ["a length beyond the buffer", (device, id) => device.use(id, 101), /wrote 101 bytes to a buffer of 100/],
    ];
    for (const [name, lie, problem] of lies) {
      using parts = rings(kind, 4);
      const { ring, device } = parts;
      ring.put(IOVA, 100, 5);
      ring.publish();
      const [{ id } = { id: 0 }] = device.see();
      lie(device, id);
      assert.equal(ring.take(), -1, name);
      assert.match(device.problem ?? "", problem, name);
      assert.equal(ring.ready, false, name);
      const left: number[] = [];
      ring.drain((token) => left.push(token));
      assert.deepEqual(left, [5], "its buffer comes back all the same");
    }
  });

  test(`${kind}: whatever the device writes, no buffer comes back that it does not have`, () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(), fc.nat(0xffff)), { maxLength: 60 }),
        fc.boolean(),
        (writes, eventIndex) => {
          using parts = rings(kind, 4, { eventIndex });
          const { ring } = parts;
          const { view } = parts.device;
          const out = new Set<number>();
          let next = 0;
          for (const [at, value] of writes) {
            while (ring.free > 0) {
              out.add(next);
              ring.put(IOVA, 100, next++);
            }
            ring.publish();
            view.setUint16((at % (view.byteLength / 2)) * 2, value, true);
            for (let token = ring.take(); token >= 0; token = ring.take()) {
              assert.ok(out.delete(token));
              assert.ok(ring.length <= 100);
            }
          }
          ring.drain((token) => assert.ok(out.delete(token)));
          assert.equal(out.size, 0);
        },
      ),
      { numRuns: 500 },
    );
  });
}

test("split: an index that says more than the device has", () => {
  using parts = rings("split", 4);
  const { ring, device } = parts;
  ring.put(IOVA, 100, 5);
  ring.publish();
  device.view.setUint16(device.at(device.addresses.device) + 2, 2, true);
  assert.equal(ring.take(), -1);
  assert.match(device.problem ?? "", /says that it used 2 buffers, where it has 1/);
});

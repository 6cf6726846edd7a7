// The driver's rings against the device's side of devices/virtio, which others wrote, and against devices that lie.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { BufferRing, RingPlace } from "./buffer-ring.ts";
import { PackedRing, packedRingBytes } from "./packed-ring.ts";
import { SplitRing, splitRingBytes } from "./split-ring.ts";

const IOVA = 0x1_2345_0000;

/** Memory of a ring, and the numbers of virtio 1.3 sections 2.7 and 2.8 written out once more. */
function memory(kind: "split" | "packed", size: number, eventIndex: boolean) {
  const bytes = Math.ceil((kind === "split" ? splitRingBytes(size) : packedRingBytes(size)) / 8) * 8;
  const buffer = new SharedArrayBuffer(bytes);
  const place: RingPlace = {
    size,
    words: new Uint32Array(buffer),
    halfwords: new Uint16Array(buffer),
    iova: IOVA,
    eventIndex,
  };
  const ring: BufferRing = kind === "split" ? new SplitRing(place) : new PackedRing(place);
  return { ring, view: new DataView(buffer), at: (iova: number): number => iova - IOVA };
}

interface Device {
  /** Buffers that were made available, in order, that this device has not seen before. */
  see(): { readonly id: number; readonly iova: number; readonly length: number; readonly write: boolean }[];
  use(id: number, length: number): void;
  /** Asks to be notified of the next buffer. */
  wantNext(): void;
}

function splitDevice({ ring, view, at }: ReturnType<typeof memory>): Device {
  const { descriptor, driver, device } = ring.addresses;
  let [seen, used] = [0, 0];
  return {
    see: () => {
      const found = [];
      for (; seen !== view.getUint16(at(driver) + 2, true); seen = (seen + 1) & 0xffff) {
        const id = view.getUint16(at(driver) + 4 + 2 * (seen % ring.size), true);
        const d = at(descriptor) + 16 * id;
        const flags = view.getUint16(d + 12, true);
        found.push({
          id,
          iova: Number(view.getBigUint64(d, true)),
          length: view.getUint32(d + 8, true),
          write: flags === 2,
        });
      }
      return found;
    },
    use: (id, length) => {
      view.setUint32(at(device) + 4 + 8 * (used % ring.size), id, true);
      view.setUint32(at(device) + 8 + 8 * (used % ring.size), length, true);
      used = (used + 1) & 0xffff;
      view.setUint16(at(device) + 2, used, true);
    },
    wantNext: () => view.setUint16(at(device) + 4 + 8 * ring.size, seen, true),
  };
}

function packedDevice({ ring, view, at }: ReturnType<typeof memory>): Device {
  const { descriptor, device } = ring.addresses;
  let [next, wrap, usedAt, usedWrap] = [0, true, 0, true];
  return {
    see: () => {
      const found = [];
      for (;;) {
        const d = at(descriptor) + 16 * next;
        const flags = view.getUint16(d + 14, true);
        if (((flags & 0x80) !== 0) !== wrap || ((flags & 0x8000) !== 0) === wrap) return found;
        const [iova, length] = [Number(view.getBigUint64(d, true)), view.getUint32(d + 8, true)];
        found.push({ id: view.getUint16(d + 12, true), iova, length, write: (flags & 2) !== 0 });
        if (++next === ring.size) [next, wrap] = [0, !wrap];
      }
    },
    use: (id, length) => {
      const d = at(descriptor) + 16 * usedAt;
      view.setUint32(d + 8, length, true);
      view.setUint16(d + 12, id, true);
      view.setUint16(d + 14, usedWrap ? 0x8080 : 0, true);
      if (++usedAt === ring.size) [usedAt, usedWrap] = [0, !usedWrap];
    },
    wantNext: () => {
      view.setUint16(at(device), next | (wrap ? 0x8000 : 0), true);
      view.setUint16(at(device) + 2, 2, true);
    },
  };
}

const KINDS = ["split", "packed"] as const;

for (const kind of KINDS) {
  test(`${kind}: buffers go and come back in any order, over many wraps, each once`, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...(kind === "split" ? [2, 4, 16] : [2, 3, 7, 16])),
        fc.array(fc.tuple(fc.nat(16), fc.nat(16), fc.nat()), { maxLength: 80 }),
        (size, rounds) => {
          const parts = memory(kind, size, false);
          const { ring } = parts;
          const device = kind === "split" ? splitDevice(parts) : packedDevice(parts);
          const held: { id: number; token: number; write: boolean }[] = [];
          const tokens: number[] = [];
          let next = 0;
          for (const [puts, takes, pick] of rounds) {
            for (let i = 0; i < puts && ring.free > 0; i++) {
              const token = next++;
              tokens.push(token);
              ring.put(IOVA + 64 * token, 1000 + (token % 7), token % 2 === 0, token);
            }
            assert.equal(
              ring.publish(),
              tokens.length > 0,
              "without the event index a device that says nothing is told",
            );
            for (const { id, iova, length, write } of device.see()) {
              const token = tokens.shift() as number;
              assert.deepEqual([iova, length, write], [IOVA + 64 * token, 1000 + (token % 7), token % 2 === 0]);
              held.push({ id, token, write });
            }
            assert.equal(held.length, size - ring.free);
            for (let i = 0; i < takes && held.length > 0; i++) {
              const [{ id, token, write }] = held.splice((pick + i) % held.length, 1) as [(typeof held)[number]];
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
          assert.equal(ring.problem, undefined);
        },
      ),
      { numRuns: 300 },
    );
  });

  test(`${kind}: with the event index the device is told of what it asked for and nothing else`, () => {
    const parts = memory(kind, 4, true);
    const { ring } = parts;
    const device = kind === "split" ? splitDevice(parts) : packedDevice(parts);
    const put = (): boolean => {
      ring.put(IOVA, 100, true, 1);
      return ring.publish();
    };
    for (let round = 0; round < 20; round++) {
      device.see();
      device.wantNext();
      assert.equal(put(), true, `round ${round}`);
      assert.equal(put(), false);
      for (const { id } of device.see()) device.use(id, 1);
      while (ring.take() >= 0);
    }
  });

  test(`${kind}: a device that lies ends the ring, and crashes nothing`, () => {
    const lies: [string, (device: Device, id: number) => void, RegExp][] = [
      ["an identifier beyond the ring", (device) => device.use(9999, 1), /buffer 9999, which it does not have/],
      ["a buffer that it does not have", (device, id) => device.use(id ^ 1, 1), /which it does not have/],
      ["a length beyond the buffer", (device, id) => device.use(id, 101), /wrote 101 bytes to a buffer of 100/],
    ];
    for (const [name, lie, problem] of lies) {
      const parts = memory(kind, 4, false);
      const { ring } = parts;
      const device = kind === "split" ? splitDevice(parts) : packedDevice(parts);
      ring.put(IOVA, 100, true, 5);
      ring.publish();
      const [{ id } = { id: 0 }] = device.see();
      lie(device, id);
      assert.equal(ring.take(), -1, name);
      assert.match(ring.problem ?? "", problem, name);
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
          const parts = memory(kind, 4, eventIndex);
          const { ring, view } = parts;
          const out = new Set<number>();
          let next = 0;
          for (const [at, value] of writes) {
            while (ring.free > 0) {
              out.add(next);
              ring.put(IOVA, 100, true, next++);
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
  const parts = memory("split", 4, false);
  parts.ring.put(IOVA, 100, true, 5);
  parts.ring.publish();
  parts.view.setUint16(parts.at(parts.ring.addresses.device) + 2, 2, true);
  assert.equal(parts.ring.take(), -1);
  assert.match(parts.ring.problem ?? "", /says that it used 2 buffers, where it has 1/);
});

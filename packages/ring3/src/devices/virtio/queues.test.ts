// seconds: 3
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../../binary/error.ts";
import { DescriptorChain } from "./descriptor-chain.ts";
import { FakeGuest, FakePackedRing, type FakeRing, FakeSplitRing, type Segment } from "./fake-driver.ts";
import { PackedQueue } from "./packed-queue.ts";
import type { QueueSettings } from "./ring-area.ts";
import { SplitQueue } from "./split-queue.ts";
import type { Virtqueue } from "./virtqueue.ts";

interface Shape {
  readonly packed: boolean;
  readonly size: number;
  readonly eventIndex: boolean;
  readonly remote: boolean;
}

function make(shape: Shape, overrides: Partial<QueueSettings> = {}) {
  const guest = new FakeGuest({ remote: shape.remote, size: 1 << 22 });
  const ring: FakeRing = shape.packed
    ? new FakePackedRing(guest, shape.size, shape)
    : new FakeSplitRing(guest, shape.size, shape);
  const settings = { size: shape.size, ...ring.areas, indirect: true, eventIndex: shape.eventIndex, ...overrides };
  const queue: Virtqueue = shape.packed
    ? new PackedQueue(guest.memory, settings)
    : new SplitQueue(guest.memory, settings);
  return { guest, ring, queue };
}

const anyShape = fc.record({
  packed: fc.boolean(),
  size: fc.constantFrom(1, 2, 4, 8, 32),
  eventIndex: fc.boolean(),
  remote: fc.boolean(),
});

test("whatever buffers go in come out, with their segments, over many turns of the ring", () => {
  const buffer = fc.record({
    readable: fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 4 }),
    writable: fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 4 }),
    indirect: fc.boolean(),
  });
  const steps = fc.array(
    fc.oneof(
      { weight: 4, arbitrary: buffer },
      { weight: 3, arbitrary: fc.constant("pop" as const) },
      { weight: 3, arbitrary: fc.nat({ max: 7 }) },
      { weight: 2, arbitrary: fc.constant("take" as const) },
    ),
    { minLength: 20, maxLength: 200 },
  );
  fc.assert(
    fc.property(anyShape, steps, (shape, actions) => {
      const { guest, ring, queue } = make(shape);
      const mark = guest.mark;
      const expected: { id: number; readable: Segment[]; writable: Segment[] }[] = [];
      const held: { head: number; span: number; capacity: number }[] = [];
      const used: { id: number; length: number }[] = [];
      const chain = new DescriptorChain();
      for (const action of actions) {
        if (action === "pop") {
          const next = expected.shift();
          assert.equal(queue.pop(chain), next !== undefined);
          if (next === undefined) continue;
          assert.equal(chain.head, next.id);
          const segments = [...next.readable, ...next.writable];
          assert.equal(chain.count, segments.length);
          assert.equal(chain.readableCount, next.readable.length);
          for (const [i, { iova, size }] of segments.entries()) {
            assert.equal(chain.addresses[i], iova);
            assert.equal(chain.lengths[i], size);
          }
          assert.equal(
            chain.writableBytes,
            next.writable.reduce((sum, { size }) => sum + size, 0),
          );
          held.push({ head: chain.head, span: chain.span, capacity: chain.writableBytes });
        } else if (action === "take") {
          queue.flush();
          const next = used.shift();
          const taken = ring.take();
          if (next === undefined) assert.equal(taken, undefined);
          else assert.deepEqual(taken, next);
        } else if (typeof action === "number") {
          // Buffers come back in any order.
          const [done] = held.splice(action % Math.max(1, held.length), 1);
          if (done === undefined) continue;
          queue.use(done.head, done.span, done.capacity);
          used.push({ id: done.head, length: done.capacity });
        } else {
          if (action.readable.length + action.writable.length === 0) continue;
          if (guest.mark > 1 << 21) guest.release(mark);
          const readable = action.readable.map((size) => guest.segment(size));
          const writable = action.writable.map((size) => guest.segment(size));
          const id = ring.add(readable, writable, action.indirect);
          if (id !== undefined) expected.push({ id, readable, writable });
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("a driver that sleeps is woken, and a device that was told nothing is notified", () => {
  const plan = fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 3 })), {
    minLength: 30,
    maxLength: 120,
  });
  fc.assert(
    fc.property(anyShape, plan, (shape, batches) => {
      const { guest, ring, queue } = make(shape);
      const target = guest.segment(16);
      const chain = new DescriptorChain();
      ring.armInterrupt();
      assert.equal(queue.rearm(), false);
      for (const [add, batch] of batches) {
        let added = 0;
        for (let i = 0; i < add; i++) if (ring.add([], [target]) !== undefined) added++;
        if (added > 0) assert.equal(ring.wantsNotification(), true, "the device waits for the first buffer");
        while (queue.pop(chain)) {
          queue.use(chain.head, chain.span, 1);
          let more = 1;
          while (more < batch && queue.pop(chain)) {
            queue.use(chain.head, chain.span, 1);
            more++;
          }
          assert.equal(queue.flush(), true, "the driver waits for the first used buffer");
          while (ring.take() !== undefined);
          ring.armInterrupt();
        }
        assert.equal(queue.rearm(), false);
      }
    }),
    { numRuns: 100 },
  );
});

test("event index: nobody is told again before the index that he named", () => {
  for (const packed of [false, true]) {
    const { guest, ring, queue } = make({ packed, size: 8, eventIndex: true, remote: false });
    const target = guest.segment(16);
    const chain = new DescriptorChain();
    ring.armInterrupt();
    queue.rearm();
    ring.add([], [target]);
    assert.equal(ring.wantsNotification(), true);
    ring.add([], [target]);
    assert.equal(ring.wantsNotification(), false, "the device has not asked again");
    queue.pop(chain);
    queue.use(chain.head, chain.span, 0);
    assert.equal(queue.flush(), true);
    queue.pop(chain);
    queue.use(chain.head, chain.span, 0);
    assert.equal(queue.flush(), false, "the driver has not asked again");
    ring.disarmInterrupt();
    ring.add([], [target]);
    queue.pop(chain);
    queue.use(chain.head, chain.span, 0);
    assert.equal(queue.flush(), false);
  }
});

test("counters of 16 bits wrap around, in order and with the event index", () => {
  for (const packed of [false, true]) {
    const { guest, ring, queue } = make({ packed, size: 32, eventIndex: true, remote: false });
    const target = guest.segment(16);
    const chain = new DescriptorChain();
    queue.rearm();
    for (let turn = 0; turn < 7000; turn++) {
      ring.armInterrupt();
      for (let i = 0; i < 10; i++) assert.notEqual(ring.add([], [target]), undefined);
      assert.ok(ring.wantsNotification());
      for (let i = 0; i < 10; i++) {
        assert.ok(queue.pop(chain));
        queue.use(chain.head, chain.span, i);
      }
      assert.ok(queue.flush());
      for (let i = 0; i < 10; i++) assert.equal(ring.take()?.length, i);
      assert.equal(queue.rearm(), false);
    }
  }
});

test("what was taken can be taken back, and a saved position goes on", () => {
  for (const packed of [false, true]) {
    const shape = { packed, size: 4, eventIndex: false, remote: false };
    const { guest, ring, queue } = make(shape);
    const target = guest.segment(16);
    const chain = new DescriptorChain();
    for (let i = 0; i < 11; i++) {
      ring.add([], [target]);
      ring.add([target], [target]);
      const before = queue.position;
      assert.ok(queue.pop(chain));
      const first = chain.head;
      assert.ok(queue.pop(chain));
      queue.rewind(before);
      assert.ok(queue.pop(chain));
      assert.equal(chain.head, first);
      queue.use(chain.head, chain.span, 0);
      queue.flush();
      const settings = { size: 4, ...ring.areas, indirect: true, eventIndex: false };
      const other = packed ? new PackedQueue(guest.memory, settings) : new SplitQueue(guest.memory, settings);
      other.restorePosition(queue.position);
      assert.ok(other.pop(chain));
      other.use(chain.head, chain.span, 3);
      other.flush();
      queue.restorePosition(other.position);
      assert.equal(ring.take()?.id, first);
      assert.deepEqual(ring.take(), { id: chain.head, length: 3 });
      assert.equal(ring.take(), undefined);
    }
  }
});

test("memory that goes away is let go, and found again when it comes back", () => {
  for (const packed of [false, true]) {
    const { guest, ring, queue } = make({ packed, size: 4, eventIndex: false, remote: false });
    const target = guest.segment(16);
    const chain = new DescriptorChain();
    ring.add([], [target]);
    assert.ok(queue.pop(chain));
    guest.memory.unmapAll();
    queue.unmapped(guest.base, guest.bytes.length);
    assert.throws(
      () => queue.pop(chain),
      (error) => isRing3Error(error, "DMA_FAULT"),
    );
    guest.memory.map(guest.base, guest.bytes.length, "read-write", { bytes: guest.bytes });
    queue.use(chain.head, chain.span, 5);
    queue.flush();
    assert.deepEqual(ring.take(), { id: chain.head, length: 5 });
  }
});

const broken = (error: unknown): boolean => isRing3Error(error, "VIRTIO_RING") || isRing3Error(error, "DMA_FAULT");

test("split: each broken rule is found", () => {
  const cases: Record<string, (ring: FakeSplitRing, data: number) => void> = {
    "head out of range": (ring) => ring.publish(8),
    "a loop": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 1, 1);
      ring.writeDescriptor(ring.areas.descriptor + 16, data, 16, 1, 0);
      ring.publish(0);
    },
    "next out of range": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 1, 8);
      ring.publish(0);
    },
    "readable after writable": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 3, 1);
      ring.writeDescriptor(ring.areas.descriptor + 16, data, 16, 0, 0);
      ring.publish(0);
    },
    "indirect with next": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 5, 1);
      ring.publish(0);
    },
    "indirect in indirect": (ring, data) => {
      ring.writeDescriptor(data, data, 16, 4, 0);
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 4, 0);
      ring.publish(0);
    },
    "an indirect table that loops": (ring, data) => {
      ring.writeDescriptor(data, data, 16, 1, 0);
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 4, 0);
      ring.publish(0);
    },
    "an empty table": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 0, 4, 0);
      ring.publish(0);
    },
    "half a descriptor": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 24, 4, 0);
      ring.publish(0);
    },
    "a huge table": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 0xffff_fff0, 4, 0);
      ring.publish(0);
    },
    "a table that is not mapped": (ring) => {
      ring.writeDescriptor(ring.areas.descriptor, 0x10, 16, 4, 0);
      ring.publish(0);
    },
    "an address above 2^53": (ring) => {
      ring.guest.view.setBigUint64(ring.guest.offset(ring.areas.descriptor), 2n ** 63n, true);
      ring.guest.view.setUint32(ring.guest.offset(ring.areas.descriptor) + 8, 1, true);
      ring.publish(0);
    },
    "an index that jumps": (ring) => {
      ring.guest.view.setUint16(ring.guest.offset(ring.areas.driver) + 2, 9, true);
    },
  };
  for (const remote of [false, true]) {
    for (const [name, act] of Object.entries(cases)) {
      const { guest, ring, queue } = make({ packed: false, size: 8, eventIndex: false, remote });
      act(ring as FakeSplitRing, guest.allocate(64));
      assert.throws(() => queue.pop(new DescriptorChain()), broken, name);
    }
  }
});

test("packed: each broken rule is found", () => {
  const cases: Record<string, (ring: FakePackedRing, data: number) => void> = {
    "a chain without end": (ring, data) => {
      for (let i = 0; i < 8; i++) ring.writeDescriptor(ring.areas.descriptor + 16 * i, data, 16, 0, 0x81);
    },
    "readable after writable": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 0, 0x83);
      ring.writeDescriptor(ring.areas.descriptor + 16, data, 16, 0, 0x80);
    },
    "indirect with next": (ring, data) => ring.writeDescriptor(ring.areas.descriptor, data, 16, 0, 0x85),
    "indirect in a chain": (ring, data) => {
      ring.writeDescriptor(ring.areas.descriptor, data, 16, 0, 0x81);
      ring.writeDescriptor(ring.areas.descriptor + 16, data, 16, 0, 0x84);
    },
    "an empty table": (ring, data) => ring.writeDescriptor(ring.areas.descriptor, data, 0, 0, 0x84),
    "a huge table": (ring, data) => ring.writeDescriptor(ring.areas.descriptor, data, 0xffff_fff0, 0, 0x84),
    "a table that is not mapped": (ring) => ring.writeDescriptor(ring.areas.descriptor, 0x10, 16, 0, 0x84),
  };
  for (const [name, act] of Object.entries(cases)) {
    const { guest, ring, queue } = make({ packed: true, size: 8, eventIndex: false, remote: false });
    act(ring as FakePackedRing, guest.allocate(64));
    assert.throws(() => queue.pop(new DescriptorChain()), broken, name);
  }
});

test("buffers beyond the ring's size, while the device holds the others, are refused", () => {
  for (const packed of [false, true]) {
    const { guest, ring, queue } = make({ packed, size: 8, eventIndex: false, remote: false });
    const target = guest.segment(16);
    for (let i = 0; i < 8; i++) ring.add([], [target]);
    const chain = new DescriptorChain();
    for (let i = 0; i < 8; i++) assert.ok(queue.pop(chain));
    assert.equal(queue.pop(chain), false);
    if (ring instanceof FakeSplitRing) ring.publish(0);
    else if (ring instanceof FakePackedRing) ring.writeDescriptor(ring.areas.descriptor, target.iova, 16, 0, 0x8002);
    assert.throws(() => queue.pop(chain), broken);
  }
});

test("indirect descriptors without the feature, and areas out of line, are refused", () => {
  for (const packed of [false, true]) {
    const shape = { packed, size: 8, eventIndex: false, remote: false };
    const { guest, ring, queue } = make(shape, { indirect: false });
    ring.add([guest.segment(4)], [], true);
    assert.throws(() => queue.pop(new DescriptorChain()), broken);
    for (const name of ["descriptor", "driver", "device"] as const) {
      assert.throws(() => make(shape, { [name]: 0x10001 }), broken);
      assert.throws(() => make(shape, { [name]: 2 ** 60 }), broken);
    }
  }
  assert.throws(() => make({ packed: false, size: 8, eventIndex: false, remote: false }, { size: 6 }), broken);
});

test("random bytes in the rings end in buffers or in an error, soon", () => {
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.boolean(),
      fc.uint8Array({ minLength: 512, maxLength: 512 }),
      fc.array(fc.tuple(fc.nat({ max: 31 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 0xffff })), {
        maxLength: 40,
      }),
      (packed, eventIndex, noise, fixes) => {
        const { guest, ring, queue } = make({ packed, size: 16, eventIndex, remote: false });
        const start = guest.offset(ring.areas.descriptor);
        guest.bytes.set(noise.subarray(0, Math.min(512, guest.mark - start)), start);
        // Random words rarely name anything that exists: some descriptors get an address and a length that do.
        for (const [slot, kind, value] of fixes) {
          const at = start + 16 * (slot % 16);
          guest.view.setBigUint64(at, BigInt(guest.base + (value & 0xfff0)), true);
          guest.view.setUint32(at + 8, kind === 0 ? 0 : 16 * kind, true);
          guest.view.setUint16(at + (packed ? 14 : 12), packed ? value & 0x8087 : value & 7, true);
          guest.view.setUint16(at + (packed ? 12 : 14), value & 15, true);
        }
        const chain = new DescriptorChain();
        try {
          for (let i = 0; i < 64; i++) {
            if (!queue.pop(chain)) break;
            assert.ok(chain.count <= 1024);
            queue.use(chain.head, chain.span, 0);
            queue.flush();
            queue.rearm();
          }
        } catch (error) {
          assert.ok(broken(error), String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("split: an index that goes back behind what was taken is refused, and so is a position that cannot be", () => {
  const { guest, ring, queue } = make({ packed: false, size: 8, eventIndex: false, remote: false });
  const chain = new DescriptorChain();
  for (let i = 0; i < 3; i++) ring.add([guest.segment(1)], []);
  assert.ok(queue.pop(chain));
  assert.ok(queue.pop(chain));
  assert.ok(queue.pop(chain));
  guest.view.setUint16(guest.offset(ring.areas.driver) + 2, 1, true);
  assert.throws(
    () => queue.pop(chain),
    (error) => isRing3Error(error, "VIRTIO_RING"),
  );
  assert.throws(
    () => queue.restorePosition({ available: 9, used: 0, held: 9 }),
    (error) => isRing3Error(error, "VIRTIO_RING"),
  );
  queue.restorePosition({ available: 3, used: 0xfffb, held: 8 });
});

// seconds: 1
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { type BlockBacking, type Cancellation, memoryBacking } from "../block-backing.ts";
import { VirtioBlock, type VirtioBlockOptions } from "./block.ts";
import type { Segment } from "./fake-driver.ts";
import { FakeStatus, FakeVirtioDriver } from "./fake-function-driver.ts";

const SECTOR = 512;

function header(type: number, sector = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return bytes;
}

function ranges(...list: readonly (readonly [sector: number, count: number, flags?: number])[]): Uint8Array {
  const bytes = new Uint8Array(16 * list.length);
  const view = new DataView(bytes.buffer);
  for (const [i, [sector, count, flags = 0]] of list.entries()) {
    view.setBigUint64(16 * i, BigInt(sector), true);
    view.setUint32(16 * i + 8, count, true);
    view.setUint32(16 * i + 12, flags, true);
  }
  return bytes;
}

/** Cuts bytes into segments at any places: the device must not care about framing. */
function cut(segment: Segment, places: readonly number[]): Segment[] {
  const ends = [...new Set(places.map((place) => 1 + (place % segment.size)))].sort((a, b) => a - b);
  if (ends.at(-1) !== segment.size) ends.push(segment.size);
  let start = 0;
  return ends.map((end) => {
    const part = { iova: segment.iova + start, size: end - start };
    start = end;
    return part;
  });
}

class Disk {
  readonly device: VirtioBlock;
  readonly driver: FakeVirtioDriver;
  readonly #waiting = new Map<string, (length: number) => void>();

  constructor(options: VirtioBlockOptions, remote = false) {
    this.device = new VirtioBlock(options);
    this.driver = new FakeVirtioDriver(this.device, { remote });
  }

  /** Submits a request; resolves with its status once it is used. */
  submit(
    out: Uint8Array,
    inBytes: number,
    { queue = 0, indirect = false, cuts = [] as readonly number[], notify = true } = {},
  ): { readonly done: Promise<number>; readonly data: Uint8Array; readonly writable: Segment } {
    const { guest } = this.driver;
    const readable = guest.put(out);
    const writable = guest.segment(inBytes + 1);
    guest.at(writable).fill(0xee);
    const id = this.driver.ring(queue).add(cut(readable, cuts), cut(writable, cuts), indirect);
    assert.notEqual(id, undefined, "the ring is full");
    const done = new Promise<number>((resolve) =>
      this.#waiting.set(`${queue}.${id}`, () => resolve(guest.at(writable)[inBytes] as number)),
    );
    if (notify) this.driver.notify(queue);
    this.collect();
    return { done, data: guest.at({ iova: writable.iova, size: inBytes }), writable };
  }

  collect(): void {
    for (const [queue, ring] of this.driver.rings.entries()) {
      for (let used = ring.take(); used !== undefined; used = ring.take()) {
        const key = `${queue}.${used.id}`;
        this.#waiting.get(key)?.(used.length);
        this.#waiting.delete(key);
      }
      ring.armInterrupt();
    }
  }

  /** Submits, and collects at every interrupt until it is done. */
  async run(
    out: Uint8Array,
    inBytes: number,
    options: { queue?: number; indirect?: boolean; cuts?: readonly number[] } = {},
  ) {
    const request = this.submit(out, inBytes, options);
    let finished = false;
    void request.done.then(() => {
      finished = true;
    });
    await Promise.resolve();
    while (!finished) {
      await this.driver.interrupt();
      this.collect();
      await Promise.resolve();
    }
    return { status: await request.done, data: request.data };
  }
}

/** A backing that answers when it is told to. */
class SlowBacking implements BlockBacking {
  readonly inner: BlockBacking & { readonly contents: Uint8Array };
  readonly sizeBytes: number;
  readonly pending: {
    readonly act: () => void;
    readonly resolve: () => void;
    readonly reject: (error: Error) => void;
  }[] = [];
  flushes = 0;

  constructor(size: number) {
    this.inner = memoryBacking(size);
    this.sizeBytes = size;
  }

  #later(act: () => void): Promise<void> {
    return new Promise((resolve, reject) => this.pending.push({ act, resolve, reject }));
  }

  read(offset: number, target: Uint8Array, cancellation?: Cancellation): Promise<void> {
    return this.#later(() => {
      if (!cancellation?.aborted) void this.inner.read(offset, target);
    });
  }
  write(offset: number, source: Uint8Array): Promise<void> {
    const copy = source.slice();
    return this.#later(() => void this.inner.write(offset, copy));
  }
  flush(): Promise<void> {
    return this.#later(() => void this.flushes++);
  }

  /** Ends one operation, the oldest by default. */
  finish(index = 0, error?: Error): void {
    const [operation] = this.pending.splice(index, 1);
    if (operation === undefined) throw new Error("nothing is pending");
    if (error !== undefined) operation.reject(error);
    else {
      operation.act();
      operation.resolve();
    }
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("a request is laid out as section 5.2.6 says, byte by byte", async () => {
  const backing = memoryBacking(8 * SECTOR);
  backing.contents.fill(0x5a, SECTOR, 2 * SECTOR);
  const disk = new Disk({ backing, serial: "ring3-serial" });
  disk.driver.start({ features: [2, 9, 28] });
  const read = await disk.run(header(0, 1), SECTOR);
  assert.deepEqual([read.status, read.data[0], read.data[511]], [0, 0x5a, 0x5a]);
  const data = new Uint8Array(16 + SECTOR).fill(0xc3);
  data.set(header(1, 3));
  assert.equal((await disk.run(data, 0)).status, 0);
  assert.ok(backing.contents.subarray(3 * SECTOR, 4 * SECTOR).every((byte) => byte === 0xc3));
  assert.equal((await disk.run(header(4), 0)).status, 0);
  const id = await disk.run(header(8), 20);
  assert.equal(new TextDecoder().decode(id.data), "ring3-serial\0\0\0\0\0\0\0\0");
  assert.equal((await disk.run(header(10), 6)).status, 2, "GET_LIFETIME was not offered");
  assert.equal((await disk.run(header(0x7777), 0)).status, 2);
});

test("the configuration says what was asked for", () => {
  const { driver } = new Disk({ backing: memoryBacking(1 << 20), blockSize: 4096, queues: 4, queueSize: 64 });
  assert.equal(driver.readConfig(0, 4), 2048);
  assert.equal(driver.readConfig(8, 4), 65536);
  assert.equal(driver.readConfig(12, 4), 62);
  assert.equal(driver.readConfig(20, 4), 4096);
  assert.equal(driver.readConfig(32, 1), 1);
  assert.equal(driver.readConfig(34, 2), 4);
  assert.equal(driver.readConfig(44, 4), 8);
  const offered = driver.offered();
  for (const feature of [1, 2, 6, 9, 10, 11, 12, 13, 14]) assert.ok(offered.has(feature), `feature ${feature}`);
  assert.ok(!offered.has(5));
  const readOnly = new Disk({ backing: memoryBacking(1 << 20), readOnly: true }).driver.offered();
  assert.ok(readOnly.has(5) && !readOnly.has(12) && !readOnly.has(13) && !readOnly.has(14));
});

test("what cannot be a disk is refused", () => {
  const backing = memoryBacking(1 << 20);
  for (const options of [
    { queues: 17 },
    { queues: 0 },
    { blockSize: 1000 },
    { serial: "x".repeat(21) },
    { queueSize: 12 },
    { queueSize: 2.5 },
  ]) {
    assert.throws(
      () => new VirtioBlock({ backing, ...options }),
      (error) => isRing3Error(error, "VIRTIO_OPTION"),
    );
  }
  assert.throws(
    () => new VirtioBlock({ backing: memoryBacking(100) }),
    (error) => isRing3Error(error, "BACKING_INVALID"),
  );
});

test("any mixture of reads, writes, zeroes and discards leaves the bytes of a plain array", async () => {
  const sectors = 64;
  const operation = fc.record({
    kind: fc.constantFrom("read", "write", "zero", "discard", "flush"),
    sector: fc.nat({ max: sectors + 2 }),
    count: fc.integer({ min: 0, max: 9 }),
    fill: fc.nat({ max: 255 }),
    cuts: fc.array(fc.nat({ max: 5000 }), { maxLength: 5 }),
    indirect: fc.boolean(),
    queue: fc.nat({ max: 1 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.record({ packed: fc.boolean(), eventIndex: fc.boolean(), remote: fc.boolean(), inOrder: fc.boolean() }),
      fc.array(operation, { maxLength: 30 }),
      async (shape, operations) => {
        const expected = new Uint8Array(sectors * SECTOR);
        const disk = new Disk(
          { backing: memoryBacking(sectors * SECTOR), queues: 2, inOrder: true, queueSize: 32 },
          shape.remote,
        );
        const features = [
          9,
          12,
          13,
          14,
          28,
          ...(shape.packed ? [34] : []),
          ...(shape.eventIndex ? [29] : []),
          ...(shape.inOrder ? [35] : []),
        ];
        disk.driver.start({ features });
        const mark = disk.driver.guest.mark;
        for (const { kind, sector, count, fill, cuts, indirect, queue } of operations) {
          const inside = sector + count <= sectors;
          const [from, to] = [sector * SECTOR, (sector + count) * SECTOR];
          const options = { cuts, indirect, queue };
          disk.driver.guest.release(mark);
          if (kind === "read") {
            const { status, data } = await disk.run(header(0, sector), count * SECTOR, options);
            assert.equal(status, inside ? 0 : 1);
            if (inside) assert.deepEqual(data, expected.subarray(from, to));
          } else if (kind === "write") {
            const out = new Uint8Array(16 + count * SECTOR).fill(fill);
            out.set(header(1, sector));
            assert.equal((await disk.run(out, 0, options)).status, inside ? 0 : 1);
            if (inside) expected.fill(fill, from, to);
          } else if (kind === "flush") {
            assert.equal((await disk.run(header(4), 0, options)).status, 0);
          } else {
            const out = new Uint8Array(32);
            out.set(header(kind === "zero" ? 13 : 11));
            out.set(ranges([sector, count, kind === "zero" ? fill & 1 : 0]), 16);
            assert.equal((await disk.run(out, 0, options)).status, inside ? 0 : 1);
            if (inside) expected.fill(0, from, to);
          }
        }
        const all = await disk.run(header(0, 0), sectors * SECTOR);
        assert.deepEqual(all.data, expected);
        disk.device.disconnect();
      },
    ),
    { numRuns: 60 },
  );
});

test("discards and zeroes: unknown flags, too many ranges, half a range, the disk's end", async () => {
  const backing = memoryBacking(16 * SECTOR);
  backing.contents.fill(1);
  const disk = new Disk({ backing });
  disk.driver.start({ features: [9, 13, 14, 28] });
  const run = async (type: number, content: Uint8Array): Promise<number> => {
    const out = new Uint8Array(16 + content.length);
    out.set(header(type));
    out.set(content, 16);
    return (await disk.run(out, 0)).status;
  };
  assert.equal(await run(11, ranges([0, 1, 1])), 2, "discard takes no unmap flag");
  assert.equal(await run(13, ranges([0, 1, 2])), 2);
  assert.equal(await run(13, ranges([15, 1], [15, 2])), 1);
  assert.equal(await run(11, ranges(...Array.from({ length: 65 }, () => [0, 1] as const))), 1);
  assert.equal(await run(11, ranges([0, 1]).subarray(0, 8)), 1);
  assert.equal(await run(11, new Uint8Array()), 1);
  assert.ok(
    backing.contents.every((byte) => byte === 1),
    "nothing was touched",
  );
  assert.equal(await run(13, ranges([1, 2], [8, 1, 1])), 0);
  const zero = Array.from({ length: 16 }, (_, i) => backing.contents[i * SECTOR] === 0);
  assert.deepEqual(
    zero.flatMap((is, i) => (is ? [i] : [])),
    [1, 2, 8],
  );
});

test("a read-only disk stays as it is", async () => {
  const backing = memoryBacking(8 * SECTOR);
  const disk = new Disk({ backing, readOnly: true });
  disk.driver.start();
  const out = new Uint8Array(16 + SECTOR).fill(1);
  out.set(header(1, 0));
  assert.equal((await disk.run(out, 0)).status, 1);
  out.set(header(13));
  assert.equal((await disk.run(out, 0)).status, 2);
  assert.ok(backing.contents.every((byte) => byte === 0));
});

test("slow backings answer in any order; in order where that was negotiated", async () => {
  for (const inOrder of [false, true]) {
    const backing = new SlowBacking(8 * SECTOR);
    const disk = new Disk({ backing, inOrder: true });
    disk.driver.start({ features: [9, 28, ...(inOrder ? [35] : [])] });
    const finished: number[] = [];
    for (const sector of [0, 1, 2]) {
      void disk.submit(header(0, sector), SECTOR).done.then(() => finished.push(sector));
    }
    assert.equal(backing.pending.length, 3);
    for (const index of [2, 1, 0]) {
      backing.finish(index);
      await settle();
      disk.collect();
      await settle();
    }
    assert.deepEqual(finished, inOrder ? [0, 1, 2] : [2, 1, 0]);
  }
});

test("an operation that fails is an error of its request only", async () => {
  const backing = new SlowBacking(8 * SECTOR);
  const disk = new Disk({ backing });
  disk.driver.start({ features: [9] });
  const request = disk.submit(header(0, 0), SECTOR);
  backing.finish(0, new Ring3Error("SYSTEM_CALL", "pread: EIO"));
  await settle();
  disk.collect();
  assert.equal(await request.done, 1);
  const throwing = new Disk({
    backing: {
      ...memoryBacking(8 * SECTOR),
      write() {
        throw new Error("no room");
      },
    },
  });
  throwing.driver.start({ features: [9] });
  const out = new Uint8Array(16 + SECTOR);
  out.set(header(1, 0));
  assert.equal((await throwing.run(out, 0)).status, 1);
  assert.equal(throwing.driver.status, 15);
  assert.equal(throwing.device.statistics.errors, 1);
});

test("a reset in flight: late answers touch nothing, and nothing new starts before them", async () => {
  const ways = ["status", "queue", "flr", "vanish"] as const;
  for (const [way, remote] of ways.flatMap((name) => [[name, false] as const, [name, true] as const])) {
    const backing = new SlowBacking(8 * SECTOR);
    backing.inner.contents.fill(7);
    const disk = new Disk({ backing }, remote);
    disk.driver.start({ features: [9, 40], queueSize: 8 });
    const first = disk.submit(header(0, 0), SECTOR);
    assert.equal(backing.pending.length, 1);
    let { driver } = disk;
    if (way === "status") driver.status = 0;
    else if (way === "queue") {
      driver.writeCommon(0x16, 2, 0);
      driver.writeCommon(0x3a, 2, 1);
      driver.setUpQueue(0, new Set([32, 40]), 8);
    } else if (way === "flr") disk.device.resetForUser();
    else {
      disk.device.disconnect();
      driver = new FakeVirtioDriver(disk.device);
    }
    if (way === "flr") driver.busMaster(true);
    if (way !== "queue") driver.start({ features: [9, 40], queueSize: 8 });
    const again = driver.guest.put(header(0, 1));
    const target = driver.guest.segment(SECTOR + 1);
    driver.ring(0).add([again], [target]);
    driver.notify(0);
    assert.equal(backing.pending.length, 1, `${way}: the new request waits`);
    backing.finish();
    await settle();
    await settle();
    assert.ok(
      first.data.every((byte) => byte === 0xee),
      `${way}: the old one is not answered`,
    );
    assert.equal(driver.ring(0).take(), undefined);
    assert.equal(backing.pending.length, 1, `${way}: the new one has started`);
    backing.finish();
    await settle();
    assert.equal(driver.ring(0).take()?.length, SECTOR + 1);
    assert.equal(driver.guest.at(target)[0], 7);
  }
});

test("memory that goes away under a request: it fails, and nothing is written there", async () => {
  const backing = new SlowBacking(8 * SECTOR);
  backing.inner.contents.fill(7);
  const disk = new Disk({ backing });
  disk.driver.start({ features: [9] });
  const extra = new Uint8Array(4096);
  disk.driver.fn.memory.map(2 ** 32, 4096, "read-write", { bytes: extra });
  const { guest } = disk.driver;
  const status = guest.segment(1);
  disk.driver.ring(0).add([guest.put(header(0, 0))], [{ iova: 2 ** 32, size: SECTOR }, status]);
  disk.driver.notify(0);
  disk.driver.fn.memory.unmap(2 ** 32, 4096);
  backing.finish();
  await settle();
  assert.ok(extra.every((byte) => byte === 0));
  assert.equal(guest.at(status)[0], 1);
  disk.collect();
  const next = disk.submit(header(0, 0), SECTOR);
  backing.finish();
  await settle();
  disk.collect();
  assert.equal(await next.done, 0);
  assert.equal(next.data[0], 7);
});

test("a driver that relies on stable writes gets a flush with each", async () => {
  const out = new Uint8Array(16 + SECTOR);
  out.set(header(1, 0));
  for (const [features, writeback, flushes] of [
    [[], undefined, 1],
    [[9], undefined, 0],
    [[11], undefined, 1],
    [[9, 11], 1, 0],
    [[9, 11], 0, 1],
  ] as const) {
    let count = 0;
    const backing: BlockBacking = { ...memoryBacking(8 * SECTOR), flush: () => void count++ };
    const disk = new Disk({ backing });
    disk.driver.start({ features });
    if (writeback !== undefined) disk.driver.writeConfig(32, 1, writeback);
    assert.equal((await disk.run(out, 0)).status, 0);
    assert.equal(count, flushes, `features ${features.join(", ")}, writeback ${writeback}`);
  }
});

test("a request without room for header or status, or larger than allowed", async () => {
  for (const [readable, writable] of [
    [8, 1],
    [16, 0],
    [0, 17],
  ] as const) {
    const disk = new Disk({ backing: memoryBacking(8 * SECTOR) });
    disk.driver.start();
    const { guest } = disk.driver;
    disk.driver
      .ring(0)
      .add(readable > 0 ? [guest.segment(readable)] : [], writable > 0 ? [guest.segment(writable)] : []);
    disk.driver.notify(0);
    assert.equal(disk.driver.status, 15 | FakeStatus.NEEDS_RESET);
  }
  const disk = new Disk({ backing: memoryBacking(64 << 20) });
  disk.driver.start();
  const { guest } = disk.driver;
  const block = guest.segment(1 << 20);
  const status = guest.segment(1);
  disk.driver
    .ring(0)
    .add(
      [guest.put(header(0, 0))],
      [...Array.from({ length: 17 }, () => block), { iova: block.iova, size: 511 }, { iova: status.iova - 1, size: 2 }],
    );
  disk.driver.notify(0);
  assert.equal(guest.at(status)[0], 1);
});

test("a long burst is served in turns, and nobody is forgotten", async () => {
  const disk = new Disk({ backing: memoryBacking(8 * SECTOR), queueSize: 1024 });
  disk.driver.start({ features: [9, 28] });
  const { guest } = disk.driver;
  const readable = guest.put(header(4));
  const writable = guest.segment(1);
  for (let i = 0; i < 1024; i++) disk.driver.ring(0).add([readable], [writable], true);
  disk.driver.notify(0);
  let taken = 0;
  const take = (): void => {
    while (disk.driver.ring(0).take() !== undefined) taken++;
  };
  take();
  assert.ok(taken > 0 && taken < 1024, `${taken} at once`);
  for (let turns = 0; taken < 1024 && turns < 20; turns++) {
    await settle();
    take();
  }
  assert.equal(taken, 1024);
});

/** A second disk that goes on where `disk` stopped, over the same guest. */
function moved(disk: Disk, state: Uint8Array, options: VirtioBlockOptions): VirtioBlock {
  const { guest } = disk.driver;
  const target = new VirtioBlock(options);
  target.restore(state);
  target.connect({ name: "the destination" });
  target.memory.map(guest.base, guest.bytes.length, "read-write", { bytes: guest.bytes });
  // A client that finds kept state says so by writing COMMAND.
  target.config.write(4, 2, 6);
  return target;
}

test("a function that is moved goes on elsewhere: what was under way ends before, or is done again", async () => {
  for (const way of ["suspended", "vanished"] as const) {
    for (const packed of [false, true]) {
      for (const inOrder of [false, true]) {
        const slow = new SlowBacking(8 * SECTOR);
        slow.inner.contents.fill(7);
        const disk = new Disk({ backing: slow, inOrder: true });
        disk.driver.start({
          features: [9, 28, ...(packed ? [34] : []), ...(inOrder ? [35] : [])],
          queueSize: 8,
          interrupts: "intx",
        });
        const first = disk.submit(header(0, 0), SECTOR, { indirect: true });
        const second = disk.submit(header(0, 1), SECTOR);
        slow.finish(1);
        await settle();
        if (way === "suspended") {
          const suspended = disk.device.suspend();
          const late = disk.submit(header(0, 2), SECTOR);
          assert.equal(slow.pending.length, 1, "nothing new begins");
          slow.finish();
          await suspended;
          disk.collect();
          assert.deepEqual([await first.done, await second.done], [0, 0]);
          moved(disk, disk.device.save(), { backing: slow.inner, inOrder: true });
          await settle();
          disk.collect();
          assert.equal(await late.done, 0);
          assert.ok(late.data.every((byte) => byte === 7));
        } else {
          disk.driver.busMaster(false);
          const state = disk.device.save();
          slow.finish();
          await settle();
          assert.ok(
            first.data.every((byte) => byte === 0xee),
            "nothing is written without bus mastering",
          );
          moved(disk, state, { backing: slow.inner, inOrder: true });
          await settle();
          disk.collect();
          assert.deepEqual([await first.done, await second.done], [0, 0]);
          assert.ok(first.data.every((byte) => byte === 7));
          assert.ok(second.data.every((byte) => byte === 7));
        }
      }
    }
  }
});

test("backings are asked for whole sectors only, and a smaller disk at the new place is shown as such", async () => {
  const inner = memoryBacking(8 * SECTOR);
  const check = (offset: number, bytes: Uint8Array): void => {
    assert.equal(offset % SECTOR, 0);
    assert.equal(bytes.length % SECTOR, 0);
  };
  const backing: BlockBacking = {
    ...inner,
    read(offset, target) {
      check(offset, target);
      return inner.read(offset, target);
    },
    write(offset, source) {
      check(offset, source);
      return inner.write(offset, source);
    },
  };
  const disk = new Disk({ backing });
  disk.driver.start({ features: [9] });
  const out = new Uint8Array(16 + 2 * SECTOR).fill(5);
  out.set(header(1, 1));
  assert.equal((await disk.run(out, 0, { cuts: [3, 15, 100, 600] })).status, 0);
  const { data } = await disk.run(header(0, 1), 2 * SECTOR, { cuts: [10, 511, 700] });
  assert.ok(data.every((byte, i) => byte === (i < 2 * SECTOR ? 5 : 0)));
  const smaller = new VirtioBlock({ backing: memoryBacking(4 * SECTOR) });
  smaller.restore(disk.device.save());
  const { guest } = disk.driver;
  smaller.connect({ name: "the destination" });
  smaller.memory.map(guest.base, guest.bytes.length, "read-write", { bytes: guest.bytes });
  assert.equal(smaller.barRead32(0, 0x2000), 4);
});

test("a state of another kind is refused", () => {
  const disk = new Disk({ backing: memoryBacking(8 * SECTOR), queues: 2 });
  disk.driver.start();
  const state = disk.device.save();
  const other = new VirtioBlock({ backing: memoryBacking(8 * SECTOR) });
  assert.throws(
    () => other.restore(state),
    (error) => isRing3Error(error),
  );
  const same = new VirtioBlock({ backing: memoryBacking(8 * SECTOR), queues: 2 });
  same.restore(state);
  assert.equal(same.deviceStatus, 15);
  fc.assert(
    fc.property(fc.nat({ max: state.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
      const broken = state.slice();
      broken[at] = byte;
      try {
        same.restore(broken);
      } catch (error) {
        assert.ok(isRing3Error(error), String(error));
      }
    }),
    { numRuns: 300 },
  );
});

test("the line is up at the new place too, where nobody has read ISR status yet", async () => {
  const options = { backing: memoryBacking(8 * SECTOR) };
  const disk = new Disk(options);
  disk.driver.start({ features: [9], queueSize: 8, interrupts: "intx" });
  const request = disk.submit(header(0, 0), SECTOR);
  assert.equal(await request.done, 0);
  assert.equal(disk.device.interrupts.asserted, true);
  const target = moved(disk, disk.device.save(), options);
  assert.equal(target.interrupts.asserted, true);
  assert.equal(target.config.read(6, 2) & 8, 8, "Interrupt Status");
  assert.equal(target.barRead(0, 0x1000, 1), 1, "the cause came along");
  assert.equal(target.interrupts.asserted, false);
});

test("a queue that is reset while its request is being served gets nothing back", async () => {
  for (const later of [false, true]) {
    const inner = memoryBacking(8 * SECTOR);
    let resetQueue: (() => void) | undefined;
    const backing: BlockBacking = {
      ...inner,
      read: (offset, target) => {
        void inner.read(offset, target);
        resetQueue?.();
        return later ? Promise.resolve() : undefined;
      },
    };
    const disk = new Disk({ backing });
    disk.driver.start({ features: [9, 40], queueSize: 8 });
    resetQueue = () => {
      disk.driver.writeCommon(0x16, 2, 0);
      disk.driver.writeCommon(0x3a, 2, 1);
    };
    const { writable } = disk.submit(header(0, 0), SECTOR);
    await settle();
    assert.equal(disk.driver.guest.at(writable)[SECTOR], 0xee, "the driver's buffer is its own again");
    assert.equal(disk.device.deviceStatus & FakeStatus.NEEDS_RESET, 0);
  }
});

test("a driver may ask for no more at once than the disk does", () => {
  for (const queueSize of [4, 256, 1024]) {
    const disk = new Disk({ backing: memoryBacking(SECTOR), queueSize });
    const mostBytes = disk.driver.readConfig(8, 4) * disk.driver.readConfig(12, 4);
    assert.ok(mostBytes <= 16 * 2 ** 20, `${mostBytes} bytes with queues of ${queueSize}`);
  }
});

// Devices in process against drivers that do anything: any register at any time, queues full of nonsense, memory that
// comes and goes, states that were tampered with. No access throws or takes long, and DMA stays inside the maps.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import { Arena } from "../../packages/ring3/src/memory/arena.ts";
import type { BarIndex } from "../../packages/ring3/src/pci/function.ts";
import type { VirtualFunction } from "../../packages/ring3/src/virtual/index.ts";
import { makeDevices } from "./device-set.ts";
import { putDeviceData } from "./driver-data.ts";
import { FILE_BYTES, GUARD_BYTES, GUARD_PATTERN, IOVA_BASE, READ_ONLY, WRITABLE } from "./guarded-memory.ts";
import { Random } from "./random.ts";
import { SEED, scaled } from "./scale.ts";

/** Far more than an access takes; a loaded machine may stop us in the midst of one. */
const ACCESS_MS = 1000;
const RUNS = scaled(600, 40_000);

interface Operation {
  readonly kind: keyof typeof operations;
  readonly at: number;
  readonly value: number;
}

/** What an operation works on. */
interface Scene {
  readonly device: string;
  readonly fn: VirtualFunction;
  readonly bytes: Uint8Array;
  readonly random: Random;
}

const CONNECTABLE = ["intx", "msi", "msix", "error", "request"] as const;

function mapWindow({ fn, bytes }: Scene, window: typeof WRITABLE, byMessage: boolean): void {
  const view = bytes.subarray(window.offset, window.offset + window.size);
  const backing = byMessage
    ? {
        transfer: {
          read: (offset: number, target: Uint8Array) => target.set(view.subarray(offset, offset + target.length)),
          write: (offset: number, source: Uint8Array) => view.set(source, offset),
        },
      }
    : { bytes: view };
  const permission = window === WRITABLE ? "read-write" : "read";
  try {
    fn.memory.map(IOVA_BASE + window.offset, window.size, permission, backing);
  } catch (error) {
    if (!isRing3Error(error)) throw error;
  }
}

function registerAt(at: number): number {
  const places = [at % 0x40, 0x1000 + (at % 0x40), 0x3000 + (at % 0x20), 0x80 + (at % 0x20), at % 0x8000];
  return places[at % places.length] as number;
}

const operations = {
  write: ({ fn }: Scene, at: number, value: number): void => {
    const source = new Uint8Array([4, 4, 4, 4, 8, 2, 1, 3, 64][at % 9] as number);
    new DataView(source.buffer).setUint8(0, value & 0xff);
    if (source.length >= 4) new DataView(source.buffer).setUint32(0, value, true);
    fn.writeBar(0, registerAt(at), source);
  },
  read: ({ fn }: Scene, at: number, value: number): void =>
    void fn.readBar(
      (value % 6) as BarIndex,
      registerAt(at),
      new Uint8Array([4, 4, 8, 1, 2, 64, 4096][at % 7] as number),
    ),
  word: ({ fn }: Scene, at: number, value: number): void => fn.barWrite(0, registerAt(at) & ~3, 4, value),
  config: ({ fn }: Scene, at: number, value: number): void =>
    fn.config.write(at % 3 === 0 ? 4 : at % fn.config.size, ([1, 2, 4] as const)[at % 3] as 1 | 2 | 4, value),
  master: ({ fn }: Scene): void => fn.config.write(4, 2, 7),
  map: (scene: Scene, at: number): void => mapWindow(scene, at % 2 === 0 ? WRITABLE : READ_ONLY, at % 3 === 0),
  unmap: ({ fn }: Scene, at: number): void =>
    void (at % 2 === 0 ? fn.memory.unmapAll() : fn.memory.unmap(IOVA_BASE + WRITABLE.offset, WRITABLE.size)),
  scribble: ({ device, bytes, random }: Scene): void =>
    putDeviceData(
      device,
      bytes.subarray(WRITABLE.offset, WRITABLE.offset + WRITABLE.size),
      random,
      IOVA_BASE + WRITABLE.offset,
    ),
  connect: ({ fn }: Scene, at: number, value: number): void => {
    const kind = CONNECTABLE[at % CONNECTABLE.length] as (typeof CONNECTABLE)[number];
    const { intx, msi, msix } = fn.interrupts.available;
    const count = { intx, msi, msix, error: 1, request: 1 }[kind];
    if (count === 0) return;
    fn.interrupts.connect(kind, value % count, { signal: () => undefined });
  },
  disconnect: ({ fn }: Scene, at: number): void =>
    fn.interrupts.disconnect(CONNECTABLE[at % CONNECTABLE.length] as (typeof CONNECTABLE)[number]),
  reset: ({ fn }: Scene, at: number): void =>
    void (at % 2 === 0 ? fn.resetForUser() : fn.reset((["flr", "conventional", "d3hot"] as const)[at % 3] ?? "flr")),
  poll: ({ fn }: Scene): void => void fn.runPoll(),
  turn: (): Promise<void> => new Promise((resolve) => setImmediate(resolve)),
  pause: ({ fn }: Scene, at: number): void => (at % 3 === 0 ? fn.pause() : fn.resume()),
  restore: ({ fn }: Scene, at: number, value: number): void => {
    const state = fn.save();
    for (let i = 0; i < at % 4; i++) state[(at * 7919 + i * value) % state.length] = (value >>> (8 * i)) & 0xff;
    try {
      fn.restore(at % 16 === 0 ? state.subarray(0, value % state.length) : state);
    } catch (error) {
      if (!isRing3Error(error)) throw error;
    }
  },
} as const;

/** What a driver does to get the device going; see `arbitraries.ts`, which does the same by messages. */
const page = (index: number): number => IOVA_BASE + WRITABLE.offset + 4096 * index;
const BEGINNINGS: Readonly<Record<string, readonly (readonly [offset: number, width: 1 | 2 | 4, value: number])[]>> = {
  edu: [
    [0x80, 4, page(3)],
    [0x88, 4, 0x40000],
    [0x90, 4, 4096],
    [0x98, 4, 1],
  ],
  nvme: [
    [0x24, 4, 0x000f_000f],
    [0x28, 4, page(0)],
    [0x30, 4, page(1)],
    [0x14, 4, 0x0046_0001],
    [0x1000, 4, 4],
    [0x1000, 4, 12],
    [0x1008, 4, 12],
  ],
  virtio: [
    [0x14, 1, 0],
    [0x14, 1, 3],
    [0x08, 4, 1],
    [0x0c, 4, 1],
    [0x14, 1, 11],
    ...[0, 1, 2].flatMap(
      (queue) =>
        [
          [0x16, 2, queue],
          [0x18, 2, 16],
          [0x20, 4, page(queue)],
          [0x28, 4, page(queue + 4)],
          [0x30, 4, page(queue + 8)],
          [0x1c, 2, 1],
        ] as const,
    ),
    [0x14, 1, 15],
    [0x3000, 2, 0],
    [0x3004, 2, 1],
    [0x3008, 2, 2],
  ],
};

function begin(scene: Scene, byMessage: boolean): void {
  const { fn, device } = scene;
  mapWindow(scene, WRITABLE, byMessage);
  mapWindow(scene, READ_ONLY, byMessage);
  operations.scribble(scene);
  operations.master(scene);
  const kind = device.startsWith("nvme") ? "nvme" : device.startsWith("virtio") ? "virtio" : device;
  for (const [offset, width, value] of BEGINNINGS[kind] ?? []) {
    fn.barWrite(0, offset, width, value);
    // Doorbells in memory: the device has to look, and takes a little at a time.
    for (let i = 0; i < 20 && fn.runPoll() > 0; i++);
  }
}

const kinds = Object.keys(operations) as (keyof typeof operations)[];
const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.oneof(
    {
      arbitrary: fc.constantFrom<keyof typeof operations>("write", "write", "word", "word", "read", "poll", "turn"),
      weight: 4,
    },
    { arbitrary: fc.constantFrom(...kinds), weight: 1 },
  ),
  at: fc.nat(0xffff),
  value: fc.oneof(
    fc.nat(40),
    fc.nat(60).map(page),
    fc.constantFrom(0x0046_0001, 0, 1, 0xf, 0xffff_ffff, 0x0406, 0x000f_000f),
    fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  ),
});

for (const device of ["edu", "nvme", "nvme-polled", "virtio-blk", "virtio-net"]) {
  test(`${device}: a hostile driver, ${RUNS} times (seed ${SEED})`, async (t) => {
    // Of its own, so that devices that are left alone do not fill the thread's.
    const arena = Arena.create();
    let worstMs = 0;
    let faults = 0;
    const fn = makeDevices(arena).get(device) as VirtualFunction;
    const property = fc.asyncProperty(
      fc.array(operation, { minLength: 1, maxLength: 40 }),
      fc.nat(2),
      fc.integer(),
      async (list, prepared, seed) => {
        const bytes = new Uint8Array(FILE_BYTES);
        const guard = Buffer.alloc(GUARD_BYTES, GUARD_PATTERN);
        const guards = [0, GUARD_BYTES + WRITABLE.size, FILE_BYTES - GUARD_BYTES];
        for (const at of guards) bytes.set(guard, at);
        const scene: Scene = { device, fn, bytes, random: new Random(seed) };
        const failures: string[] = [];
        fn.connect({
          name: "hostile",
          fault: (description) => {
            faults++;
            if (/^[A-Za-z]*Error: /.test(description)) failures.push(description);
          },
        });
        try {
          if (prepared < 2) begin(scene, prepared === 1);
          for (const { kind, at, value } of list) {
            const started = performance.now();
            const result: unknown = operations[kind](scene, at, value);
            const tookMs = performance.now() - started;
            worstMs = Math.max(worstMs, tookMs);
            assert.ok(tookMs < ACCESS_MS, `${kind} took ${Math.round(tookMs)} ms`);
            if (result instanceof Promise) await result;
          }
          fn.resume();
          fn.save();
          await operations.turn();
        } finally {
          fn.disconnect();
        }
        await operations.turn();
        assert.deepEqual(failures, []);
        assert.equal(fn.memory.count, 0);
        for (const at of guards) {
          assert.ok(guard.equals(bytes.subarray(at, at + GUARD_BYTES)), "written outside of the maps");
        }
        assert.ok(
          bytes.subarray(READ_ONLY.offset, READ_ONLY.offset + READ_ONLY.size).every((byte) => byte === 0),
          "written where only reading is permitted",
        );
        const writable = Buffer.from(bytes.buffer, WRITABLE.offset, WRITABLE.size);
        assert.ok(!writable.includes(GUARD_PATTERN), "read outside of the maps");
      },
    );
    await fc.assert(property, { numRuns: RUNS, seed: SEED });
    t.diagnostic(`worst access ${worstMs.toFixed(1)} ms, ${faults} refusals`);
  });
}

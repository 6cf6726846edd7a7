// The emitted loop against its reference, the same device over an arena in which nothing can be emitted: whatever a host
// writes into queues and doorbells, both do the same, and nothing outside of the host's maps is touched.
// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Arena } from "../../memory/arena.ts";
import type { ArenaRange } from "../../memory/arena-range.ts";
import type { DmaPermission } from "../../pci/function.ts";
import type { MapBacking } from "../../virtual/index.ts";
import { memoryBacking, NvmeDevice, nullBacking } from "./index.ts";

const PAGE = 4096;
const MIB = 2 ** 20;
const RAM_PAGES = 32;
const DISK_BYTES = 64 * 1024;
const ENTRIES = 16;
const QUEUES = 0x1_0000_0000;
const DOORBELL = { tail: 0x1008, head: 0x100c } as const;
const GUARD = new Uint8Array(PAGE).fill(0xe1);
/** Pages of RAM: admin queues, the queue pair, then data. */
const [SUBMISSION, COMPLETION] = [2, 3];

/** Where pages of RAM are for the device. Two maps follow each other in IOVAs, and are far from each other in RAM. */
const MAPS = [
  { iova: QUEUES, page: 0, pages: 6, permission: "read-write", reach: "arena", shift: 0 },
  { iova: QUEUES + 6 * PAGE, page: 20, pages: 2, permission: "read-write", reach: "arena", shift: 0 },
  { iova: 0x7f12_3456_0000, page: 8, pages: 2, permission: "read", reach: "arena", shift: 0 },
  { iova: 0x7f12_3457_0000, page: 11, pages: 2, permission: "write", reach: "arena", shift: 0 },
  { iova: 0x1000, page: 14, pages: 0.5, permission: "read-write", reach: "arena", shift: 12 },
  { iova: 0x8000, page: 16, pages: 2, permission: "read-write", reach: "bytes", shift: 0 },
] as const satisfies readonly {
  iova: number;
  page: number;
  pages: number;
  permission: DmaPermission;
  reach: "arena" | "bytes";
  shift: number;
}[];

/** A device with its host's memory, which has a guard page on each side. */
class Rig implements Disposable {
  readonly device: NvmeDevice;
  readonly ram: ArenaRange;
  readonly disks: readonly ArenaRange[];
  readonly plain: Uint8Array = new Uint8Array(DISK_BYTES);
  readonly #guards: readonly ArenaRange[];
  #tail = 0;
  #head = 0;
  #phase = 1;

  constructor(arena: Arena, queueShift = 0) {
    const before = arena.reserve(PAGE);
    this.ram = arena.reserve(RAM_PAGES * PAGE);
    const after = arena.reserve(PAGE);
    this.disks = [arena.reserve(DISK_BYTES), arena.reserve(DISK_BYTES)];
    this.#guards = [before, after];
    for (const guard of this.#guards) guard.bytes.set(GUARD);
    for (const [i, bytes] of [...this.disks.map((disk) => disk.bytes), this.plain].entries()) {
      for (let at = 0; at < bytes.length; at++) bytes[at] = (at >>> 9) * 7 + at + i;
    }
    const [disk, fixed] = this.disks as [ArenaRange, ArenaRange];
    this.device = new NvmeDevice({
      arena,
      mappableDoorbells: true,
      ioQueues: 2,
      maxTransferBytes: 8192,
      namespaces: [
        { backing: nullBacking(DISK_BYTES) },
        { backing: memoryBacking(disk), blockSize: 4096 },
        { backing: memoryBacking(fixed), readOnly: true },
        { backing: memoryBacking(this.plain) },
      ],
    });
    const { device } = this;
    device.connect({ name: "a rig" });
    device.config.write(4, 2, 6);
    for (let i = 0; i < MAPS.length; i++) this.map(i, i === 0 ? queueShift : 0);
    device.barWrite32(0, 0x24, 0x000f_000f);
    device.barWrite32(0, 0x2c, 1);
    device.barWrite32(0, 0x30, PAGE);
    device.barWrite32(0, 0x34, 1);
    device.barWrite32(0, 0x14, 0x0046_0001);
    const size = ((ENTRIES - 1) << 16) | 1;
    this.write(0, [0x05, 0, 0, 0, 0, 0, COMPLETION * PAGE, 1, 0, 0, size, 3], queueShift);
    this.write(1, [0x01, 0, 0, 0, 0, 0, SUBMISSION * PAGE, 1, 0, 0, size, 0x1_0001], queueShift);
    device.barWrite32(0, 0x1000, 2);
    assert.equal(device.runPoll(), 2);
  }

  /** Maps number `index`, from `shift` bytes behind its place on. */
  map(index: number, shift = 0): void {
    const { iova, page, pages, permission, reach, shift: own } = MAPS[index] as (typeof MAPS)[number];
    const from = page * PAGE + own + shift;
    const bytes = this.ram.bytes.subarray(from, from + pages * PAGE);
    const backing: MapBacking = reach === "bytes" ? { bytes } : { bytes, arenaOffset: this.ram.offset + from };
    this.device.memory.map(iova, pages * PAGE, permission, backing);
  }

  unmap(index: number): void {
    const { iova, pages } = MAPS[index] as (typeof MAPS)[number];
    this.device.memory.unmap(iova, pages * PAGE);
  }

  /** Writes an entry of the admin queue, whose completions nobody looks at. */
  write(entry: number, words: readonly number[], shift = 0): void {
    this.ram.words.set(words, shift / 4 + entry * 16);
  }

  post(words: readonly number[], shift = 0): void {
    const at = (SUBMISSION * PAGE + shift) / 4 + this.#tail * 16;
    this.ram.words.fill(0, at, at + 16);
    this.ram.words.set(words, at);
    this.#tail = (this.#tail + 1) % ENTRIES;
  }

  ring(): void {
    this.device.barWrite32(0, DOORBELL.tail, this.#tail);
  }

  /** Takes up to `count` completions. */
  take(count: number, shift = 0): void {
    for (let i = 0; i < count; i++) {
      const last = this.ram.words[(COMPLETION * PAGE + shift) / 4 + this.#head * 4 + 3] as number;
      if (((last >>> 16) & 1) !== this.#phase) break;
      this.#head = (this.#head + 1) % ENTRIES;
      if (this.#head === 0) this.#phase ^= 1;
    }
    this.device.barWrite32(0, DOORBELL.head, this.#head);
  }

  /** RAM and disks. */
  get memory(): readonly Uint8Array[] {
    return [this.ram.bytes, ...this.disks.map((disk) => disk.bytes), this.plain];
  }

  /** Everything else that can be seen from outside. */
  get seen(): unknown {
    const { device } = this;
    for (const { bytes } of this.#guards) assert.ok(Buffer.from(GUARD).equals(bytes));
    const { dirty } = device.memory;
    const written = new Uint8Array(1);
    if (dirty.active) dirty.report(QUEUES, 8 * PAGE, PAGE, written);
    return {
      written: [...written],
      statistics: device.statistics,
      faults: device.memory.faults,
      status: device.barRead32(0, 0x1c),
      line: device.interrupts.asserted,
    };
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
    for (const range of [this.ram, ...this.disks, ...this.#guards]) range[Symbol.dispose]();
  }
}

type Step =
  | { readonly kind: "command"; readonly words: readonly number[] }
  | { readonly kind: "take"; readonly count: number }
  | { readonly kind: "doorbell"; readonly at: "tail" | "head"; readonly value: number }
  | { readonly kind: "remap"; readonly map: number; readonly shift: number }
  | { readonly kind: "unmap"; readonly map: number }
  | { readonly kind: "namespace"; readonly id: number; readonly blockSize: 512 | 4096 }
  | { readonly kind: "log"; readonly on: boolean }
  | { readonly kind: "master"; readonly on: boolean };

const addresses = [
  ...MAPS.flatMap(({ iova, pages }) => [iova, iova + PAGE, iova + pages * PAGE - PAGE, iova + pages * PAGE]),
  QUEUES + 4 * PAGE,
  QUEUES + 5 * PAGE,
  0,
  2 ** 53,
  2 ** 63,
  2 ** 64 - 4096,
];
const address = fc
  .tuple(
    fc.oneof(
      { weight: 5, arbitrary: fc.constant(QUEUES + 4 * PAGE) },
      { weight: 4, arbitrary: fc.constantFrom(QUEUES + 6 * PAGE, QUEUES + 7 * PAGE) },
      { weight: 3, arbitrary: fc.constantFrom(...addresses) },
    ),
    fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.constantFrom(4, 2, 512, 2048, 3584, 4092)),
  )
  .map(([page, inside]) => {
    const value = BigInt(page) + BigInt(inside);
    return [Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn)] as const;
  });
const mostly = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, fc.constantFrom(...others));
const command: fc.Arbitrary<Step> = fc
  .record({
    opcode: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(1, 2) }, fc.constantFrom(0, 3, 5, 8, 0xff)),
    flags: mostly(0, 0x01, 0x02, 0x04, 0x40, 0x80, 0xc0),
    identifier: fc.nat(0xffff),
    nsid: fc.oneof({ weight: 6, arbitrary: fc.integer({ min: 1, max: 4 }) }, fc.constantFrom(0, 5, 17, 0xffff_ffff)),
    prp1: address,
    prp2: address,
    lba: fc.oneof({ weight: 4, arbitrary: fc.nat(15) }, fc.constantFrom(16, 120, 127, 128, 0xffff_ffff)),
    lbaHigh: mostly(0, 1, 0xffff_ffff),
    cdw12: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(0, 1, 7, 8, 15) },
      fc.constantFrom(16, 0xffff, 0xc000_0000),
    ),
  })
  .map(({ opcode, flags, identifier, nsid, prp1, prp2, lba, lbaHigh, cdw12 }) => ({
    kind: "command",
    words: [
      (opcode | (flags << 8) | (identifier << 16)) >>> 0,
      nsid,
      ...[0, 0, 0, 0],
      ...prp1,
      ...prp2,
      lba,
      lbaHigh,
      cdw12,
    ],
  }));
const map = fc.oneof(fc.constant(1), fc.integer({ min: 1, max: MAPS.length - 1 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 30, arbitrary: command },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("take" as const), count: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("doorbell" as const),
      at: fc.constantFrom("tail" as const, "head" as const),
      value: fc.oneof(fc.nat(ENTRIES), fc.constantFrom(0xffff, 0x8000_0000, 0xffff_ffff)),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("remap" as const), map, shift: fc.constantFrom(0, 4, 4096) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("unmap" as const), map }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("namespace" as const),
      id: fc.constantFrom(1, 2),
      blockSize: fc.constantFrom(512 as const, 4096 as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("log" as const), on: mostly(false, true) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("master" as const), on: mostly(true, false) }) },
);

function perform(rig: Rig, one: Step): void {
  const { device } = rig;
  if (one.kind === "command") {
    rig.post(one.words);
    rig.ring();
  } else if (one.kind === "take") rig.take(one.count);
  else if (one.kind === "doorbell") device.barWrite32(0, DOORBELL[one.at], one.value);
  else if (one.kind === "unmap") rig.unmap(one.map);
  else if (one.kind === "remap") {
    rig.unmap(one.map);
    rig.map(one.map, one.shift);
  } else if (one.kind === "namespace") {
    const backing = one.id === 1 ? nullBacking(DISK_BYTES) : memoryBacking(rig.disks[0] as ArenaRange);
    device.setNamespace(one.id, { backing, blockSize: one.blockSize });
  } else if (one.kind === "log") {
    if (one.on) device.memory.dirty.start(PAGE, [{ offset: QUEUES, size: 8 * PAGE }]);
    else device.memory.dirty.stop();
  } else device.config.write(4, 2, one.on ? 6 : 2);
}

const arenas = { emitted: Arena.create(), reference: Arena.over(new SharedArrayBuffer(4 * MIB)) };

test("any queue: the same completions, data, disks, counts and faults", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(step, mostly(true, false)), { minLength: 30, maxLength: 120 }), (steps) => {
      using emitted = new Rig(arenas.emitted);
      using reference = new Rig(arenas.reference);
      for (const [one, look] of steps) {
        perform(emitted, one);
        perform(reference, one);
        if (!look) continue;
        assert.equal(emitted.device.runPoll(), reference.device.runPoll());
        assert.deepEqual(emitted.seen, reference.seen);
        for (const [i, bytes] of emitted.memory.entries()) {
          assert.equal(Buffer.compare(bytes, reference.memory[i] as Uint8Array), 0, `memory ${i}`);
        }
      }
    }),
    { numRuns: 250 },
  );
});

test("what is plain is done by the loop, all else by the reference", () => {
  using rig = new Rig(arenas.emitted);
  // A disk that differs, depending on where one looks for it.
  const range = rig.disks[0] as ArenaRange;
  const contents = new Uint8Array(DISK_BYTES).fill(0xcc);
  rig.device.setNamespace(2, { backing: { ...memoryBacking(range), contents } });
  const fromLoop = (...words: readonly number[]): boolean => {
    rig.ram.bytes.fill(0, 4 * PAGE, 5 * PAGE);
    rig.post(words);
    rig.ring();
    assert.equal(rig.device.runPoll(), 1);
    rig.take(1);
    const bytes = rig.ram.bytes.slice(4 * PAGE, 4 * PAGE + 512);
    const found = bytes.every((byte, at) => byte === range.bytes[at]);
    assert.ok(found || bytes.every((byte) => byte === 0xcc));
    return found;
  };
  const read = [2, 2, 0, 0, 0, 0, 4 * PAGE, 1] as const;
  assert.equal(fromLoop(...read), false, "the map is not known yet");
  for (let i = 0; i < 40; i++) assert.equal(fromLoop(...read), true);
  assert.equal(fromLoop(0x8000 | 2, 2, 0, 0, 0, 0, 4 * PAGE, 1, 512, 0), false, "SGLs");
  rig.device.memory.dirty.start();
  assert.equal(fromLoop(...read), false, "somebody wants to know what is written");
  rig.device.memory.dirty.stop();
  assert.equal(fromLoop(...read), true);
});

test("a page that only begins in a map that is known is a fault, and nothing is moved", () => {
  using rig = new Rig(arenas.emitted);
  const [low, page] = [0x1000, 14] as const;
  const read = (nsid: number): number => {
    rig.post([2, nsid, 0, 0, 0, 0, low, 0]);
    rig.ring();
    assert.equal(rig.device.runPoll(), 1);
    rig.take(1);
    return rig.device.memory.faults;
  };
  // Blocks of 512 bytes fit into the map's 2048; one of 4096 does not.
  for (let i = 0; i < 3; i++) assert.equal(read(3), 0);
  rig.ram.bytes.fill(0, page * PAGE, (page + 2) * PAGE);
  assert.equal(read(2), 1);
  assert.ok(rig.ram.bytes.subarray(page * PAGE, (page + 2) * PAGE).every((byte) => byte === 0));
});

test("queues at places that no atomic load of 8 bytes takes", () => {
  using rig = new Rig(arenas.emitted, 4);
  for (let i = 0; i < 3; i++) {
    rig.post([2, 2, 0, 0, 0, 0, 4 * PAGE, 1, 0, 0, 3], 4);
    rig.ring();
    assert.equal(rig.device.runPoll(), 1);
    rig.take(1, 4);
  }
  const from = 4 * PAGE + 4;
  assert.deepEqual(rig.ram.bytes.slice(from, from + PAGE), rig.disks[0]?.bytes.slice(3 * PAGE, 4 * PAGE));
});

test("resets and disposal give the tables back", () => {
  const arena = Arena.create();
  const before = arena.freeBytes;
  for (let i = 0; i < 3; i++) {
    using rig = new Rig(arena);
    rig.post([2, 2, 0, 0, 0, 0, 4 * PAGE, 1]);
    rig.ring();
    assert.equal(rig.device.runPoll(), 1);
    if (i === 1) rig.device.barWrite32(0, 0x14, 0);
  }
  assert.equal(arena.freeBytes, before);
});

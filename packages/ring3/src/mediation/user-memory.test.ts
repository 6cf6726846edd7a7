// The user's memory in the real function's domain: reached, counted, refused, and unmapped before it is gone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Arena } from "../memory/arena.ts";
import type { DmaMapOptions, DmaSpace } from "../pci/function.ts";
import type { MapBacking, MemoryMap } from "../virtual/guest-memory.ts";
import { GuestMap } from "../virtual/guest-map.ts";
import { type DmaObservation, Observers } from "./observer.ts";
import { UserMemory } from "./user-memory.ts";

function space(log: string[], withBytes: boolean): DmaSpace {
  const arena = Arena.create({ initialBytes: 2 ** 20 });
  const buffer = (name: string, { iova }: DmaMapOptions): Disposable => {
    log.push(`map ${name} ${iova?.toString(16)}`);
    return { [Symbol.dispose]: () => void log.push(`unmap ${iova?.toString(16)}`) };
  };
  return {
    arena,
    limits: () => ({
      ranges: [{ first: 0x1000, last: 0xff_ffff }],
      pageSizes: [4096],
      mappingsLeft: 9,
      lockableBytes: 9,
    }),
    allocate: () => {
      throw new Error("not asked for");
    },
    map: (range, options = {}) => buffer(`arena ${range.offset.toString(16)}`, options) as ReturnType<DmaSpace["map"]>,
    ...(withBytes ? { mapBytes: (bytes, options) => buffer(`bytes ${bytes.length}`, options) } : {}),
    unmapAll: () => undefined,
  };
}

function made(withBytes = true): { memory: UserMemory; log: string[]; told: DmaObservation[] } {
  const log: string[] = [];
  const told: DmaObservation[] = [];
  const observers = new Observers(
    () => undefined,
    (error) => {
      throw error;
    },
  );
  observers.add({ dma: (event) => told.push(event) });
  return { memory: new UserMemory(space(log, withBytes), { lockedBytes: 0x8000, maps: 3 }, observers), log, told };
}

const map = (
  iova: number,
  size: number,
  backing: MapBacking,
  permission: MemoryMap["permission"] = "read-write",
): MemoryMap => new GuestMap(iova, size, permission, backing);
const inArena = (size: number): MapBacking => ({ bytes: new Uint8Array(size), arenaOffset: 0x2000 });
const elsewhere = (size: number): MapBacking => ({ bytes: new Uint8Array(size) });
const byMessage: MapBacking = { transfer: { read: () => undefined, write: () => undefined } };

test("arena memory by its place, other memory by its bytes, at the user's addresses", () => {
  const { memory, log, told } = made();
  const first = map(0x1000, 0x2000, inArena(0x2000));
  memory.admit(first);
  memory.admit(map(0x10_0000, 0x1000, elsewhere(0x1000)));
  assert.equal(memory.lockedBytes, 0x3000);
  memory.remove(first);
  assert.equal(memory.lockedBytes, 0x1000);
  assert.deepEqual(log, ["map arena 2000 1000", "map bytes 4096 100000", "unmap 1000"]);
  assert.deepEqual(
    told.map(({ kind, reachable }) => [kind, reachable]),
    [
      ["mapped", true],
      ["mapped", true],
      ["unmapped", true],
    ],
  );
});

test("what is refused is neither mapped nor counted", () => {
  const { memory, log } = made();
  memory.admit(map(0x1000, 0x6000, inArena(0x6000)));
  const refusals: readonly (readonly [MemoryMap, string, string])[] = [
    [map(0x10_0800, 0x1000, inArena(0x1000)), "DMA_INVALID", "EINVAL"],
    [map(0x10_0000, 0x800, inArena(0x800)), "DMA_INVALID", "EINVAL"],
    [map(0xff_f000, 0x2000, inArena(0x2000)), "DMA_INVALID", "EINVAL"],
    [map(0, 0x1000, inArena(0x1000)), "DMA_INVALID", "EINVAL"],
    [map(0x10_0000, 0x3000, inArena(0x3000)), "DMA_LOCK_LIMIT", "ENOMEM"],
  ];
  for (const [one, code, errno] of refusals) assert.throws(() => memory.admit(one), { code, errno });
  assert.equal(memory.lockedBytes, 0x6000);
  assert.equal(log.length, 1);
  memory.admit(map(0x10_0000, 0x1000, inArena(0x1000)));
  memory.admit(map(0x20_0000, 0x1000, inArena(0x1000)));
  assert.throws(() => memory.admit(map(0x30_0000, 0x1000, inArena(0x1000))), { errno: "ENOMEM" });
});

test("memory that the device cannot reach keeps bus mastering off, unless the device may only read it", () => {
  const { memory } = made();
  memory.admit(map(0xf_0000, 0x1000, byMessage, "read"));
  assert.equal(memory.refusal, undefined);
  const ram = map(0x10_0000, 0x1000, byMessage);
  memory.admit(ram);
  assert.match(memory.refusal ?? "", /without a file descriptor/);
  memory.remove(ram);
  assert.equal(memory.refusal, undefined);
});

test("a back end without a way to memory outside the arena says so", () => {
  const { memory } = made(false);
  memory.admit(map(0x10_0000, 0x1000, elsewhere(0x1000)));
  assert.match(memory.refusal ?? "", /outside the arena/);
});

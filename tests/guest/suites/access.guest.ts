// Every register access is one access of its width, as QEMU's devices see it: not merged, split, narrowed, repeated or
// dropped, before the compilers have looked at the code and after, by the accessors and by emitted loops.
import assert from "node:assert/strict";
import { test } from "node:test";
import { open, type PciFunction, type Registers } from "ring3";
import { emit, emitted } from "ring3/memory";
import { type MmioAccess, traceMmio } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const CAP = 0x00;
const VS = 0x08;
const CSTS = 0x1c;
const AQA = 0x24;
const ASQ = 0x28;
/** Rounds that bring the pattern through every tier of the compiler. */
const WARM_UP = 20_000;
const ROUNDS = 20;

/** What trips compilers up: narrow uses, unused reads, equal neighbours. Returns a value so that nothing is dead. */
function pattern(registers: Registers): number {
  let sum = (registers.read32(CSTS) & 1) !== 0 ? 1 : 0;
  registers.read32(VS);
  sum += registers.read32(VS) === registers.read32(VS) ? 2 : 0;
  sum += registers.read32(CAP + 4) & 0xff;
  sum += registers.read32(CAP) & 1;
  sum += registers.read32(CAP + 4) & 0xff;
  sum += registers.read16(AQA);
  sum += Number(registers.read64(CAP) & 1n);
  registers.write32(AQA, 0x001f_001f);
  registers.write32(AQA, 0x001f_001f);
  registers.write32(AQA, 0x001f_001f);
  registers.write64(ASQ, 0x1_0000_2000n);
  return sum;
}
const reads = [4, 4, 4, 4, 4, 4, 4, 2, 8].map((size) => `read ${size}`);
const expected = [...reads, "write 4", "write 4", "write 4", "write 8"];

const seen = (accesses: readonly MmioAccess[]): string[] =>
  accesses.map(({ kind, sizeBytes }) => `${kind} ${sizeBytes}`);
const times = <T>(count: number, list: readonly T[]): T[] => Array.from({ length: count }, () => list).flat();

async function withNvme(action: (fn: PciFunction) => Promise<void>): Promise<void> {
  await using fn = await open(FUNCTIONS.nvme.address);
  await action(fn);
}

test("accessors, before and after compilation", () =>
  withNvme(async (fn) => {
    const registers = fn.bar(0).registers();
    assert.notEqual(registers.arenaOffset, undefined, "the BAR is mapped");
    let sum = 0;
    const round = (): void => {
      for (let i = 0; i < ROUNDS; i++) sum += pattern(registers);
    };
    assert.deepEqual(seen(await traceMmio("nvme", round)), times(ROUNDS, expected));
    for (let i = 0; i < WARM_UP / ROUNDS; i++) round();
    const accesses = await traceMmio("nvme", round);
    assert.deepEqual(seen(accesses), times(ROUNDS, expected));
    const writes = accesses.filter(({ kind }) => kind === "write").slice(0, 4);
    assert.deepEqual(
      writes.map(({ value }) => value),
      [0x001f_001fn, 0x001f_001fn, 0x001f_001fn, 0x1_0000_2000n],
    );
    assert.ok(sum > 0);
  }));

test("8-bit accesses", async () => {
  // The common configuration of virtio 1.3, section 4.1.4.3: device_status is a byte at 0x14, here in BAR 4.
  await using fn = await open(FUNCTIONS.virtioBlk.address);
  const registers = fn.bar(4).registers({ offset: 0, size: 0x1000 });
  const round = (): void => {
    for (let i = 0; i < ROUNDS; i++) {
      registers.write8(0x14, 0);
      if (registers.read8(0x14) === 0xff) throw new Error("the device is gone");
    }
  };
  for (let i = 0; i < 100; i++) round();
  const accesses = await traceMmio("virtio-pci-common-virtio-blk", round);
  assert.deepEqual(seen(accesses), times(ROUNDS, ["write 1", "read 1"]));
});

test("an emitted loop", () =>
  withNvme(async (fn) => {
    const registers = fn.bar(0).registers();
    const base = registers.arenaOffset;
    assert.ok(base !== undefined && fn.dma.arena.memory !== undefined, "mapped into WebAssembly memory");
    // Reads CSTS and CAP by halves and as a whole and stores AQA, `count` times; adds up what it saw.
    const { spin } = emit(fn.dma.arena, {
      spin: emitted(["count"], { sum: "i32" }, (body, { count, sum }) => {
        body.loop((loop) => {
          body.leave(loop, count.not());
          body.set(sum, sum.add(body.load32(base, CSTS).and(1)));
          body.set(sum, sum.add(body.load32(base, CAP + 4).and(0xff)));
          body.set(sum, sum.add(body.load64(base, CAP).low().and(1)));
          body.store32(base, 0x001f_001f, AQA);
          body.set(count, count.sub(1));
        });
        return sum;
      }),
    });
    const wanted = ["read 4", "read 4", "read 8", "write 4"];
    assert.deepEqual(seen(await traceMmio("nvme", () => void spin(ROUNDS))), times(ROUNDS, wanted));
    for (let i = 0; i < WARM_UP / ROUNDS; i++) spin(ROUNDS);
    assert.deepEqual(seen(await traceMmio("nvme", () => void spin(ROUNDS))), times(ROUNDS, wanted));
  }));

// QEMU's edu in software: its own driver over every kind of completion, and what docs/specs/edu.rst says of odd accesses.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { turns } from "../../../../../tests/fakes/nvme-host.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { EduDriver } from "../../drivers/edu/index.ts";
import { goldenMap } from "../../virtual/golden.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { EduDevice } from "./index.ts";

for (const completion of ["poll", "intx", "msi"] as const) {
  test(`its driver, completion by ${completion}: factorial, DMA both ways, reset`, async () => {
    await using fn = inProcess(new EduDevice());
    await using edu = await EduDriver.start(fn, { completion });
    assert.deepEqual(edu.version(), { major: 1, minor: 0 });
    assert.equal(edu.liveness(5), 0xffff_fffa);
    const found = await Promise.all([0, 1, 12, 13, 33, 34, 0xffff_ffff].map((n) => edu.factorial(n)));
    assert.deepEqual(found, [1, 1, 479_001_600, 1_932_053_504, 2_147_483_648, 0, 0]);
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 600 });
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 3000 }), bytes, async (offset, data) => {
        await edu.store(offset, data);
        assert.deepEqual(await edu.load(offset, data.length), data);
      }),
      { numRuns: 10 },
    );
    await edu.reset();
    assert.equal(await edu.factorial(4), 24);
  });
}

test("accesses: 32 bits below 0x80, 32 or 64 above, all ones where nothing is", async () => {
  const device = new EduDevice();
  await using fn = inProcess(device);
  const bar = fn.bar(0);
  assert.equal(bar.size, 2 ** 20);
  assert.equal(bar.read32(0), 0x0100_00ed);
  assert.equal(bar.read64(0), 0xffff_ffff_ffff_ffffn, "64 bits below 0x80");
  assert.equal(bar.read8(0), 0xff);
  assert.equal(bar.read16(0), 0xffff);
  for (const offset of [0x0c, 0x28, 0x60, 0x64, 0xa0, 0x40000, 0xffffc]) assert.equal(bar.read32(offset), 0xffff_ffff);
  bar.write64(0x80, 0x1_2345_6789n);
  assert.equal(bar.read64(0x80), 0x1_2345_6789n);
  assert.equal(bar.read32(0x80), 0x2345_6789);
  assert.equal(bar.read32(0x84), 0xffff_ffff, "an offset of its own, which is not known");
  bar.write32(0x80, 7);
  assert.equal(bar.read64(0x80), 7n, "32 bits set the whole register");
  bar.write16(0x04, 1);
  assert.equal(bar.read32(0x04), 0);
});

test("a factorial takes a while; the value that was written stands until then", async () => {
  await using fn = inProcess(new EduDevice());
  const bar = fn.bar(0);
  bar.write32(0x08, 5);
  assert.equal(bar.read32(0x20), 1);
  assert.equal(bar.read32(0x08), 5);
  bar.write32(0x08, 9);
  await turns();
  assert.equal(bar.read32(0x20), 0);
  assert.equal(bar.read32(0x08), 120, "the second was ignored");
  bar.write32(0x20, 0xff);
  assert.equal(bar.read32(0x20), 0x80);
  assert.equal(bar.read32(0x24), 0);
});

test("interrupts by register: raised bits stay until acknowledged", async () => {
  const device = new EduDevice();
  await using fn = inProcess(device);
  const bar = fn.bar(0);
  bar.write32(0x60, 0x8000_0030);
  assert.equal(bar.read32(0x24), 0x8000_0030);
  assert.equal(device.interrupts.asserted, true);
  bar.write32(0x64, 0x8000_0010);
  assert.equal(device.interrupts.asserted, true);
  bar.write32(0x64, 0x20);
  assert.equal(device.interrupts.asserted, false);
});

test("DMA: the address mask, transfers that do not fit, that fault, that are reset away", async () => {
  const clock = new VirtualClock();
  const device = new EduDevice({ transferMs: 100, clock });
  const faults: string[] = [];
  device.events.on("fault", ({ description }) => faults.push(description));
  await using fn = inProcess(device);
  fn.busMaster = true;
  const memory = fn.dma.allocate(4096, { below: 2 ** 28 });
  const bar = fn.bar(0);
  const transfer = async (source: number, destination: number, size: number, command: number): Promise<void> => {
    bar.write64(0x80, BigInt(source));
    bar.write64(0x88, BigInt(destination));
    bar.write64(0x90, BigInt(size));
    bar.write32(0x98, command);
    bar.write32(0x90, 1);
    assert.equal(bar.read32(0x90), size, "registers stand while it runs");
    while ((bar.read32(0x98) & 1) !== 0) await turns(1);
  };
  memory.bytes.set([1, 2, 3, 4]);
  await transfer(memory.iova + 2 ** 28, 0x40000 + 4092, 4, 1);
  await transfer(0x40000 + 4092, memory.iova + 100, 4, 3);
  assert.deepEqual([...memory.bytes.slice(100, 104)], [1, 2, 3, 4]);
  await transfer(memory.iova, 0x40000 + 4093, 4, 5);
  assert.match(faults.pop() ?? "", /DMA_RANGE/);
  assert.equal(bar.read32(0x24), 0x100, "it ends as any other");
  await transfer(0x40000, 2 ** 27 + 4096, 4, 3);
  assert.match(faults.pop() ?? "", /DMA_FAULT/);
  bar.write64(0x88, 0x40000n);
  bar.write32(0x98, 2);
  assert.equal(bar.read32(0x98) & 1, 0, "without START nothing begins");
  bar.write32(0x98, 1);
  await fn.reset();
  assert.equal(bar.read32(0x98), 0);
  await turns(60);
  assert.deepEqual(faults, []);
  assert.throws(() => new EduDevice({ addressBits: 64 }), RangeError);
});

test("its state moves to another edu, with what is under way", async () => {
  const device = new EduDevice();
  await using fn = inProcess(device);
  fn.busMaster = true;
  const memory = fn.dma.allocate(4096, { below: 2 ** 28 });
  const bar = fn.bar(0);
  memory.bytes.fill(0x42);
  bar.write32(0x04, 1);
  bar.write32(0x80, memory.iova);
  bar.write32(0x88, 0x40000);
  bar.write32(0x90, 16);
  bar.write32(0x98, 1);
  await turns();
  bar.write32(0x08, 6);
  const state = device.save();
  const other = new EduDevice();
  await using otherFn = inProcess(other);
  other.restore(state);
  assert.equal(otherFn.bar(0).read32(0x04), 0xffff_fffe);
  assert.equal(otherFn.bar(0).read32(0x20), 1);
  await turns();
  assert.equal(otherFn.bar(0).read32(0x08), 720);
  otherFn.busMaster = true;
  const target = otherFn.dma.allocate(4096, { below: 2 ** 28 });
  otherFn.bar(0).write32(0x80, 0x40000);
  otherFn.bar(0).write32(0x88, target.iova);
  otherFn.bar(0).write32(0x98, 3);
  await turns();
  assert.deepEqual(
    target.bytes.slice(0, 17),
    Uint8Array.from({ length: 17 }, (_, i) => (i < 16 ? 0x42 : 0)),
  );
});

test("version 1 looks to drivers as it always did", () => {
  const golden = readFileSync(new URL("./golden-1.txt", import.meta.url), "utf8");
  assert.equal(goldenMap(new EduDevice().declaration), golden);
});

// Two clients of ours at one served function: what one does with its memory and interrupts leaves the other's alone.
// seconds: 1
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ServedFunction } from "../../../../tests/contract/served-function.ts";
import { Sample } from "../../../../tests/fakes/sample-device.ts";
import { createArena } from "../linux/arena-memory.ts";
import type { DmaBuffer } from "../pci/function.ts";
import { connect } from "./client.ts";
import type { VfioUserFunction } from "./client-function.ts";

const sample = new URL("../../../../tests/fakes/sample-device.ts", import.meta.url);

async function shared(openings = 2): Promise<ServedFunction> {
  return await ServedFunction.start({ module: sample, create: "new device.SampleDevice()", options: { openings } });
}

/** A client with an arena of its own, as another process has one. */
const another = (served: ServedFunction, options: Parameters<typeof connect>[1] = {}): Promise<VfioUserFunction> =>
  connect(served.path, { arena: createArena(), ...options });

function copy(fn: VfioUserFunction, source: DmaBuffer, target: DmaBuffer, size: number): number {
  const bar = fn.bar(0);
  bar.write64(Sample.SOURCE, BigInt(source.iova));
  bar.write64(Sample.TARGET, BigInt(target.iova));
  bar.write32(Sample.SIZE, size);
  bar.write32(Sample.COPY, 1);
  return bar.read32(Sample.COPY);
}

describe("two clients at one function", () => {
  test("the second finds it as the first has it, and leaves it so", async () => {
    await using served = await shared();
    await using first = await another(served);
    assert.equal(first.opening, 1);
    first.busMaster = true;
    first.bar(0).write32(Sample.SCRATCH, 7);
    const [mine] = first.interrupts.msix(2);
    const received = mine?.next();
    {
      await using second = await another(served);
      assert.equal(second.opening, 2);
      assert.deepEqual([second.busMaster, second.bar(0).read32(Sample.SCRATCH)], [true, 7]);
      second.bar(0).write32(Sample.RAISE, 0);
      await received;
    }
    assert.equal(first.busMaster, true);
    const again = mine?.next();
    first.bar(0).write32(Sample.RAISE, 0);
    await again;
  });

  test("the device works on the memory of both, whichever way it is reached", async () => {
    await using served = await shared();
    await using first = await another(served);
    await using second = await another(served, { shareMemory: false });
    first.busMaster = true;
    // Both begin to map at the same address.
    const mine = Array.from({ length: 5 }, () => first.dma.allocate(4096));
    const theirs = Array.from({ length: 5 }, () => second.dma.allocate(8192));
    const ranges = [...mine, ...theirs].map(({ iova, size }) => [iova, iova + size] as const).sort(([a], [b]) => a - b);
    for (const [i, [start]] of ranges.entries()) assert.ok(i === 0 || start >= (ranges[i - 1]?.[1] ?? 0));
    const [source, target] = [mine[4], theirs[4]] as [DmaBuffer, DmaBuffer];
    source.bytes.set([1, 2, 3, 4]);
    // Who waits for a register serves the device's questions; who does not is waited for in vain.
    assert.equal(copy(second, source, target, 4), 0);
    assert.deepEqual([...target.bytes.subarray(0, 4)], [1, 2, 3, 4]);
    await second[Symbol.asyncDispose]();
    assert.equal(copy(first, source, mine[0] as DmaBuffer, 4), 0);
    assert.equal(copy(first, source, target, 4), 1);
    assert.throws(() => first.dma.allocate(4096, { iova: source.iova }), { code: "IOVA_IN_USE" });
  });

  test("an address that the other one has is refused by name where it was asked for", async () => {
    await using served = await shared();
    await using first = await another(served);
    await using second = await another(served);
    const { iova } = first.dma.allocate(4096);
    assert.throws(() => second.dma.allocate(4096, { iova }), { code: "DMA_REFUSED", message: /another client/ });
    // It was not lost by that.
    assert.ok(second.dma.allocate(4096).iova !== iova);
    await first[Symbol.asyncDispose]();
    assert.equal(second.dma.allocate(4096, { iova: iova + 2 ** 40 }).iova, iova + 2 ** 40);
  });

  test("a device of 32 address bits has room beside another client's memory", async () => {
    await using served = await shared();
    await using first = await another(served);
    await using second = await another(served);
    const below = 2 ** 24;
    const buffers = Array.from({ length: 20 }, (_, i) => [first, second][i % 2]?.dma.allocate(2 ** 18, { below }));
    const starts = buffers.map((buffer) => buffer?.iova ?? 0).sort((a, b) => a - b);
    for (const [i, start] of starts.entries()) assert.ok(i === 0 || start >= (starts[i - 1] ?? 0) + 2 ** 18);
    assert.throws(() => first.dma.allocate(2 ** 24, { below }), { code: "IOVA_EXHAUSTED" });
  });

  test("both have vectors of MSI, and the second asks for fewer", async () => {
    await using served = await shared();
    await using first = await another(served);
    first.busMaster = true;
    const vectors = first.interrupts.msi(4);
    {
      await using second = await another(served);
      const [own] = second.interrupts.msi(1);
      const received = Promise.all([vectors[3]?.next(), own?.next()]);
      first.bar(0).write32(Sample.RAISE, 3);
      first.bar(0).write32(Sample.RAISE, 0);
      await received;
    }
    const received = vectors[3]?.next();
    first.bar(0).write32(Sample.RAISE, 3);
    await received;
  });

  test("one resets it for both, and a removal is asked of both", async () => {
    await using served = await ServedFunction.start({
      module: sample,
      create: "new device.SampleDevice()",
      options: { openings: 2 },
      afterwards: "onTold(() => fn.requestRemoval());",
    });
    await using first = await another(served);
    await using second = await another(served);
    first.busMaster = true;
    first.bar(0).write32(Sample.SCRATCH, 7);
    await second.reset();
    assert.deepEqual([first.busMaster, first.bar(0).read32(Sample.SCRATCH)], [false, 0]);
    const asked = [first, second].map(
      (fn) => new Promise<void>((resolve) => fn.events.on("removal-requested", () => resolve())),
    );
    served.tell("removal");
    await Promise.all(asked);
  });
});

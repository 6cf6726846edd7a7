// The teaching driver over an edu in process.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FakeEdu } from "../../../../../tests/fakes/fake-edu.ts";
import { FakeNvme } from "../../../../../tests/fakes/fake-nvme.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { EduDriver } from "./index.ts";

for (const completion of ["poll", "intx", "msi"] as const) {
  test(`${completion}: factorial, DMA both ways, reset`, async () => {
    const device = new FakeEdu();
    await using fn = device.fn;
    await using edu = await EduDriver.start(fn, { completion, clock: new VirtualClock() });
    assert.equal(edu.completion, completion);
    assert.deepEqual(edu.version(), { major: 1, minor: 0 });
    assert.equal(edu.liveness(5), 0xffff_fffa);
    assert.deepEqual(await Promise.all([3, 0, 12].map((n) => edu.factorial(n))), [6, 1, 479_001_600]);
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 600 });
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 3000 }), bytes, async (offset, data) => {
        await edu.store(offset, data);
        assert.deepEqual(await edu.load(offset, data.length), data);
      }),
      { numRuns: 20 },
    );
    await edu.reset();
    assert.equal(await edu.factorial(4), 24);
  });
}

test("picks the best completion that there is", async () => {
  for (const [msi, intx, expected] of [
    [1, true, "msi"],
    [0, true, "intx"],
    [0, false, "poll"],
  ] as const) {
    await using edu = await EduDriver.start(new FakeEdu({ msi, intx }).fn, { clock: new VirtualClock() });
    assert.equal(edu.completion, expected);
  }
});

test("what is no edu, what lies about it, and what does not fit is refused", async () => {
  await assert.rejects(EduDriver.start(new FakeNvme().fn), { code: "WRONG_DEVICE" });
  const liar = new FakeEdu();
  liar.identification = 0xffff_ffed + 0x12;
  await assert.rejects(EduDriver.start(liar.fn), { code: "WRONG_DEVICE" });
  assert.equal(liar.fn.dma.mappedBytes, 0);
  await using edu = await EduDriver.start(new FakeEdu().fn);
  await assert.rejects(edu.store(4090, new Uint8Array(7)), { code: "DMA_RANGE" });
  await assert.rejects(edu.load(-1, 1), { code: "DMA_RANGE" });
});

test("a device that never finishes ends with a time-out, a removed one with its removal", async () => {
  for (const completion of ["poll", "msi"] as const) {
    const device = new FakeEdu();
    device.stuck = true;
    await using edu = await EduDriver.start(device.fn, { completion, timeoutMs: 20 });
    await assert.rejects(edu.factorial(3), { code: "TIMEOUT" });
    const waiting = edu.factorial(4);
    setImmediate(() => device.fn.remove());
    await assert.rejects(waiting, { code: "FUNCTION_REMOVED" });
  }
});

test("the end gives everything back", async () => {
  const { fn } = new FakeEdu();
  const edu = await EduDriver.start(fn);
  await edu[Symbol.asyncDispose]();
  assert.equal(fn.dma.mappedBytes, 0);
  assert.equal(fn.busMaster, false);
  assert.equal(fn.interrupts.active, "none");
});

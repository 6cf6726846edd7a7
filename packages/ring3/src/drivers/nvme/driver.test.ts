// The driver over a controller in process: every command, every way of noticing completions, start and end.
// seconds: 1
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { FakeFunction } from "../../../../../tests/fakes/fake-function.ts";
import { FakeNvme, type FakeNvmeOptions } from "../../../../../tests/fakes/fake-nvme.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { Feature } from "../../specs/nvme/features.ts";
import { Status } from "../../specs/nvme/status.ts";
import { isNvmeStatus, NvmeDriver, type NvmeOptions } from "./index.ts";

async function started(
  t: TestContext,
  options: NvmeOptions = {},
  fake: FakeNvmeOptions = {},
): Promise<{ nvme: NvmeDriver; device: FakeNvme }> {
  const device = new FakeNvme(fake);
  const nvme = await NvmeDriver.start(device.fn, { clock: new VirtualClock(), ...options });
  t.after(async () => {
    await nvme[Symbol.asyncDispose]();
    await device.fn[Symbol.asyncDispose]();
  });
  return { nvme, device };
}

function bytesOf(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (i * 7 + seed) & 0xff);
}

test("identifies controller and namespaces", async (t) => {
  const { nvme } = await started(t);
  assert.equal(nvme.controller.MN, "fake NVMe");
  assert.deepEqual(
    nvme.namespaces.map(({ id, blockSize, blocks }) => [id, blockSize, blocks]),
    [
      [1, 512, 2048n],
      [2, 4096, 512n],
    ],
  );
  assert.equal(nvme.limits.maxTransferBytes, 128 * 1024);
  assert.deepEqual(nvme.queues, { interrupts: "msix", io: 1, limit: 8 });
  assert.throws(() => nvme.namespace(7), { code: "NVME_NO_NAMESPACE" });
});

const modes: readonly [NvmeOptions, FakeNvmeOptions][] = [
  [{ completion: "polled" }, {}],
  [{ completion: "interrupt" }, {}],
  [{ completion: "adaptive" }, {}],
  [{ completion: "interrupt" }, { msix: 0, intx: true }],
  [{ completion: "adaptive", interrupts: "none" }, {}],
  [{ completion: "interrupt", ioQueues: 4, queueDepth: 3 }, { msix: 2 }],
  [{ dataPointers: "sgl" }, { sgl: true }],
  [{ completion: "polled", queueDepth: 2 }, {}],
  [
    { completion: "polled", queueDepth: 5 },
    { maxQueueEntries: 4, mappedDoorbells: true },
  ],
];
for (const [options, fake] of modes) {
  test(`what is written is read, ${JSON.stringify(options)} on ${JSON.stringify(fake)}`, async (t) => {
    const { nvme, device } = await started(t, options, fake);
    for (const namespace of nvme.namespaces) {
      const { blockSize } = namespace;
      const work = Array.from({ length: 40 }, async (_, i) => {
        const data = bytesOf(blockSize * (1 + (i % 3)), i);
        await namespace.write(i * 4, data);
        assert.deepEqual(await namespace.read(i * 4, 1 + (i % 3)), data);
        await namespace.compare(BigInt(i * 4), data);
      });
      await Promise.all(work);
      const disk = device.disks.get(namespace.id)?.bytes;
      assert.deepEqual(disk?.subarray(20 * blockSize, 23 * blockSize), bytesOf(blockSize * 3, 5));
      await namespace.flush();
      await namespace.writeZeroes(20, 2);
      assert.ok((await namespace.read(20, 2)).every((byte) => byte === 0));
      await namespace.deallocate([{ first: 22, count: 1 }]);
      assert.ok((await namespace.read(22, 1)).every((byte) => byte === 0));
      await namespace.verify(0, 100);
      await assert.rejects(namespace.compare(0, new Uint8Array(blockSize).fill(0xff)), (error) =>
        isNvmeStatus(error, Status.COMPARE_FAILURE),
      );
    }
  });
}

test("transfers of any size and place, split and without copy, carry exactly their bytes", async (t) => {
  const { nvme, device } = await started(t);
  const namespace = nvme.namespace(1);
  const disk = device.disks.get(1)?.bytes as Uint8Array;
  for (let i = 0; i < disk.length; i++) disk[i] = (i * 13 + (i >> 9)) & 0xff;
  using buffer = nvme.allocate(2 ** 20);
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 1200 }),
      fc.integer({ min: 1, max: 800 }),
      fc.integer({ min: 0, max: 3000 }),
      async (first, count, words) => {
        const size = count * 512;
        const offset = words * 4;
        buffer.bytes.fill(0xaa, 0, offset + size + 64);
        await namespace.readInto(buffer, first, count, offset);
        assert.deepEqual(buffer.bytes.slice(offset, offset + size), disk.slice(first * 512, first * 512 + size));
        assert.ok(buffer.bytes.subarray(0, offset).every((byte) => byte === 0xaa));
        assert.ok(buffer.bytes.subarray(offset + size, offset + size + 64).every((byte) => byte === 0xaa));
        assert.deepEqual(await namespace.read(first, count), disk.slice(first * 512, first * 512 + size));
      },
    ),
    { numRuns: 25 },
  );
});

test("what lies outside is refused before it is sent", async (t) => {
  const { nvme } = await started(t);
  const namespace = nvme.namespace(1);
  using buffer = nvme.allocate(4096);
  const refused = { code: "NVME_RANGE" };
  await assert.rejects(namespace.read(2048, 1), refused);
  await assert.rejects(namespace.read(2047n, 2), refused);
  await assert.rejects(namespace.read(-1, 1), refused);
  await assert.rejects(namespace.read(0, 0), refused);
  await assert.rejects(namespace.read(0.5, 1), refused);
  await assert.rejects(namespace.read(2n ** 60n, 1), refused);
  await assert.rejects(namespace.write(0, new Uint8Array(100)), refused);
  await assert.rejects(namespace.write(0, new Uint8Array(0)), refused);
  await assert.rejects(namespace.readInto(buffer, 0, 9), refused);
  await assert.rejects(namespace.readInto(buffer, 0, 1, 3), refused);
  await assert.rejects(namespace.deallocate([{ first: 2040, count: 9 }]), refused);
});

test("logs, features, identifiers", async (t) => {
  const { nvme } = await started(t);
  assert.equal((await nvme.smart()).COMPOSITE_TEMPERATURE, 300);
  assert.equal((await nvme.firmwareLog()).AFI, 1);
  assert.deepEqual(
    (await nvme.errorLog()).map(({ ERROR_COUNT }) => ERROR_COUNT),
    [7n],
  );
  await nvme.features.setFeature(Feature.ARBITRATION, 3);
  assert.equal(await nvme.features.getFeature(Feature.ARBITRATION), 3);
  const [identifier] = await nvme.identifiers(2);
  assert.deepEqual([identifier?.kind, identifier?.bytes.length, identifier?.bytes[0]], [2, 16, 2]);
});

test("asynchronous events are told, again and again", async (t) => {
  const { nvme, device } = await started(t);
  const seen: number[] = [];
  using _ = nvme.events.on("asynchronous-event", ({ information, logPage }) => seen.push(information, logPage));
  for (let i = 0; i < 5; i++) {
    while (device.pendingEventRequests === 0) await new Promise((resolve) => setImmediate(resolve));
    device.event(2 | (i << 8) | (4 << 16));
  }
  while (device.pendingEventRequests === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(seen, [0, 4, 1, 4, 2, 4, 3, 4, 4, 4]);
});

test("the end: shutdown told, queues deleted, all memory and interrupts given back, later calls refused", async () => {
  const device = new FakeNvme();
  const nvme = await NvmeDriver.start(device.fn, { clock: new VirtualClock(), ioQueues: 2 });
  const namespace = nvme.namespace(1);
  const reading = namespace.read(0, 1);
  await nvme[Symbol.asyncDispose]();
  assert.equal((await reading).length, 512);
  assert.ok(device.shutDown);
  assert.deepEqual(device.executed.slice(-4), ["0:0", "0:4", "0:0", "0:4"]);
  assert.equal(device.fn.dma.mappedBytes, 0);
  assert.equal(device.fn.interrupts.active, "none");
  assert.equal(device.fn.busMaster, false);
  await assert.rejects(namespace.read(0, 1), { code: "NVME_CLOSED" });
  await assert.rejects(nvme.smart(), { code: "NVME_CLOSED" });
  await nvme[Symbol.asyncDispose]();
  // The function can be used again.
  await using again = await NvmeDriver.start(device.fn, { clock: new VirtualClock() });
  assert.equal((await again.namespace(1).read(0, 1)).length, 512);
});

test("another device is not taken for a controller", async () => {
  await assert.rejects(NvmeDriver.start(new FakeFunction()), { code: "WRONG_DEVICE" });
  const small = new FakeFunction({ classCode: 0x010802, bars: { 0: { size: 4096 } } });
  await assert.rejects(NvmeDriver.start(small), { code: "WRONG_DEVICE" });
  await assert.rejects(NvmeDriver.start(new FakeNvme().fn, { queueDepth: 1 }), RangeError);
});

// The NVMe driver on QEMU's controller over the kernel's VFIO, as uid 1000: every command on both namespaces, every way
// of noticing completions, many queues at once.
// timeout: 600
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import {
  Feature,
  isNvmeStatus,
  NvmeDriver,
  type NvmeOptions,
  Status,
} from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import type { PciFunction } from "../../../packages/ring3/src/pci/function.ts";
import { counting, FUNCTIONS } from "../machine.ts";

const { address } = FUNCTIONS.nvme;
const backends = existsSync("/dev/iommu") ? (["group", "iommufd"] as const) : (["group"] as const);

async function withDriver(
  options: NvmeOptions,
  body: (nvme: NvmeDriver, fn: PciFunction) => Promise<void>,
  backend: (typeof backends)[number] = backends[0],
): Promise<void> {
  await using fn = await open(address, { backend });
  await using nvme = await NvmeDriver.start(fn, options);
  await body(nvme, fn);
}

function pattern(bytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(bytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + seed, 0x9e37_79b1);
  return new Uint8Array(words.buffer);
}

for (const backend of backends) {
  test(`${backend}: identify and read known contents`, async () => {
    assert.equal(process.getuid?.(), 1000);
    await withDriver(
      {},
      async (nvme) => {
        assert.equal(nvme.controller.VID, 0x1b36);
        assert.equal(nvme.controller.SN, "ring3-nvme0");
        assert.match(nvme.controller.MN, /QEMU NVMe/);
        assert.deepEqual(
          nvme.namespaces.map(({ id, blockSize, blocks }) => [id, blockSize, blocks]),
          [
            [1, 512, BigInt(2 ** 26 / 512)],
            [2, 4096, BigInt(2 ** 26 / 4096)],
          ],
        );
        for (const namespace of nvme.namespaces) {
          for (const first of [0, 1, 1000]) {
            const bytes = await namespace.read(first, 3);
            assert.deepEqual(bytes, counting(first * namespace.blockSize, 3 * namespace.blockSize));
          }
        }
      },
      backend,
    );
  });
}

for (const dataPointers of ["prp", "sgl"] as const) {
  test(`${dataPointers}: write, read back, compare, zero, deallocate, verify, flush on both namespaces`, async () => {
    await withDriver({ dataPointers, ioQueues: 2 }, async (nvme) => {
      for (const namespace of nvme.namespaces) {
        const { blockSize } = namespace;
        for (const count of [1, 7, 64, (1 << 20) / blockSize + 3]) {
          const data = pattern(count * blockSize, count);
          await namespace.write(2048n, data);
          await namespace.flush();
          assert.deepEqual(await namespace.read(2048n, count), data);
          await namespace.compare(2048n, data);
          data[data.length - 1] = (data[data.length - 1] as number) ^ 1;
          await assert.rejects(namespace.compare(2048n, data), (error) => isNvmeStatus(error, Status.COMPARE_FAILURE));
          await namespace.verify(2048n, count);
        }
        await namespace.writeZeroes(2050n, 5);
        assert.ok((await namespace.read(2050n, 5)).every((byte) => byte === 0));
        assert.ok((await namespace.read(2049n, 1)).some((byte) => byte !== 0));
        await namespace.deallocate([
          { first: 2056, count: 8 },
          { first: 2080, count: 16 },
        ]);
        await namespace.read(2056, 24);
        await assert.rejects(namespace.read(namespace.blocks - 1n, 2), { code: "NVME_RANGE" });
      }
    });
  });
}

test("zero-copy at odd places of a buffer", async () => {
  await withDriver({}, async (nvme) => {
    using buffer = nvme.allocate(1 << 20);
    const namespace = nvme.namespace(1);
    for (const [offset, count] of [
      [0, 1],
      [4, 9],
      [4092, 16],
      [512, 1500],
    ] as const) {
      buffer.bytes.fill(0xee);
      await namespace.readInto(buffer, 40, count, offset);
      const size = count * 512;
      assert.deepEqual(buffer.bytes.slice(offset, offset + size), counting(40 * 512, size), `offset ${offset}`);
      assert.ok(buffer.bytes.subarray(0, offset).every((byte) => byte === 0xee));
      assert.ok(buffer.bytes.subarray(offset + size).every((byte) => byte === 0xee));
      await namespace.writeFrom(buffer, 9000, count, offset);
      assert.deepEqual(await namespace.read(9000, count), counting(40 * 512, size));
    }
  });
});

test("features, logs and identifiers", async () => {
  await withDriver({}, async (nvme) => {
    const { features } = nvme;
    const threshold = await features.getFeature(Feature.TEMPERATURE_THRESHOLD);
    await features.setFeature(Feature.TEMPERATURE_THRESHOLD, 340);
    assert.equal((await features.getFeature(Feature.TEMPERATURE_THRESHOLD)) & 0xffff, 340);
    await features.setFeature(Feature.TEMPERATURE_THRESHOLD, threshold);
    await assert.rejects(features.getFeature(0xbf), (error) => isNvmeStatus(error, Status.INVALID_FIELD));
    const before = await nvme.smart();
    await nvme.namespace(1).read(0, 8);
    const after = await nvme.smart();
    assert.ok(after.HOST_READ_COMMANDS > before.HOST_READ_COMMANDS);
    assert.ok(after.COMPOSITE_TEMPERATURE > 273 && after.COMPOSITE_TEMPERATURE < 400);
    assert.equal((await nvme.firmwareLog()).AFI & 7, 1);
    assert.ok(Array.isArray(await nvme.errorLog()));
    assert.ok((await nvme.identifiers(1)).length > 0);
    assert.throws(() => nvme.namespace(3), { code: "NVME_NO_NAMESPACE" });
  });
});

const modes: readonly NvmeOptions[] = [
  { completion: "polled" },
  { completion: "interrupt", interrupts: "msix" },
  { completion: "adaptive", interrupts: "msix" },
  { completion: "interrupt", interrupts: "intx" },
  { completion: "adaptive", interrupts: "intx" },
  { completion: "interrupt", interrupts: "msix", ioQueues: 8, queueDepth: 33 },
];

for (const options of modes) {
  test(`32 in flight, mixed, ${JSON.stringify(options)}`, async () => {
    await withDriver(options, async (nvme) => {
      assert.equal(nvme.queues.io, options.ioQueues ?? 1);
      await mixedLoad(nvme, 800);
    });
  });
}

/** 32 workers over disjoint parts of both namespaces; each reads back what it wrote. */
async function mixedLoad(nvme: NvmeDriver, operations: number): Promise<void> {
  let left = operations;
  const worker = async (index: number): Promise<void> => {
    const namespace = nvme.namespace(1 + (index % 2));
    const own = 4096 + index * 64;
    for (let round = 0; left-- > 0; round++) {
      const count = 1 + ((index + round) % 8);
      const first = own + (round % 8) * 8;
      const data = pattern(count * namespace.blockSize, index * 1000 + round);
      await namespace.write(first, data);
      assert.deepEqual(await namespace.read(first, count), data);
      if (round % 10 === 9) await namespace.flush();
    }
  };
  await Promise.all(Array.from({ length: 32 }, (_, index) => worker(index)));
}

// What is Linux's own: virtual functions, a shared address space, worker threads, and what the kernel tells of IOMMU,
// regions, features and resets.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { open } from "../../../packages/ring3/src/index.ts";
import { DmaPool } from "../../../packages/ring3/src/pci/dma-pool.ts";
import { AddressSpace } from "../../../packages/ring3/src/vfio/address-space.ts";
import { rejectsCode, throwsCode } from "../../contract/fixture.ts";
import { backends, eduTransfer, opened } from "../../contract/guest-functions.ts";
import { FUNCTIONS } from "../machine.ts";

test("open takes addresses in every form, and nothing else", async (t) => {
  const fn = await open("01:00.0");
  t.after(() => fn[Symbol.asyncDispose]());
  assert.equal(fn.identity.address, "0000:01:00.0");
  assert.equal(fn.identity.backend, backends.includes("iommufd") ? "vfio-iommufd" : "vfio-group");
  await rejectsCode(open("nonsense"), "ADDRESS_INVALID");
  await rejectsCode(open("vfio-user:/run/nobody-serves-here.sock"), "SYSTEM_CALL");
});

for (const backend of backends) {
  test(`${backend}: a virtual function has ids that its hardware does not show`, async (t) => {
    for (const { address } of [FUNCTIONS.igbVf0, FUNCTIONS.igbVf1]) {
      const raw = readFileSync(`/sys/bus/pci/devices/${address}/config`).readUInt32LE(0);
      assert.equal(raw, 0xffff_ffff, "what the hardware says");
      const fn = await opened(t, address, { backend });
      assert.equal(fn.config.read16(0), 0x8086);
      assert.equal(fn.identity.vendorId, 0x8086);
      assert.equal(fn.identity.deviceId, 0x10ca);
      assert.equal(fn.identity.classCode, 0x02_00_00);
      const registers = fn.bar(0).registers();
      assert.equal(registers.read32(8), fn.bar(0).read32(8));
      assert.ok(fn.interrupts.available.msix >= 3);
      await fn[Symbol.asyncDispose]();
    }
  });

  test(`${backend}: functions that share an address space reach each other's buffers`, async () => {
    using space = new AddressSpace({ backend });
    throwsCode(() => space.limits(), "ADDRESS_SPACE_EMPTY");
    {
      await using a = await open(FUNCTIONS.sharedA.address, { addressSpace: space });
      await using b = await open(FUNCTIONS.sharedB.address, { addressSpace: space });
      await using c = await open(FUNCTIONS.edu.address, { addressSpace: space });
      assert.equal(space.functions, 3);
      throwsCode(() => space[Symbol.dispose](), "ADDRESS_SPACE_BUSY");
      using buffer = a.dma.allocate(4096, { below: 2 ** 28 });
      throwsCode(() => b.dma.allocate(4096, { iova: buffer.iova }), "IOVA_IN_USE");
      buffer.bytes.fill(0x5c, 0, 64);
      b.busMaster = true;
      await eduTransfer(b, buffer.iova, 0x40000, 64, 1);
      await eduTransfer(b, 0x40000, buffer.iova + 1024, 64, 3);
      assert.ok(buffer.bytes.subarray(1024, 1088).every((byte) => byte === 0x5c));
      c.busMaster = true;
      await eduTransfer(c, buffer.iova, 0x40000, 64, 1);
      await eduTransfer(c, 0x40000, buffer.iova + 2048, 64, 3);
      assert.ok(buffer.bytes.subarray(2048, 2112).every((byte) => byte === 0x5c));
    }
    assert.equal(space.functions, 0);
    // Empty again, it can be used again.
    await using again = await open(FUNCTIONS.edu.address, { addressSpace: space });
    again.dma.allocate(4096);
  });

  test(`${backend}: a worker attaches to registers, memory and a vector, and learns of the end`, async (t) => {
    const fn = await opened(t, FUNCTIONS.nvme.address, { backend });
    const registers = fn.bar(0).registers();
    const buffer = fn.dma.allocate(4096);
    buffer.words[0] = 41;
    const [zero, one] = fn.interrupts.msix(2);
    assert.ok(zero !== undefined && one !== undefined);
    const handle = fn.handle([1]);
    throwsCode(() => one.poll(), "INTERRUPT_LENT");
    throwsCode(() => fn.handle([1]), "INTERRUPT_LENT");
    throwsCode(() => fn.handle([7]), "INTERRUPT_INVALID");
    const worker = new Worker(new URL("../../contract/attach-worker.ts", import.meta.url), {
      workerData: { handle, iova: buffer.iova },
    });
    const message = async (): Promise<Record<string, unknown>> => (await once(worker, "message"))[0];
    const first = await message();
    assert.deepEqual(first, { register: registers.read32(8), arenaOffset: registers.arenaOffset });
    assert.equal(buffer.words[1], 42);
    const second = message();
    one.trigger();
    assert.deepEqual(await second, { count: 1 });
    const third = message();
    await fn[Symbol.asyncDispose]();
    assert.deepEqual(await third, { ending: "FUNCTION_CLOSED", late: "REGION_REVOKED" });
    await worker.terminate();
  });

  test(`${backend}: limits, regions and resets as the kernel tells them`, async (t) => {
    const fn = await opened(t, FUNCTIONS.nvme.address, { backend });
    const { ranges, pageSizes, mappingsLeft } = fn.dma.limits();
    assert.ok(
      ranges.every(({ first, last }) => last < 0xfee0_0000 || first > 0xfeef_ffff),
      "the message window is a hole",
    );
    assert.equal(pageSizes[0], 4096);
    if (backend === "group") {
      assert.deepEqual(pageSizes, [4096, 2 ** 21, 2 ** 30]);
      assert.equal(mappingsLeft, 65535);
      using _ = fn.dma.allocate(4096);
      assert.equal(fn.dma.limits().mappingsLeft, 65534);
    }
    const regions = fn.regions();
    assert.equal(regions[0]?.size, fn.bar(0).size);
    assert.equal(regions[0]?.msixMappable, true);
    assert.equal(regions[8]?.size, 0, "no VGA");
    assert.ok(fn.resetMethods.includes("flr"));
    assert.equal(await fn.reset(), "flr");
    const scope = fn.hotResetScope();
    assert.deepEqual(
      scope?.affected.map(({ address }) => address),
      [FUNCTIONS.nvme.address],
    );
    assert.equal(await fn.hotReset(), "bus");
    assert.equal(fn.bar(0).registers().read32(8), fn.bar(0).read32(8));
    const features = fn.features.list();
    assert.ok(features.includes("LOW_POWER_ENTRY"));
    assert.equal(fn.features.migration(), undefined);
    throwsCode(() => fn.features.migrationState(), "NOT_SUPPORTED");
    throwsCode(() => fn.features.startDmaLogging([{ iova: 0, size: 4096 }], 4096), "NOT_SUPPORTED");
    if (features.includes("DMA_BUF")) {
      using dmaBuf = fn.features.exportDmaBuf(0, [{ offset: 0, size: 4096 }]);
      assert.ok(dmaBuf.number > 2);
    }
  });

  test(`${backend}: the kernel writes a register when an eventfd is signalled`, async (t) => {
    const fn = await opened(t, FUNCTIONS.edu.address, { backend });
    const registers = fn.bar(0).registers();
    using doorbell = fn.ioeventfd(0, 0x80, 4, 0x0bad_cafen);
    doorbell.write();
    while (registers.read32(0x80) !== 0x0bad_cafe) await delay(1);
    doorbell[Symbol.dispose]();
    registers.write32(0x80, 0);
    throwsCode(() => fn.ioeventfd(0, 0x81, 4, 0n), "REGISTER_RANGE");
  });

  test(`${backend}: pages that the device wrote are known, where the IOMMU or the kernel keeps track`, async (t) => {
    const fn = await opened(t, FUNCTIONS.edu.address, { backend });
    const pages = fn.addressSpace.dirtyPages;
    if (pages === undefined) return t.skip("not offered");
    using buffer = fn.dma.allocate(8 * pages.pageSize, { below: 2 ** 28 });
    fn.busMaster = true;
    pages.start();
    try {
      await eduTransfer(fn, 0x40000, buffer.iova + 3 * pages.pageSize, 64, 3);
      const bitmap = pages.read(buffer.iova, buffer.size);
      assert.equal(bitmap.length, 8);
      assert.ok(((bitmap[0] ?? 0) & 0b1000) !== 0, "the page that was written");
    } finally {
      pages.stop();
    }
  });

  test(`${backend}: ten thousand small buffers take few mappings`, async (t) => {
    const fn = await opened(t, FUNCTIONS.edu.address, { backend });
    using pool = new DmaPool(fn.dma, { below: 2 ** 28 });
    const buffers = Array.from({ length: 10_000 }, () => pool.allocate(256));
    assert.ok(pool.slabCount <= 2, `${pool.slabCount} slabs`);
    const [first] = buffers;
    const last = buffers.at(-1);
    assert.ok(first !== undefined && last !== undefined);
    first.bytes.fill(0x99);
    fn.busMaster = true;
    await eduTransfer(fn, first.iova, 0x40000, 256, 1);
    await eduTransfer(fn, 0x40000, last.iova, 256, 3);
    assert.ok(last.bytes.every((byte) => byte === 0x99));
  });

  test(`${backend}: opening and closing leaves no descriptor and no locked memory behind`, async () => {
    const count = async (): Promise<string> => {
      const { readdir, readFile } = await import("node:fs/promises");
      const locked = /VmLck:.*|VmPin:.*/g.exec(await readFile("/proc/self/status", "utf8"))?.[0];
      return `${(await readdir("/proc/self/fd")).length} ${locked}`;
    };
    const cycle = async (): Promise<void> => {
      await using fn = await open(FUNCTIONS.nvme.address, { backend });
      fn.bar(0).registers().read32(8);
      fn.dma.allocate(3 * 4096);
      const [interrupt] = fn.interrupts.msix(4);
      interrupt?.trigger();
      await interrupt?.next({ timeoutMs: 20_000 });
    };
    await cycle();
    const before = await count();
    for (let i = 0; i < 5; i++) await cycle();
    assert.equal(await count(), before);
  });
}

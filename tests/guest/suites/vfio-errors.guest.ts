// What goes wrong when a function is opened or memory mapped, each with an error that names cause and fix; and that what
// is not mapped cannot be reached.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isRing3Error, type Ring3Error } from "../../../packages/ring3/src/binary/error.ts";
import { openVfio } from "../../../packages/ring3/src/vfio/open.ts";
import { Child } from "../../contract/child.ts";
import { throwsCode } from "../../contract/fixture.ts";
import { backends, eduTransfer, opened } from "../../contract/guest-functions.ts";
import { bind } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

async function failure(address: string, backend: "group" | "iommufd" | "auto" = "auto"): Promise<Ring3Error> {
  try {
    await using fn = await openVfio(address, { backend });
    return assert.fail(`${fn.identity.address} was opened`);
  } catch (error) {
    if (isRing3Error(error)) return error;
    throw error;
  }
}

test("no such function", async () => {
  const error = await failure("0000:7f:1f.7");
  assert.equal(error.code, "NOT_FOUND");
});

test("not bound to vfio-pci: the error names the driver and the command", async () => {
  const kernel = await failure(FUNCTIONS.peerNvme.address);
  assert.equal(kernel.code, "NOT_BOUND");
  assert.match(kernel.message, /bound to nvme/);
  assert.match(kernel.message, /sudo ring3 bind 0000:07:00\.0 --user/);
  await bind(FUNCTIONS.edu.address, "none");
  try {
    const unbound = await failure(FUNCTIONS.edu.address);
    assert.equal(unbound.code, "NOT_BOUND");
    assert.match(unbound.message, /no driver/);
  } finally {
    await bind(FUNCTIONS.edu.address, "vfio-pci");
  }
});

for (const backend of backends) {
  test(`${backend}: a group that is not viable: the error names the culprit and its driver`, async () => {
    const { sharedA, sharedB } = FUNCTIONS;
    await bind(sharedB.address, "uio_pci_generic");
    try {
      const error = await failure(sharedA.address, backend);
      assert.equal(error.code, "GROUP_NOT_VIABLE");
      assert.match(error.message, /0000:09:02\.0 is bound to uio_pci_generic/);
      assert.match(error.message, /ring3 bind 0000:09:01\.0 .*--group/);
    } finally {
      await bind(sharedB.address, "vfio-pci");
    }
    await using fn = await openVfio(sharedA.address, { backend });
    assert.equal(fn.identity.vendorId, 0x1234);
  });

  test(`${backend}: an unbound neighbour in the group does no harm`, async () => {
    await bind(FUNCTIONS.sharedB.address, "none");
    try {
      await using fn = await openVfio(FUNCTIONS.sharedA.address, { backend });
      assert.equal(fn.identity.deviceId, 0x11e8);
    } finally {
      await bind(FUNCTIONS.sharedB.address, "vfio-pci");
    }
  });

  test(`${backend}: nodes of somebody else: the error names node, owner and command`, async () => {
    const { address } = FUNCTIONS.edu;
    await bind(address, "none");
    await bind(address, "vfio-pci", 0);
    try {
      const error = await failure(address, backend);
      assert.equal(error.code, "PERMISSION_DENIED");
      assert.match(error.message, /\/dev\/vfio\/.*root:root, mode 0600.*sudo ring3 bind 0000:02:00\.0 --user/);
    } finally {
      await bind(address, "vfio-pci");
    }
  });

  test(`${backend}: a function that is in use: the error names who holds it`, async () => {
    const { address } = FUNCTIONS.edu;
    const options = JSON.stringify({ backend });
    await using child = new Child(
      `const fn = await openVfio("${address}", ${options}); console.log("open"); setInterval(() => fn, 1000);`,
    );
    assert.equal(await child.line(), "open");
    const error = await failure(address, backend);
    assert.equal(error.code, "BUSY");
    assert.match(error.message, new RegExp(`process ${child.pid} `));
    await child.kill();
    await using fn = await openVfio(address, { backend });
    const again = await failure(address, backend);
    assert.equal(again.code, "BUSY");
    assert.match(again.message, new RegExp(`process ${process.pid} `));
    assert.equal(fn.bar(0).read32(0), 0x0100_00ed);
  });

  test(`${backend}: killed in the middle of DMA, it opens again at the first try`, async () => {
    const { address } = FUNCTIONS.edu;
    await using child = new Child(`
      const fn = await openVfio("${address}", ${JSON.stringify({ backend })});
      const buffer = fn.dma.allocate(4096, { below: 2 ** 28 });
      fn.busMaster = true;
      const registers = fn.bar(0).registers();
      registers.write64(0x80, 0x40000n);
      registers.write64(0x88, BigInt(buffer.iova));
      registers.write64(0x90, 4096n);
      registers.write64(0x98, 3n);
      console.log("running");
      setInterval(() => fn, 1000);`);
    assert.equal(await child.line(), "running");
    await child.kill();
    await using fn = await openVfio(address, { backend });
    assert.equal(fn.busMaster, false);
    assert.equal(fn.bar(0).registers().read32(0), 0x0100_00ed);
  });

  test(`${backend}: more memory than may be locked: the error gives need, limit and fix`, async (t) => {
    const fn = await opened(t, FUNCTIONS.edu.address, { backend });
    const before = fn.dma.limits().lockableBytes;
    assert.ok(before !== undefined, "uid 1000 is bound by RLIMIT_MEMLOCK");
    const room = Math.floor(before / 4096) * 4096;
    assert.throws(
      () => fn.dma.allocate(room + 2 ** 21),
      (error: unknown) => {
        assert.ok(isRing3Error(error, "MEMLOCK_LIMIT"));
        assert.match(error.message, /MiB/);
        assert.match(error.message, /ulimit -l \d+/);
        return true;
      },
    );
    // All of it can be had, and nothing more; given back it can be had again.
    const all = fn.dma.allocate(room);
    assert.ok((fn.dma.limits().lockableBytes ?? 0) < 4096);
    throwsCode(() => fn.dma.allocate(4096), "MEMLOCK_LIMIT");
    all[Symbol.dispose]();
    fn.dma.allocate(4096);
  });

  test(`${backend}: more vectors than descriptors: the error names the limit, and fewer vectors work`, async () => {
    const script = `
      const fn = await openVfio("${FUNCTIONS.nvme.address}", ${JSON.stringify({ backend })});
      try {
        fn.interrupts.msix(fn.interrupts.available.msix);
        console.log("all of them");
      } catch (error) {
        console.log(error.message);
      }
      const [first] = fn.interrupts.msix(2);
      first.trigger();
      console.log(String(await first.next()));
      await fn[Symbol.asyncDispose]();`;
    await using child = new Child(script, "-n 64");
    assert.match(await child.line(), /NOFILE_LIMIT: 65 vectors .* of RLIMIT_NOFILE's 64 .*ulimit -n \d+/);
    assert.equal(await child.line(), "1");
  });

  test(`${backend}: what is not mapped cannot be reached, and neighbours stay untouched`, async (t) => {
    const fn = await opened(t, FUNCTIONS.edu.address, { backend });
    using three = fn.dma.arena.reserve(3 * 4096);
    using source = fn.dma.allocate(4096, { below: 2 ** 28 });
    source.bytes.fill(0xee);
    const bytes = fn.dma.arena.bytes(three.offset, three.size);
    const page = (index: number): Uint8Array => bytes.subarray(index * 4096, (index + 1) * 4096);
    bytes.fill(0x11);
    fn.busMaster = true;
    await eduTransfer(fn, source.iova, 0x40000, 64, 1);
    const iova = 0x0400_0000;
    using first = fn.dma.map(three, { iova });
    await eduTransfer(fn, 0x40000, iova + 4096, 64, 3);
    assert.equal(page(1)[0], 0xee, "mapped, it arrives");
    first[Symbol.dispose]();
    bytes.fill(0x22);
    for (const at of [iova, iova + 4096, iova + 3 * 4096, 0x1000]) await eduTransfer(fn, 0x40000, at, 64, 3);
    assert.ok(
      bytes.every((byte) => byte === 0x22),
      "unmapped, nothing arrives",
    );
    // Without bus mastering nothing leaves the device either.
    using again = fn.dma.map(three, { iova });
    fn.busMaster = false;
    await eduTransfer(fn, 0x40000, again.iova, 64, 3);
    assert.ok(bytes.every((byte) => byte === 0x22));
  });
}

test("iommufd where the kernel lacks it says what the kernel needs", {
  skip: backends.includes("iommufd"),
}, async () => {
  const error = await failure(FUNCTIONS.edu.address, "iommufd");
  assert.equal(error.code, "NO_IOMMUFD");
  assert.match(error.message, /CONFIG_IOMMUFD/);
});

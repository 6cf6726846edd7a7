// ring3 at both ends, with QEMU, an IOMMU and a kernel between: its drivers, over the guest's VFIO, on its own devices.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EduDriver } from "../../../packages/ring3/src/drivers/edu/index.ts";
import { NvmeDriver, type NvmeOptions } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { linux, mediate, strict } from "../../../packages/ring3/src/mediation/index.ts";
import { AdvancedFeatures } from "../../../packages/ring3/src/pci/capabilities/advanced-features.ts";
import { Header, Header0 } from "../../../packages/ring3/src/pci/header.ts";
import { inProcess } from "../../../packages/ring3/src/virtual/index.ts";
import { backends, eduParts, guestFunction, nvmeParts } from "../../contract/guest-functions.ts";
import { pciFunctionContract } from "../../contract/pci-function.ts";
import { BLOCK_SIZE, BLOCKS, SERVED_AF, SERVED_EDU, SERVED_NVME } from "./places.ts";

// A device for each of the kernel's interfaces: the suites of the guest run both on QEMU's devices.
const group = "group";
const last = backends.at(-1) ?? group;
pciFunctionContract(`served edu over ${group}`, guestFunction(SERVED_EDU, group, eduParts));
pciFunctionContract(`served nvme over ${last}`, guestFunction(SERVED_NVME, last, nvmeParts));

for (const completion of ["poll", "intx", "msi"] as const) {
  test(`the edu driver on a served edu, ${completion}`, async () => {
    await using fn = await open(SERVED_EDU);
    await using edu = await EduDriver.start(fn, { completion });
    assert.equal(edu.liveness(0x1234_5678), ~0x1234_5678 >>> 0);
    assert.equal(await edu.factorial(12), 479_001_600);
    const data = Uint8Array.from({ length: 4096 }, (_, i) => (i * 5 + (i >> 8)) & 0xff);
    await edu.store(0, data);
    assert.deepEqual(await edu.load(0, 4096), data);
    await edu.reset();
    assert.equal(await edu.factorial(6), 720);
  });
}

const ways: readonly NvmeOptions[] = [
  { completion: "polled" },
  { completion: "interrupt", interrupts: "msix", ioQueues: 2 },
  { completion: "interrupt", interrupts: "msi", dataPointers: "sgl" },
  { completion: "interrupt", interrupts: "intx" },
];

for (const [index, options] of ways.entries()) {
  test(`the NVMe driver on a served disk: ${Object.values(options).join(", ")}`, async () => {
    await using fn = await open(SERVED_NVME);
    await using nvme = await NvmeDriver.start(fn, options);
    const disk = nvme.namespace(1);
    assert.deepEqual([disk.blockSize, disk.blocks], [BLOCK_SIZE, BigInt(BLOCKS)]);
    const data = Uint8Array.from({ length: 64 * BLOCK_SIZE }, (_, i) => (i * 7 + (i >> 12) + index) & 0xff);
    await disk.write(BigInt(64 * index), data);
    assert.deepEqual(await disk.read(BigInt(64 * index), 64), data);
    await Promise.all(Array.from({ length: 64 }, (_, i) => disk.read(BigInt(i), 1)));
    await disk.flush();
  });
}

for (const rules of [strict, linux]) {
  test(`a reset by advanced features, which a mediator's user asks for: ${rules.name}`, async () => {
    await using neighbour = await open(SERVED_EDU);
    await using neighbouring = await EduDriver.start(neighbour, { completion: "msi" });
    await neighbouring.store(0, Uint8Array.of(7));
    await using real = await open(SERVED_AF);
    assert.equal(real.resetMethods[0], "af_flr");
    await using mediated = await mediate(real, { rules });
    await using fn = inProcess(mediated);
    const bars = (): number[] => [fn, real].map(({ config }) => config.readRaw(Header0.BAR0));
    const before = bars();
    for (let round = 0; round < 2; round++) {
      await using edu = await EduDriver.start(fn, { completion: "msi" });
      assert.deepEqual(await edu.load(0, 4), new Uint8Array(4));
      await edu.store(0, Uint8Array.of(1, 2, 3, 4));
      assert.deepEqual(await edu.load(0, 4), Uint8Array.of(1, 2, 3, 4));
      fn.config.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 1 });
      assert.equal(fn.config.read(AdvancedFeatures.CONTROL).INITIATE_FLR, 0);
      assert.deepEqual(bars(), before);
      fn.config.write(Header.COMMAND, { MEMORY: 1, BUS_MASTER: 1 });
      assert.equal(await edu.factorial(5), 120);
    }
    assert.deepEqual(await neighbouring.load(0, 1), Uint8Array.of(7));
  });
}

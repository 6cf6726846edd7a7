// The teaching driver on QEMU's edu over the kernel's VFIO, as uid 1000.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { EduDriver } from "../../../packages/ring3/src/drivers/edu/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { FUNCTIONS } from "../machine.ts";

const backends = existsSync("/dev/iommu") ? (["group", "iommufd"] as const) : (["group"] as const);

for (const backend of backends) {
  for (const completion of ["poll", "intx", "msi"] as const) {
    test(`${backend}, ${completion}: identification, liveness, factorial, DMA both ways, reset`, async () => {
      await using fn = await open(FUNCTIONS.edu.address, { backend });
      await using edu = await EduDriver.start(fn, { completion });
      assert.deepEqual(edu.version(), { major: 1, minor: 0 });
      assert.equal(edu.liveness(0x1234_5678), ~0x1234_5678 >>> 0);
      for (const [n, expected] of [
        [0, 1],
        [5, 120],
        [12, 479_001_600],
        [13, 1_932_053_504],
      ] as const) {
        assert.equal(await edu.factorial(n), expected);
      }
      const data = Uint8Array.from({ length: 4096 }, (_, i) => (i * 5 + (i >> 8)) & 0xff);
      await edu.store(0, data);
      assert.deepEqual(await edu.load(0, 4096), data);
      assert.deepEqual(await edu.load(100, 33), data.slice(100, 133));
      await assert.rejects(edu.load(4000, 97), { code: "DMA_RANGE" });
      await edu.reset();
      assert.equal(await edu.factorial(6), 720);
    });
  }
}

test("another device is not taken for an edu", async () => {
  await using fn = await open(FUNCTIONS.testdev.address);
  await assert.rejects(EduDriver.start(fn), { code: "WRONG_DEVICE" });
});

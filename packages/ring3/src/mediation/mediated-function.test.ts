// Functions behind the mediator, in process: drivers work as without it, and between two users nothing is left.
import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryBacking } from "../devices/block-backing.ts";
import { EduDevice } from "../devices/edu/device.ts";
import { NvmeDevice } from "../devices/nvme/device.ts";
import { EduDriver } from "../drivers/edu/driver.ts";
import { NvmeDriver } from "../drivers/nvme/driver.ts";
import { Header } from "../pci/header.ts";
import { inProcess } from "../virtual/in-process.ts";
import { linux, mediate, strict, vfio2010 } from "./index.ts";

for (const rules of [strict, linux, vfio2010]) {
  for (const completion of ["poll", "intx", "msi"] as const) {
    test(`edu by ${completion} under the rules ${rules.name}`, async () => {
      await using fn = inProcess(new EduDevice());
      await using mediated = await mediate(fn, { rules });
      await using user = inProcess(mediated);
      await using edu = await EduDriver.start(user, { completion });
      assert.equal(await edu.factorial(5), 120);
      assert.equal(await edu.factorial(6), 720);
    });
  }

  test(`nvme under the rules ${rules.name}`, async () => {
    const device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }] });
    await using fn = inProcess(device);
    await using mediated = await mediate(fn, { rules });
    await using user = inProcess(mediated);
    await using nvme = await NvmeDriver.start(user, { completion: "interrupt" });
    const data = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
    await nvme.namespace(1).write(3n, data);
    assert.deepEqual(await nvme.namespace(1).read(3n, 1), data);
    assert.ok(mediated.lockedBytes > 0);
  });
}

test("one user at a time, and the next finds nothing of the one before", async () => {
  await using fn = inProcess(new EduDevice());
  await using mediated = await mediate(fn);
  {
    await using user = inProcess(mediated);
    user.bar(0).write64(0x80, 0x1234n);
    assert.throws(() => inProcess(mediated), { code: "FUNCTION_BUSY" });
  }
  assert.throws(() => inProcess(mediated), { code: "FUNCTION_BUSY" });
  await mediated.settling;
  await using next = inProcess(mediated);
  assert.equal(next.bar(0).read64(0x80), 0n);
  assert.equal(next.config.read(Header.COMMAND).BUS_MASTER, 0);
});

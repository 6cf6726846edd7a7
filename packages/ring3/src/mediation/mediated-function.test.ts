// Functions behind the mediator, in process: drivers work as without it, and between two users nothing is left.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Ring3Error } from "../binary/error.ts";
import { memoryBacking } from "../devices/block-backing.ts";
import { EduDevice } from "../devices/edu/device.ts";
import { NvmeDevice } from "../devices/nvme/device.ts";
import { EduDriver } from "../drivers/edu/driver.ts";
import { NvmeDriver } from "../drivers/nvme/driver.ts";
import { Header } from "../pci/header.ts";
import { FakeClient, turn } from "../vfio-user/fake-client.ts";
import { Command } from "../vfio-user/messages.ts";
import { serve } from "../vfio-user/server.ts";
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

test("errors and removal are passed on, and observers hear of everything that happens", async () => {
  const device = new EduDevice();
  await using fn = inProcess(device);
  await using mediated = await mediate(fn);
  const told: string[] = [];
  mediated.observe({
    session: ({ kind }) => told.push(kind),
    notice: ({ kind }) => told.push(kind),
    reset: ({ cause }) => told.push(`reset by ${cause}`),
    dma: ({ kind, reachable }) => told.push(`${kind} ${reachable}`),
    config: ({ kind, offset }) => {
      if (kind === "write" && offset === 0x3c) told.push("config write");
    },
  });
  const user = inProcess(mediated);
  let signals = "";
  mediated.interrupts.connect("error", 0, { signal: () => (signals += "E") });
  mediated.interrupts.connect("request", 0, { signal: () => (signals += "R") });
  fn.events.emit("error", { description: "an error" });
  fn.events.emit("removal-requested", { graceMs: 1000 });
  user.config.write8(0x3c, 7);
  using buffer = user.dma.allocate(4096);
  await user.reset();
  assert.equal(buffer.size, 4096);
  device.remove("unplugged");
  assert.equal(signals, "ER");
  await assert.rejects(user.reset(), { code: "FUNCTION_REMOVED" });
  assert.deepEqual(told, [
    "opened",
    "error",
    "removal-requested",
    "config write",
    "mapped true",
    "reset by user",
    "removed",
    "unmapped true",
    "closed",
  ]);
});

test("a client that comes while the function is being reset waits, and a reset that fails keeps everybody out", async () => {
  await using fn = inProcess(new EduDevice());
  await using mediated = await mediate(fn);
  const directory = mkdtempSync(join(tmpdir(), "ring3-mediated-"));
  await using server = await serve(mediated, join(directory, "s"));
  const first = await FakeClient.open(server.path);
  const resets: PromiseWithResolvers<"bus">[] = [];
  fn.reset = () => {
    const reset = Promise.withResolvers<"bus">();
    resets.push(reset);
    return reset.promise;
  };
  first[Symbol.dispose]();
  while (resets.length === 0) await turn();
  using second = FakeClient.connect(server.path);
  second.send(Command.VERSION, Uint8Array.of(0, 0, 0, 0));
  for (let turns = 0; turns < 20; turns++) await turn();
  assert.equal(second.silent, true);
  resets[0]?.resolve("bus");
  assert.equal((await second.next()).errno, 0);
  second[Symbol.dispose]();
  while (resets.length === 1) await turn();
  resets[1]?.reject(new Ring3Error("RESET_BUSY", "it hangs"));
  await mediated.settling;
  assert.equal(mediated.spoilt?.code, "RESET_FAILED");
  assert.throws(() => inProcess(mediated), { code: "RESET_FAILED" });
  using third = FakeClient.connect(server.path);
  assert.equal(await third.errno(Command.VERSION, Uint8Array.of(0, 0, 0, 0)), 5);
  const again = mediated.resetAgain();
  resets[2]?.resolve("bus");
  await again;
  await using user = inProcess(mediated);
  assert.equal(user.config.isPresent(), true);
  fn.reset = () => Promise.resolve("bus");
  rmSync(directory, { recursive: true, force: true });
});

test("a function that cannot be reset, a bridge, and one without an IOMMU are refused", async () => {
  await using fn = inProcess(new EduDevice());
  Object.defineProperty(fn, "resetMethods", { value: [] });
  await assert.rejects(mediate(fn), { code: "NOT_SUPPORTED", message: /withoutReset/ });
  await using mediated = await mediate(fn, { withoutReset: "allow" });
  assert.equal(mediated.spoilt, undefined);
  fn.dma.limits = () => {
    throw new Ring3Error("NO_IOMMU", "none");
  };
  await assert.rejects(mediate(fn, { withoutReset: "allow" }), { code: "NO_IOMMU" });
});

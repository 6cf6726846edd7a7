// Our driver and our client against a target as strict as SPDK's.
// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import { rejectsCode, throwsCode } from "../../../../tests/contract/fixture.ts";
import { SpdkTarget } from "../../../../tests/fakes/spdk-target.ts";
import { NvmeDriver, type NvmeOptions } from "../drivers/nvme/index.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import type { DmaBuffer } from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import { type ConnectOptions, connect } from "./client.ts";
import { Command } from "./messages.ts";

const ways: readonly (readonly [string, ConnectOptions, NvmeOptions])[] = [
  ["polled, doorbells mapped", { trustServerMemory: true }, { completion: "polled" }],
  ["with interrupts, doorbells mapped", { trustServerMemory: true }, { completion: "interrupt" }],
  ["polled, doorbells by message", { trustServerMemory: false }, { completion: "polled" }],
];

for (const [name, connection, options] of ways) {
  test(`the NVMe driver keeps to what SPDK's target expects: ${name}`, async () => {
    await using target = await SpdkTarget.start(2);
    // The second client finds config space as the first one left it.
    for (let round = 0; round < 2; round++) {
      await using fn = await connect(target.path, connection);
      await using nvme = await NvmeDriver.start(fn, options);
      const written = new Uint8Array(8192).fill(0x30 + round);
      const disk = nvme.namespace(1);
      await disk.write(8n, written);
      await disk.flush();
      assert.deepEqual(await disk.read(8n, 16), written);
    }
    for (const { violations, commands, maps } of await target.seen()) {
      assert.deepEqual(violations, []);
      assert.ok(maps > 0 && maps <= 64);
      // Asked for the size of the answer first, then for the areas.
      assert.ok((commands[Command.DEVICE_GET_REGION_INFO] ?? 0) > 8);
      for (const never of [Command.REGION_WRITE_MULTI, Command.DMA_READ, Command.DMA_WRITE, Command.MIG_DATA_READ]) {
        assert.equal(commands[never] ?? 0, 0);
      }
    }
  });
}

test("who wants no interrupts says so in config space, whatever a former client left there", async () => {
  await using target = await SpdkTarget.start();
  await using fn = await connect(target.path);
  assert.equal(fn.config.read(Header.COMMAND).INTX_DISABLE, 1);
  assert.equal(fn.config.read(MsiX.CONTROL).MSIX_ENABLE, 0);
});

test("the 65th map is refused without a word, and the error says what to do", async () => {
  await using target = await SpdkTarget.start();
  {
    await using fn = await connect(target.path);
    const buffers: DmaBuffer[] = [];
    for (let i = 0; i < 64; i++) buffers.push(fn.dma.allocate(4096));
    throwsCode(() => fn.dma.allocate(4096), "DMA_MAPPINGS_EXHAUSTED");
    buffers.pop()?.[Symbol.dispose]();
    fn.dma.allocate(4096);
  }
  const [seen] = await target.seen();
  assert.deepEqual([seen?.violations, seen?.maps], [[], 64]);
});

test("memory that is not shared is refused by a server that takes descriptors only", async () => {
  await using target = await SpdkTarget.start();
  await using fn = await connect(target.path, { shareMemory: false });
  throwsCode(() => fn.dma.allocate(4096), "DMA_REFUSED");
  await rejectsCode(NvmeDriver.start(fn), "DMA_REFUSED");
});

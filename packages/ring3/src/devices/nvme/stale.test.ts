// A state that is older than what the device did to the host's memory: the controller comes back fatal and does nothing of
// what it seems to have under way, since that may be done, and its memory in use for something else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeldBacking } from "../../../../../tests/fakes/held-backing.ts";
import { NvmeHost, turns } from "../../../../../tests/fakes/nvme-host.ts";
import { IoOpcode } from "../../specs/nvme/commands.ts";
import { Csts, Nvme } from "../../specs/nvme/registers.ts";
import { inProcess } from "../../virtual/index.ts";
import { NvmeDevice } from "./index.ts";

for (const stale of [false, true]) {
  test(`a write under way when its state was saved is ${stale ? "not done again from a stale state" : "done from an exact one"}`, async () => {
    const backing = new HeldBacking(2 ** 16);
    using device = new NvmeDevice({ namespaces: [{ backing }], serialNumber: "STALE" });
    await using fn = inProcess(device);
    const host = new NvmeHost(fn);
    host.enable();
    await host.createPair(1);
    const data = fn.dma.allocate(4096);
    data.bytes.fill(1);
    host.post({ opcode: IoOpcode.WRITE, nsid: 1, prp1: data.iova, cdw12: 7 }, 1);
    host.ring(1);
    await turns();
    assert.equal(backing.held.length, 1);
    const state = device.save();
    // The write is completed, and its memory used for something else.
    backing.held[0]?.finish();
    await turns();
    assert.ok(host.reap(1) !== undefined);
    data.bytes.fill(2);
    backing.holding = false;
    device.restore(state, { stale });
    await turns();
    assert.equal(backing.bytes[0], stale ? 1 : 2);
    assert.equal(Csts.CFS.test(host.csts), stale);
    assert.equal(Csts.RDY.test(host.csts), true);
    // A reset brings it back.
    fn.bar(0).write32(Nvme.CC, 0);
    assert.equal(host.csts, 0);
    const next = new NvmeHost(fn);
    next.enable();
    await next.createPair(1);
    await next.ok({ opcode: IoOpcode.WRITE, nsid: 1, prp1: data.iova, cdw12: 7 }, 1);
    assert.equal(backing.bytes[0], 2);
  });
}

test("a disabled controller has nothing to be behind with", async () => {
  using device = new NvmeDevice({ namespaces: [{ backing: new HeldBacking(2 ** 16) }], serialNumber: "STALE" });
  await using fn = inProcess(device);
  device.restore(device.save(), { stale: true });
  assert.equal(new NvmeHost(fn).csts, 0);
});

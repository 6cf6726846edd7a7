// Errors that the platform reports (AER; of QEMU's devices only virtio-blk takes them).
import assert from "node:assert/strict";
import { test } from "node:test";
import { next, patiently } from "../../contract/awaited-events.ts";
import { backends, opened } from "../../contract/guest-functions.ts";
import { monitor } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const SERR = 0x100;

for (const backend of backends) {
  for (const [severity, error] of [
    ["non-fatal", "COMP_TIME"],
    ["fatal", "DLP"],
  ] as const) {
    test(`${backend}: a ${severity} error and its recovery become events, and the function works on`, async (t) => {
      const fn = await opened(t, FUNCTIONS.virtioBlk.address, { backend });
      assert.equal(fn.config.read16(0x04) & SERR, SERR, "without it the function would not report");
      const told = Promise.all([next(fn, "error"), next(fn, "recovered")]);
      await monitor(`pcie_aer_inject_error ${FUNCTIONS.virtioBlk.id} ${error}`);
      const [happened] = await patiently(told);
      assert.match((happened as { description: string }).description, /AER/);
      await fn.reset();
      assert.equal(fn.config.read16(0), fn.identity.vendorId);
      const bar = fn.bar(4);
      assert.equal(bar.registers({ offset: 0, size: 64 }).read32(0), bar.read32(0));
    });
  }
}

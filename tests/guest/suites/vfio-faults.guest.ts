// Errors that the platform reports (AER; of QEMU's devices only virtio-blk takes them).
import assert from "node:assert/strict";
import { test } from "node:test";
import { PciExpress } from "../../../packages/ring3/src/pci/capabilities/pci-express.ts";
import { next, patiently } from "../../contract/awaited-events.ts";
import { backends, opened } from "../../contract/guest-functions.ts";
import { monitor } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const SERR = 0x100;

for (const backend of backends) {
  for (const [severity, error, reset] of [
    ["non-fatal", "COMP_TIME", undefined],
    ["fatal", "DLP", "bus"],
  ] as const) {
    test(`${backend}: a ${severity} error and its recovery become events, and so does the next; the function works on`, async (t) => {
      const fn = await opened(t, FUNCTIONS.virtioBlk.address, { backend });
      assert.equal(fn.config.read16(0x04) & SERR, SERR, "without it the function would not report");
      const control = fn.config.readRaw(PciExpress.DEVICE_CONTROL);
      const inject = async (what: string): Promise<readonly unknown[]> => {
        const told = Promise.all([next(fn, "error"), next(fn, "recovered")]);
        await monitor(`pcie_aer_inject_error ${FUNCTIONS.virtioBlk.id} ${what}`);
        return await patiently(told);
      };
      const [happened, recovered] = await inject(error);
      assert.match((happened as { description: string }).description, /AER/);
      assert.equal((recovered as { reset?: string }).reset, reset);
      // The kernel gives nothing back after a reset of the link: errors would not be reported any more.
      assert.equal(fn.config.readRaw(PciExpress.DEVICE_CONTROL), control);
      await fn.reset();
      await inject("COMP_TIME");
      assert.equal(fn.config.read16(0), fn.identity.vendorId);
      const bar = fn.bar(4);
      assert.equal(bar.registers({ offset: 0, size: 64 }).read32(0), bar.read32(0));
    });
  }
}

for (const backend of backends) {
  test(`${backend}: a reset leaves alone what the user made of error reporting`, async (t) => {
    const fn = await opened(t, FUNCTIONS.virtioBlk.address, { backend });
    fn.config.write(PciExpress.DEVICE_CONTROL, {
      CORRECTABLE_ERROR_REPORTING_ENABLE: 0,
      NON_FATAL_ERROR_REPORTING_ENABLE: 0,
      FATAL_ERROR_REPORTING_ENABLE: 0,
      UNSUPPORTED_REQUEST_REPORTING_ENABLE: 0,
    });
    const control = fn.config.readRaw(PciExpress.DEVICE_CONTROL);
    await fn.reset();
    assert.equal(fn.config.readRaw(PciExpress.DEVICE_CONTROL), control);
  });
}

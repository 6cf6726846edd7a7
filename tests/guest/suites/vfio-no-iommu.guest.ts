// machine: no-iommu
// kernels: iommufd
// Without an IOMMU nothing keeps a device from any memory: only a loud opt-in opens a function, and only with a capability.
import assert from "node:assert/strict";
import { subscribe } from "node:diagnostics_channel";
import { test } from "node:test";
import { openVfio } from "../../../packages/ring3/src/vfio/open.ts";
import { WARNINGS, type Warning } from "../../../packages/ring3/src/vfio/warnings.ts";
import { rejectsCode } from "../../contract/fixture.ts";
import { rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

test("a function behind no IOMMU opens by a loud opt-in only, and never without a capability", async () => {
  const { address } = FUNCTIONS.edu;
  await rejectsCode(openVfio(address), "NO_IOMMU");
  const warnings: string[] = [];
  subscribe(WARNINGS, (warning) => warnings.push((warning as Warning).code));
  await rootOutput("chown 1000:1000 /dev/vfio/noiommu-*");
  await rejectsCode(openVfio(address, { unsafeNoIommu: true, backend: "group" }), "PERMISSION_DENIED");
  assert.deepEqual(warnings, ["RING3_NO_IOMMU"]);
});

test("as root it works but for DMA", async () => {
  const module = new URL("../../../packages/ring3/src/vfio/open.ts", import.meta.url).href;
  const script = `
    import { openVfio } from ${JSON.stringify(module)};
    await using fn = await openVfio("${FUNCTIONS.edu.address}", { unsafeNoIommu: true, backend: "group" });
    const [interrupt] = fn.interrupts.msi(1);
    interrupt.trigger();
    const told = [fn.bar(0).registers().read32(0).toString(16), await interrupt.next()];
    try { fn.dma.allocate(4096); } catch (error) { told.push(error.code); }
    console.log(told.join(" "));`;
  const output = await rootOutput(`${process.execPath} --input-type=module -e '${script}' 2>/dev/null`);
  assert.equal(output.trim(), "10000ed 1 NO_IOMMU");
});

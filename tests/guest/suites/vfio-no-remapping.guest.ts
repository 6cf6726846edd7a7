// machine: no-intremap
// Without interrupt remapping the kernel refuses the IOMMU: the error says why, and what the risk of the way out is.
import { test } from "node:test";
import { openVfio } from "../../../packages/ring3/src/vfio/open.ts";
import { rejectsCode } from "../../contract/fixture.ts";
import { backends } from "../../contract/guest-functions.ts";
import { FUNCTIONS } from "../machine.ts";

for (const backend of backends) {
  test(`${backend}: no interrupt remapping`, async () => {
    await rejectsCode(openVfio(FUNCTIONS.edu.address, { backend }), "NO_INTERRUPT_REMAPPING");
  });
}

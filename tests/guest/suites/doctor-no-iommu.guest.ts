// machine: no-iommu
// kernels: iommufd
// Without an IOMMU: the doctor names what the machine lacks, in the words by which the rig's other machines have it.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { captured } from "../../../packages/cli/src/captured-run.ts";
import type { Finding } from "../../../packages/ring3/src/host/index.ts";
import { rootOutput } from "../inside.ts";
import { FUNCTIONS, type MachineFiles, machineArguments } from "../machine.ts";

const MODE = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

after(async () => void (await rootOutput(`echo Y > ${MODE}`)));

test("no IOMMU: the machine's fault is named once, with what mends it", async () => {
  const look = async (): Promise<Map<string, Finding>> => {
    const { status, stdout } = await captured(["doctor", FUNCTIONS.edu.address, "--json"]);
    assert.equal(status, 7);
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    const wrong = findings.filter(({ severity }) => severity === "failure" || severity === "warning");
    return new Map(wrong.map((finding) => [finding.id, finding]));
  };
  const wrong = await look();
  const firmware = wrong.get("firmware-iommu")?.remedies[0]?.text ?? "";
  assert.equal(wrong.has("iommu-on") || wrong.has("iommu-group"), false);
  // The standard machine of the rig, on which the doctor is content, differs by just this device.
  const device = / (intel-iommu\S+)/.exec(firmware)?.[1] ?? assert.fail(firmware);
  const files: MachineFiles = {
    kernel: "",
    initramfs: "",
    share: "",
    disk: "",
    control: "",
    qmp: "",
    console: "",
    log: "",
  };
  assert.ok(machineArguments(files, {}, false).includes(device));
  assert.equal(machineArguments(files, { iommu: false }, false).includes(device), false);
  await rootOutput(`sudo() { "$@"; }; ${wrong.get("noiommu-mode")?.remedies[0]?.command}`);
  assert.equal((await look()).has("noiommu-mode"), false);
});

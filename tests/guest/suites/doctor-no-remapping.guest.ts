// machine: no-intremap
// Without interrupt remapping VFIO refuses the IOMMU: the doctor says so before anybody tries, and its command works.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { captured } from "../../../packages/cli/src/captured-run.ts";
import type { Finding } from "../../../packages/ring3/src/host/index.ts";
import { rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const SWITCHES = "/sys/module/*/parameters/allow_unsafe_interrupts";

after(async () => void (await rootOutput(`for path in ${SWITCHES}; do echo 0 > $path; done`)));

test("no interrupt remapping: named, and the risk taken by the printed command", async () => {
  const look = async (): Promise<{ status: number; finding: Finding | undefined }> => {
    const { status, stdout } = await captured(["doctor", FUNCTIONS.edu.address, "--dma", "--json"]);
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    return { status, finding: findings.find(({ id }) => id === "interrupt-remapping") };
  };
  const { status, finding } = await look();
  assert.deepEqual([status, finding?.severity], [7, "failure"]);
  const command =
    finding?.remedies.find((remedy) => remedy.command !== undefined)?.command ?? assert.fail("no command");
  assert.match(command, /^echo 1 \| sudo tee \/sys\/module\/vfio_iommu_type1\/parameters\/allow_unsafe_interrupts/);
  await rootOutput(`sudo() { "$@"; }; ${command}`);
  const mended = await look();
  // It opens and maps now; that the risk was taken stays a warning.
  assert.deepEqual([mended.status, mended.finding?.severity], [6, "warning"]);
});

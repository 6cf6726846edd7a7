import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";

const DISK = { address: "0000:01:00.0", group: 11, driver: "vfio-pci" };
const GPU = { address: "0000:03:00.0", group: 14, driver: "vfio-pci", classCode: 0x030000 };
const AUDIO = { address: "0000:03:00.1", group: 14, driver: "snd_hda_intel", classCode: 0x040300 };

test("groups: a tree of members with driver, reset methods, nodes and owners", async () => {
  using machine = new FakeMachine([DISK, GPU, AUDIO]);
  const root = ["--root", machine.root];
  const { status, stdout } = await captured(["groups", ...root]);
  assert.equal(status, 0);
  assert.match(
    stdout,
    /^group 11, DMA-FQ, in the hands of VFIO, .*dev\/vfio\/11 of root 0600\n└─ 0000:01:00\.0 +1b36:0010 /,
  );
  assert.match(
    stdout,
    /group 14, DMA-FQ, blocked by 0000:03:00\.1, .*\n├─ 0000:03:00\.0 .*\n└─ 0000:03:00\.1 .*snd_hda_intel \(blocks\)/,
  );
  assert.match(stdout, /reset: flr, bus/);
  assert.match(stdout, /devices\/vfio0 of root 0600/);
  assert.match(stdout, /\n {3}together because /);
  const shared = await captured(["groups", "--shared", "--json", ...root]);
  const { groups } = JSON.parse(shared.stdout) as {
    groups: { id: number; viable: boolean; blockers: string[]; reasons: string[] }[];
  };
  assert.deepEqual(
    groups.map(({ id, viable, blockers, reasons }) => [id, viable, blockers, reasons.length > 0]),
    [[14, false, [AUDIO.address], true]],
  );
  assert.equal(
    (await captured(["groups", "03:00.1", ...root])).stdout,
    (await captured(["groups", "14", ...root])).stdout,
  );
});

test("groups: none is no error, an unknown one is", async () => {
  using machine = new FakeMachine([{ address: "0000:01:00.0" }]);
  const root = ["--root", machine.root];
  assert.match((await captured(["groups", ...root])).stdout, /IOMMU is off/);
  const unknown = await captured(["groups", "7", ...root]);
  assert.deepEqual([unknown.status, /GROUP_UNKNOWN/.test(unknown.stderr)], [4, true]);
  const none = await captured(["groups", "01:00.0", ...root]);
  assert.deepEqual([none.status, /NO_IOMMU_GROUP.*intel_iommu=on/.test(none.stderr)], [5, true]);
});

test("who: driver, processes with the node open, and the rest of the group", async () => {
  using machine = new FakeMachine([DISK, GPU, AUDIO]);
  const root = ["--root", machine.root];
  assert.match((await captured(["who", "01:00.0", ...root])).stdout, /driver +vfio-pci\n +processes +none has it open/);
  machine.file(`proc/${process.pid}/cmdline`, "testpmd\0-a\0");
  symlinkSync(join(machine.root, "dev/vfio/14"), join(machine.root, `proc/${process.pid}/fd/9`));
  const { stdout } = await captured(["who", "03:00.0", ...root]);
  assert.match(stdout, new RegExp(`process ${process.pid} +testpmd -a \\(root\\) has .*dev/vfio/14 open`));
  assert.match(stdout, /group +14, shared with 0000:03:00\.1/);
  const value = JSON.parse((await captured(["who", "03:00.0", "--json", ...root])).stdout) as Record<string, unknown>;
  assert.deepEqual([value["driver"], value["complete"], value["sharedWith"]], ["vfio-pci", true, [AUDIO.address]]);
  assert.equal((value["holders"] as { descriptor: number }[])[0]?.descriptor, 9);
  assert.equal((await captured(["who", "09:00.0", ...root])).status, 4);
});

test("reset: the plan as shell commands, and what is refused", async () => {
  using machine = new FakeMachine([
    { ...DISK, driver: "nvme" },
    { address: "0000:02:00.0", attributes: { reset_method: "" } },
  ]);
  const root = ["--root", machine.root];
  const dry = await captured(["reset", "01:00.0", "-n", "--method", "bus", ...root]);
  assert.match(dry.stdout, /^echo bus > .*\n.*echo 1 > .*\/reset .*\n/);
  const cases: [status: number, message: RegExp, ...words: string[]][] = [
    [2, /--root/, "reset", "01:00.0", ...root],
    [2, /--method is for sysfs/, "reset", "vfio-user:/x.sock", "--method", "flr"],
    [2, /--method takes one of/, "reset", "01:00.0", "--method", "hammer", ...root],
    [4, /FUNCTION_NOT_FOUND/, "reset", "09:00.0", ...root],
    [5, /RESET_UNAVAILABLE.*no FLR/, "reset", "02:00.0", ...root],
    [5, /RESET_UNAVAILABLE.*offers flr, bus/, "reset", "01:00.0", "--method", "pm", ...root],
  ];
  for (const [status, message, ...words] of cases) {
    const result = await captured(words);
    assert.deepEqual([result.status, result.stdout], [status, ""], `${words.join(" ")}: ${result.stderr}`);
    assert.match(result.stderr, message);
  }
});

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { bind } from "../../../ring3/src/host/binding.ts";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";

const DISK = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const NIC = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000, totalVfs: 7 };

/** A machine without a fault of its own. */
function machineWith(...functions: ConstructorParameters<typeof FakeMachine>[0]): FakeMachine {
  const machine = new FakeMachine(functions);
  machine.file("sys/firmware/acpi/tables/DMAR", "");
  machine.file("proc/interrupts", " 24:  9  IR-PCI-MSI  0-edge  nvme0q0\n");
  machine.file("proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n");
  return machine;
}

test("doctor: what is fine takes a line, what is wrong its evidence, meaning and command", async () => {
  using machine = machineWith(DISK);
  const root = ["--root", machine.root];
  const { status, stdout, stderr } = await captured(["doctor", "01:00.0", "--user", "alice", ...root]);
  assert.deepEqual([status, stderr], [7, ""]);
  assert.match(stdout, /^This machine, for alice\nfine {5}the firmware describes an IOMMU: DMAR \(Intel VT-d\)\n/);
  assert.match(
    stdout,
    /\n0000:01:00\.0, for alice\nFAULT {4}the kernel's nvme has it {2}\[driver\]\n {9}seen {3}\S*\/driver: nvme\n {9}means {2}only .*\n {9}mend {3}sudo ring3 bind 0000:01:00\.0 --user alice {2}# bind it\n/,
  );
  assert.match(stdout, /\nIt will not work yet: 1 fault, \d+ checks fine.*\.\n$/);
  const all = await captured(["doctor", "01:00.0", "--all", ...root]);
  assert.match(all.stdout, /the IOMMU is on: 1 group {2}\[iommu-on\]\n {9}seen {3}\S*iommu_groups: 1 group\n/);
});

test("doctor: statuses for scripts, and JSON that holds everything", async () => {
  using machine = machineWith(DISK);
  const root = ["--root", machine.root];
  await bind({ addresses: [DISK.address] }, machine.host());
  const fine = await captured(["doctor", "--user", "root", ...root]);
  assert.equal(fine.status, 0, fine.stdout);
  machine.file(`sys/devices/pci0000:00/${DISK.address}/reset_method`, "\n");
  const warned = await captured(["doctor", "--user", "root", "--json", ...root]);
  assert.equal(warned.status, 6);
  const { schemaVersion, verdict, addresses, findings } = JSON.parse(warned.stdout) as Record<string, unknown> & {
    findings: Record<string, unknown>[];
  };
  assert.deepEqual([schemaVersion, verdict, addresses], [1, "warnings", [DISK.address]]);
  for (const finding of findings) {
    assert.deepEqual(Object.keys(finding), [
      "id",
      "severity",
      "address",
      "summary",
      "evidence",
      "consequence",
      "remedies",
    ]);
  }
  const reset = findings.find(({ id }) => id === "reset-method") as {
    remedies: { command: string; needsReboot: boolean }[];
  };
  assert.match(reset.remedies[0]?.command ?? "", /^echo default \| sudo tee .*reset_method$/);
  assert.equal((await captured(["doctor", "09:00.0", ...root])).status, 4);
  assert.equal((await captured(["doctor", "--dma", ...root])).status, 2);
  assert.equal((await captured(["doctor", "--user", "nobody-here", ...root])).status, 4);
});

test("permit: the plan with its rules, and what is refused", async () => {
  using machine = machineWith(DISK);
  machine.file("etc/udev/udev.conf", "");
  const root = ["--root", machine.root];
  const cases: [status: number, message: RegExp, ...words: string[]][] = [
    [5, /NOT_BOUND.*sudo ring3 bind/, "permit", "01:00.0", "--user", "alice", "-n"],
    [2, /--user NAME/, "permit", "01:00.0", "-n"],
    [2, /--revoke takes only/, "permit", "01:00.0", "--revoke", "--persist", "-n"],
    [2, /--root/, "permit", "01:00.0", "--user", "alice"],
    [2, /--acl lets a user in/, "bind", "01:00.0", "--acl", "-n"],
    [5, /NOTHING_TO_REVOKE/, "permit", "01:00.0", "--revoke", "-n"],
  ];
  for (const [status, message, ...words] of cases) {
    const refused = await captured([...words, ...root]);
    assert.equal(refused.status, status, `${words.join(" ")}: ${refused.stderr}`);
    assert.match(refused.stderr, message);
  }
  await bind({ addresses: [DISK.address] }, machine.host());
  const plan = await captured(["permit", "01:00.0", "--user", "alice", "--persist", "-n", ...root]);
  assert.match(
    plan.stdout,
    /^chown 1000 \S*\/dev\/vfio\/11 {2}# .*\ntee \S*70-ring3-0000:01:00\.0-1000\.rules <<'RULES'\n# 0000:01:00\.0 is bound/,
  );
  assert.equal(existsSync(join(machine.root, "etc/udev/rules.d")), false);
});

test("vfs: shows what there is, and plans what would be", async () => {
  using machine = machineWith(DISK, NIC);
  const root = ["--root", machine.root];
  assert.equal((await captured(["vfs", "05:00.0", ...root])).stdout, "0000:05:00.0 has 0 of 7 virtual functions\n");
  const plan = await captured(["vfs", "05:00.0", "2", "-n", ...root]);
  assert.match(plan.stdout, /^# note in .*\necho 0 > \S*sriov_drivers_autoprobe .*\necho 2 > \S*sriov_numvfs .*\n$/);
  assert.match((await captured(["vfs", "05:00.0", "2", "-n", "--probe", ...root])).stdout, /echo 1 > \S*autoprobe/);
  assert.equal(readFileSync(join(machine.root, `sys/devices/pci0000:00/${NIC.address}/sriov_numvfs`), "utf8"), "0\n");
  const cases: [status: number, message: RegExp, ...words: string[]][] = [
    [5, /SRIOV_UNAVAILABLE/, "01:00.0"],
    [2, /N is a number/, "05:00.0", "many"],
    [1, /TOO_MANY_VFS.*0 to 7/, "05:00.0", "8", "-n"],
    [2, /--root/, "05:00.0", "2"],
  ];
  for (const [status, message, ...words] of cases) {
    const refused = await captured(["vfs", ...words, ...root]);
    assert.equal(refused.status, status, `${words.join(" ")}: ${refused.stderr}`);
    assert.match(refused.stderr, message);
  }
});

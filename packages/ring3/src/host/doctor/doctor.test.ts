// seconds: 1
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { bind } from "../binding.ts";
import { FakeMachine } from "../fake-machine.ts";
import { type Diagnosis, type ExamineRequest, examine } from "./examine.ts";
import type { Finding, Severity } from "./finding.ts";

const NVME = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const GPU = { address: "0000:03:00.0", group: 14, driver: "nouveau", classCode: 0x030000 };
const AUDIO = { address: "0000:03:00.1", group: 14, driver: "snd_hda_intel", classCode: 0x040300 };
const PORT = { address: "0000:00:01.0", group: 14, driver: "pcieport", classCode: 0x060400 };
const NIC = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000, totalVfs: 7 };
const alice = { name: "alice", uid: 1000, gids: [1000] };
const DEVICE = `sys/devices/pci0000:00/${NVME.address}`;
const LIMITS = (locked: string, files: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         ${locked}            bytes\nMax open files            ${files}                files\n`;

/** A machine on which everything is as it should be, as far as files say so. */
function healthy(): FakeMachine {
  const machine = new FakeMachine([PORT, NVME, GPU, AUDIO, NIC]);
  const files: Record<string, string> = {
    "sys/firmware/acpi/tables/DMAR": "",
    "sys/firmware/acpi/tables/FACP": "",
    "sys/class/iommu/dmar0/intel-iommu/cap": "d2008c40660462",
    "sys/class/iommu/dmar0/intel-iommu/ecap": "f050da",
    "sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "N\n",
    "sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "65535\n",
    "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "N\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on\n",
    "proc/interrupts": "  0:  1  IR-IO-APIC    2-edge  timer\n 24:  9  IR-PCI-MSI-0000:01:00.0  0-edge  nvme0q0\n",
    "proc/self/limits": LIMITS("unlimited unlimited", "65536 524288"),
    "proc/self/status": "Name:\tnode\nCapEff:\t0000000000000000\n",
    [`${DEVICE}/power/runtime_status`]: "suspended\n",
    [`${DEVICE}/iommu/intel-iommu/cap`]: "d2008c40660462",
  };
  for (const [path, text] of Object.entries(files)) machine.file(path, text);
  return machine;
}

const look = async (machine: FakeMachine, request: Partial<ExamineRequest> = {}): Promise<Diagnosis> =>
  await examine({ addresses: [NVME.address], user: alice, ...request }, machine.host());

const finding = (diagnosis: Diagnosis, id: string): Finding => {
  const found = diagnosis.findings.find((candidate) => candidate.id === id);
  assert.ok(found !== undefined, `no ${id} among ${diagnosis.findings.map((candidate) => candidate.id).join(" ")}`);
  return found;
};

/** A node that a process has open, as /proc shows it. */
function hold(machine: FakeMachine, pid: number, node: string): void {
  machine.file(`proc/${pid}/cmdline`, "testpmd\0-a\0");
  mkdirSync(join(machine.paths.procRoot, `${pid}/fd`), { recursive: true });
  symlinkSync(join(machine.paths.devRoot, node), join(machine.paths.procRoot, `${pid}/fd/5`));
}

test("a machine that is well has no fault, no warning and a verdict to match", async () => {
  using machine = healthy();
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  // The test may run as a user who owns none of the fake nodes.
  const diagnosis = await look(machine, {
    user: process.geteuid?.() === 0 ? alice : { name: "root", uid: 0, gids: [0] },
  });
  const bad = diagnosis.findings.filter(({ severity }) => severity !== "fine" && severity !== "unseen");
  assert.deepEqual(bad, []);
  assert.equal(diagnosis.verdict, "fine");
  assert.equal(finding(diagnosis, "iova-width").summary, "DMA addresses may have 39 bits");
  assert.match(finding(diagnosis, "group-viable").summary, /group 11 can be opened \(alone in it\)/);
  for (const { evidence, id } of diagnosis.findings) assert.ok(evidence.length > 0, `${id} has no evidence`);
});

test("without an address it looks at what is bound, and at nothing else", async () => {
  using machine = healthy();
  assert.deepEqual((await look(machine, { addresses: [] })).addresses, []);
  await bind({ addresses: [GPU.address], wholeGroup: true }, machine.host());
  assert.deepEqual((await look(machine, { addresses: undefined })).addresses, [GPU.address, AUDIO.address]);
});

interface Case {
  readonly name: string;
  readonly id: string;
  readonly severity: Severity;
  /** Whether the function is bound to VFIO for alice first. */
  readonly bound?: boolean;
  readonly break: (machine: FakeMachine) => void | Promise<void>;
  readonly request?: Partial<ExamineRequest>;
  readonly evidence: RegExp;
  /** Of the first remedy; `undefined` where only hands help. */
  readonly command: RegExp | undefined;
}

const set = (path: string, text: string) => (machine: FakeMachine) => machine.file(path, text);
const noGroups = (machine: FakeMachine): void => {
  rmSync(join(machine.paths.sysfsRoot, "kernel/iommu_groups"), { recursive: true });
  rmSync(join(machine.paths.sysfsRoot, "class/iommu"), { recursive: true });
};

const CASES: readonly Case[] = [
  {
    name: "the firmware has no IOMMU",
    id: "firmware-iommu",
    severity: "failure",
    break: (machine) => {
      noGroups(machine);
      rmSync(join(machine.paths.sysfsRoot, "firmware/acpi/tables/DMAR"));
    },
    evidence: /acpi\/tables: has FACP, none of DMAR/,
    command: undefined,
  },
  {
    name: "the kernel does not use the IOMMU, and GRUB boots it",
    id: "iommu-on",
    severity: "failure",
    break: (machine) => {
      noGroups(machine);
      machine.file("proc/cmdline", "root=/dev/sda1 intel_iommu=off\n");
      machine.file("etc/default/grub", "");
    },
    evidence: /cmdline: intel_iommu=off/,
    command:
      /^sudo sed -i -e '.*intel_iommu=off.*' -e '.*intel_iommu=on.*' \/etc\/default\/grub && sudo update-grub && sudo reboot$/,
  },
  {
    name: "AMD's IOMMU is switched off by hand",
    id: "iommu-on",
    severity: "failure",
    break: (machine) => {
      noGroups(machine);
      rmSync(join(machine.paths.sysfsRoot, "firmware/acpi/tables/DMAR"));
      machine.file("sys/firmware/acpi/tables/IVRS", "");
      machine.file("proc/cmdline", "amd_iommu=off\n");
      machine.file("etc/kernel/cmdline", "");
    },
    evidence: /cmdline: amd_iommu=off/,
    command:
      /^sudo sed -i -e '.*amd_iommu=off.*' \/etc\/kernel\/cmdline && sudo kernel-install add-all && sudo reboot$/,
  },
  {
    name: "interrupts are not remapped",
    id: "interrupt-remapping",
    severity: "failure",
    break: (machine) => {
      machine.file(
        "proc/interrupts",
        "  0:  1  IO-APIC    2-edge  timer\n 24:  9  PCI-MSI-0000:01:00.0  0-edge  nvme0q0\n",
      );
      machine.file("sys/class/iommu/dmar0/intel-iommu/ecap", "f050d2");
    },
    evidence: /interrupts: IO-APIC, PCI-MSI.*ecap: bit 3/,
    command: /^echo 1 \| sudo tee .*vfio_iommu_type1\/parameters\/allow_unsafe_interrupts$/,
  },
  {
    name: "interrupts are not remapped, by the command line",
    id: "interrupt-remapping",
    severity: "failure",
    break: (machine) => {
      machine.file("proc/interrupts", " 24:  9  PCI-MSI  0-edge  nvme0q0\n");
      machine.file("proc/cmdline", "intel_iommu=on intremap=off\n");
      machine.link("etc/grub2.cfg", "etc/passwd");
    },
    evidence: /PCI-MSI/,
    command: /^sudo grubby --update-kernel=ALL --remove-args=intremap=off && sudo reboot$/,
  },
  {
    name: "forged interrupts were accepted",
    id: "interrupt-remapping",
    severity: "warning",
    break: (machine) => {
      machine.file("proc/interrupts", " 24:  9  PCI-MSI  0-edge  nvme0q0\n");
      machine.file("sys/class/iommu/dmar0/intel-iommu/ecap", "f050d2");
      machine.file("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
    },
    evidence: /allow_unsafe_interrupts: Y/,
    command: /^echo 0 \| sudo tee /,
  },
  {
    name: "the kernel is locked down",
    id: "kernel-lockdown",
    severity: "note",
    break: set("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
    evidence: /lockdown: integrity/,
    command: undefined,
  },
  {
    name: "/dev has no node of VFIO",
    id: "vfio-nodes",
    severity: "failure",
    break: (machine) => {
      rmSync(join(machine.paths.devRoot, "vfio"), { recursive: true });
      rmSync(join(machine.paths.devRoot, "iommu"));
    },
    evidence: /vfio\/vfio and .*iommu: not there/,
    command: /^sudo mkdir -p .* && sudo mknod -m 0666 .*\/dev\/vfio\/vfio c 10 196$/,
  },
  {
    name: "the container's node is closed",
    id: "vfio-container",
    severity: "failure",
    request: { user: { name: "bob", uid: 54_321, gids: [54_321] } },
    break: (machine) => machine.node("vfio/vfio", 0o600),
    evidence: /vfio\/vfio: of .*, mode 0600/,
    command: /^sudo chmod 0666 .*\/dev\/vfio\/vfio$/,
  },
  {
    name: "the mode without an IOMMU is on",
    id: "noiommu-mode",
    severity: "warning",
    break: set("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n"),
    evidence: /noiommu_mode: Y/,
    command: /^echo 0 \| sudo tee .*enable_unsafe_noiommu_mode$/,
  },
  {
    name: "a container takes few mappings",
    id: "dma-mappings",
    severity: "warning",
    break: set("sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "16\n"),
    evidence: /dma_entry_limit: 16/,
    command: /^echo 65535 \| sudo tee .*dma_entry_limit$/,
  },
  {
    name: "large pages are off",
    id: "large-pages",
    severity: "note",
    break: set("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
    evidence: /enabled: never/,
    command: /^echo madvise \| sudo tee /,
  },
  {
    name: "little memory may be locked, and root has to allow more",
    id: "memlock",
    severity: "failure",
    break: set("proc/self/limits", LIMITS("65536 65536", "65536 524288")),
    evidence: /Max locked memory: 65536, at most 65536/,
    command: /^sudo prlimit --memlock=unlimited --pid \$\$$/,
  },
  {
    name: "less memory may be locked than is wanted, and the shell may allow more",
    id: "memlock",
    severity: "failure",
    request: { dmaBytes: 2 ** 30 },
    break: set("proc/self/limits", LIMITS("8388608 unlimited", "65536 524288")),
    evidence: /Max locked memory: 8388608/,
    command: /^ulimit -l unlimited$/,
  },
  {
    name: "few files may be open",
    id: "nofile",
    severity: "failure",
    break: set("proc/self/limits", LIMITS("unlimited unlimited", "32 4096")),
    evidence: /Max open files: 32/,
    command: /^ulimit -n \d+$/,
  },
  {
    name: "fewer files may be open than there are vectors",
    id: "nofile",
    severity: "warning",
    request: { vectors: 2048 },
    break: set("proc/self/limits", LIMITS("unlimited unlimited", "1024 1024")),
    evidence: /Max open files: 1024/,
    command: /^sudo prlimit --nofile=\d+ --pid \$\$$/,
  },
  {
    name: "a node without a device",
    id: "stale-node",
    severity: "warning",
    break: (machine) => machine.node("vfio/99", 0o600),
    evidence: /vfio\/99: of root, mode 0600.*class\/vfio\/99: not there/,
    command: /^sudo rm .*\/dev\/vfio\/99$/,
  },
  {
    name: "a record of a function that was unplugged",
    id: "stale-record",
    severity: "warning",
    break: async (machine) => {
      await bind({ addresses: [NIC.address] }, machine.host());
      machine.remove(NIC.address);
    },
    evidence: /bindings\/0000:05:00\.0\.json/,
    command: /^sudo ring3 unbind 0000:05:00\.0$/,
  },
  {
    name: "a shared node that nobody gave back",
    id: "stale-owner",
    severity: "warning",
    break: (machine) => {
      const text = JSON.stringify({ [join(machine.paths.devRoot, "iommu")]: { uid: 0, gid: 0, mode: 0o600 } });
      machine.file("run/ring3/shared-nodes.json", text);
    },
    evidence: /shared-nodes\.json: was of uid 0/,
    command: /^sudo ring3 unbind$/,
  },
  {
    name: "a driver of the kernel has it",
    id: "driver",
    severity: "failure",
    break: () => undefined,
    evidence: /driver: nvme/,
    command: /^sudo ring3 bind 0000:01:00\.0 --user alice$/,
  },
  {
    name: "the machine has a file system on it",
    id: "machine-uses-it",
    severity: "warning",
    break: (machine) => {
      machine.file(`${DEVICE}/nvme/nvme0/nvme0n1/dev`, "259:0\n");
      machine.link("sys/class/block/nvme0n1", `${DEVICE}/nvme/nvme0/nvme0n1`);
      machine.file("proc/self/mountinfo", "22 1 259:0 / /srv/my\\040data rw - ext4 /dev/nvme0n1 rw\n");
    },
    evidence: /nvme0n1 is mounted on \/srv\/my data/,
    command: /^sudo umount '\/srv\/my data'$/,
  },
  {
    name: "the machine runs from it",
    id: "machine-uses-it",
    severity: "warning",
    break: (machine) => {
      machine.file(`${DEVICE}/nvme/nvme0/nvme0n1/dev`, "259:0\n");
      machine.link("sys/class/block/nvme0n1", `${DEVICE}/nvme/nvme0/nvme0n1`);
      machine.file("proc/self/mountinfo", "22 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n");
    },
    evidence: /nvme0n1 is mounted on \//,
    command: undefined,
  },
  {
    name: "its group is shared with a live driver",
    id: "group-viable",
    severity: "failure",
    request: { addresses: [GPU.address] },
    break: () => undefined,
    evidence: /0000:03:00\.1: snd_hda_intel/,
    command: /^sudo ring3 bind 0000:03:00\.0 --group --user alice$/,
  },
  {
    name: "its group is shared with what the machine needs",
    id: "group-viable",
    severity: "failure",
    request: { addresses: [GPU.address] },
    break: (machine) => {
      machine.file("sys/devices/pci0000:00/0000:03:00.1/net/eth0/flags", "0x1003\n");
      machine.link("sys/class/net/eth0", "sys/devices/pci0000:00/0000:03:00.1/net/eth0");
    },
    evidence: /in use: 0000:03:00\.1: network link eth0 is up/,
    command: undefined,
  },
  {
    name: "the firmware keeps memory for itself through it",
    id: "firmware-memory",
    severity: "failure",
    break: set("sys/kernel/iommu_groups/11/reserved_regions", "0x00000000000e8000 0x00000000000e8fff direct\n"),
    evidence: /reserved_regions: .*direct/,
    command: undefined,
  },
  {
    name: "it is in no group",
    id: "iommu-group",
    severity: "failure",
    break: (machine) => rmSync(join(machine.root, DEVICE, "iommu_group")),
    evidence: /iommu_group: not there/,
    command: undefined,
  },
  {
    name: "a binding was cut off",
    id: "binding-cut-off",
    severity: "warning",
    bound: true,
    break: (machine) => machine.interruptBinding(NVME.address),
    evidence: /driver: none/,
    command: /^sudo ring3 bind 0000:01:00\.0 --user alice$/,
  },
  {
    name: "it has no node",
    id: "node-missing",
    severity: "failure",
    bound: true,
    break: (machine) => {
      machine.file("sys/class/vfio/11/dev", "511:3\n");
      rmSync(join(machine.paths.devRoot, "vfio"), { recursive: true });
    },
    evidence: /vfio\/11: not there/,
    command: /^sudo mknod -m 0600 .*\/dev\/vfio\/11 c 511 3$/,
  },
  {
    name: "a process has it open",
    id: "held",
    severity: "failure",
    bound: true,
    break: (machine) => hold(machine, 77, "vfio/11"),
    evidence: /process 77 of .*: testpmd -a has .*vfio\/11 open/,
    command: /^(?:sudo )?kill 77$/,
  },
  {
    name: "it is switched off",
    id: "power",
    severity: "warning",
    break: set(`${DEVICE}/power_state`, "D3cold\n"),
    evidence: /power_state: D3cold/,
    command: /^echo on \| sudo tee .*0000:01:00\.0\/power\/control$/,
  },
  {
    name: "it could not be woken",
    id: "power",
    severity: "failure",
    break: set(`${DEVICE}/power/runtime_status`, "error\n"),
    evidence: /runtime_status: error/,
    command: /power\/control$/,
  },
  {
    name: "it does not answer",
    id: "not-answering",
    severity: "failure",
    break: (machine) => writeFileSync(join(machine.root, DEVICE, "config"), Buffer.alloc(4096, 0xff)),
    evidence: /config: ffffffff/,
    command: /^echo 1 \| sudo tee .*\/remove && echo 1 \| sudo tee .*\/bus\/pci\/rescan$/,
  },
  {
    name: "its reset is switched off",
    id: "reset-method",
    severity: "warning",
    break: set(`${DEVICE}/reset_method`, "\n"),
    evidence: /reset_method: empty/,
    command: /^echo default \| sudo tee .*reset_method$/,
  },
  {
    name: "there is no way to reset it",
    id: "reset-method",
    severity: "warning",
    break: (machine) => rmSync(join(machine.root, DEVICE, "reset_method")),
    evidence: /reset_method: not there/,
    command: undefined,
  },
  {
    name: "a BAR without an address",
    id: "bar-unassigned",
    severity: "failure",
    break: set(`${DEVICE}/resource`, "0x0000000000000000 0x0000000000003fff 0x0000000000140204\n"),
    evidence: /BAR 0 at 0x0, 16 KiB/,
    command: undefined,
  },
  {
    name: "a small BAR inside somebody else's page",
    id: "bar-sub-page",
    severity: "warning",
    break: set(`${DEVICE}/resource`, "0x00000000fe800800 0x00000000fe8008ff 0x0000000000040200\n"),
    evidence: /BAR 0 at 0xfe800800, 256 bytes/,
    command: /^echo 12@0000:01:00\.0 \| sudo tee .*resource_alignment && .*rescan$/,
  },
  {
    name: "a small BAR in a page of its own",
    id: "bar-sub-page",
    severity: "note",
    break: set(`${DEVICE}/resource`, "0x00000000fe800000 0x00000000fe8000ff 0x0000000000040200\n"),
    evidence: /256 bytes/,
    command: undefined,
  },
  {
    name: "a bridge",
    id: "bridge",
    severity: "failure",
    request: { addresses: [PORT.address] },
    break: () => undefined,
    evidence: /class: 0x060400/,
    command: undefined,
  },
];

for (const { name, id, severity, bound = false, break: spoil, request, evidence, command } of CASES) {
  test(`doctor: ${name}`, async () => {
    using machine = healthy();
    if (bound) await bind({ addresses: [NVME.address], user: alice }, machine.host());
    else if (id !== "driver" && id !== "machine-uses-it") {
      const before = (await look(machine, request)).findings.filter((found) => found.id === id);
      assert.ok(
        id === "group-viable" ||
          id === "bridge" ||
          request !== undefined ||
          before.every((found) => found.severity !== severity),
      );
    }
    await spoil(machine);
    const diagnosis = await look(machine, request);
    const found = finding(diagnosis, id);
    assert.equal(found.severity, severity, found.summary);
    assert.match(found.evidence.map(({ source, text }) => `${source}: ${text}`).join("; "), evidence);
    const [remedy] = found.remedies;
    if (command === undefined) assert.equal(remedy?.command, undefined);
    else assert.match(remedy?.command ?? "no command", command);
    if (severity === "failure" || severity === "warning") {
      assert.ok(remedy !== undefined && found.consequence !== undefined);
      assert.equal(diagnosis.verdict === "fine", false);
    }
  });
}

test("permission: root's node, another user's, nobody's", async (t) => {
  if (process.geteuid?.() !== 0) return t.skip("needs root to change owners");
  using machine = healthy();
  const judge = async (user: ExamineRequest["user"]): Promise<Finding[]> => {
    const { findings } = await look(machine, { user });
    return findings.filter(({ id }) => id === "permission" || id === "stale-owner");
  };
  await bind({ addresses: [NVME.address] }, machine.host());
  const [closed] = await judge(alice);
  assert.deepEqual(
    [closed?.severity, closed?.remedies[0]?.command],
    ["failure", "sudo ring3 permit 0000:01:00.0 --user alice"],
  );
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  assert.deepEqual(
    (await judge(alice)).map(({ severity }) => severity),
    ["fine"],
  );
  const [shared] = await judge({ name: "bob", uid: 1001, gids: [1001] });
  assert.match(shared?.summary ?? "", /bob may not open it/);
  assert.deepEqual(
    shared?.remedies.map(({ command }) => command),
    ["sudo ring3 permit 0000:01:00.0 --user bob --acl", "sudo ring3 permit 0000:01:00.0 --user bob --force"],
  );
  await machine.host().operations.setOwner(join(machine.paths.devRoot, "vfio/11"), { uid: 4242, gid: 0, mode: 0o600 });
  await machine
    .host()
    .operations.setOwner(join(machine.paths.devRoot, "vfio/devices/vfio0"), { uid: 4242, gid: 0, mode: 0o600 });
  const [stale] = await judge(alice);
  assert.deepEqual(
    [stale?.id, stale?.remedies[0]?.command],
    ["stale-owner", "sudo ring3 permit 0000:01:00.0 --user alice --force"],
  );
});

test("the command for GRUB does to its file what it says", async () => {
  using machine = healthy();
  noGroups(machine);
  machine.file("proc/cmdline", "quiet intel_iommu=off\n");
  machine.file(
    "etc/default/grub",
    'GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=off splash"\nGRUB_CMDLINE_LINUX="root=/dev/x"\n',
  );
  const [remedy] = finding(await look(machine), "iommu-on").remedies;
  const [edit = ""] = (remedy?.command ?? "").split(" && ");
  const file = join(machine.root, "etc/default/grub");
  execFileSync("sh", ["-c", edit.replace("sudo ", "").replace("/etc/default/grub", file)]);
  assert.equal(
    readFileSync(file, "utf8"),
    'GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"\nGRUB_CMDLINE_LINUX="intel_iommu=on root=/dev/x"\n',
  );
});

test("docs/doctor.md names every finding, and none that there is not", () => {
  const sources = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  const text = sources.map((name) => readFileSync(join(import.meta.dirname, name), "utf8")).join("\n");
  const made = [...text.matchAll(/\.(?:fine|note|warning|failure|unseen)\(\s*"([a-z-]+)"/g)].map(([, id]) => id);
  const guide = readFileSync(join(import.meta.dirname, "../../../../../docs/doctor.md"), "utf8");
  const rows = guide.split("\n").filter((line) => line.startsWith("| `"));
  const named = rows.flatMap((line) => [...(line.split("|")[1] ?? "").matchAll(/`([a-z-]+)`/g)].map(([, id]) => id));
  assert.deepEqual(new Set(named), new Set(made));
});

import assert from "node:assert/strict";
import { chmodSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { functionAccess } from "./access.ts";
import { bind } from "./binding.ts";
import { FakeMachine } from "./fake-machine.ts";
import { describeHolders, findHolders } from "./holders.ts";
import { readFunction } from "./inventory.ts";
import { isVfioDriver, listGroups, readGroup } from "./iommu-groups.ts";
import { listVfioNodes, mayOpen, type VfioNode } from "./nodes.ts";
import { currentUser, groupName, lookUpUser, type User, userName } from "./users.ts";

const NVME = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const me = currentUser();
const stranger = { name: "bob", uid: 54_321, gids: [54_321] };

test("groups tell who blocks them", () => {
  using machine = new FakeMachine([
    { address: "0000:00:01.0", group: 2, driver: "pcieport", classCode: 0x060400 },
    { address: "0000:03:00.0", group: 2, driver: "vfio-pci" },
    { address: "0000:03:00.1", group: 2, driver: "snd_hda_intel" },
    { address: "0000:03:00.2", group: 2 },
    { address: "0000:04:00.0", group: 10, driver: "mlx5_vfio_pci" },
  ]);
  const group = readGroup(2, machine.paths);
  assert.deepEqual(
    group.members.map(({ role }) => role),
    ["harmless", "vfio", "blocking", "unbound"],
  );
  assert.deepEqual(group.blockers, [{ name: "0000:03:00.1", driver: "snd_hda_intel", role: "blocking" }]);
  assert.equal(group.viable, false);
  assert.equal(group.type, "DMA-FQ");
  assert.equal(group.node?.path, join(machine.paths.devRoot, "vfio/2"));
  assert.deepEqual(
    listGroups(machine.paths).map(({ id, viable }) => [id, viable]),
    [
      [2, false],
      [10, true],
    ],
  );
});

test("VFIO's own drivers are known by name", () => {
  for (const name of ["vfio-pci", "mlx5_vfio_pci", "hisi-acc-vfio-pci", "xe-vfio-pci"]) assert.ok(isVfioDriver(name));
  for (const name of ["nvme", "novfio-pcix", "pci-stub", "xvfio-pci"]) assert.ok(!isVfioDriver(name), name);
});

test("nodes are judged by owner, group and mode, in that order", () => {
  const node = (uid: number, gid: number, mode: number, name = "1"): VfioNode => {
    return { path: "/dev/vfio/1", kind: "group", name, noiommu: name.startsWith("noiommu"), uid, gid, mode };
  };
  const user = { name: "alice", uid: 1000, gids: [1000, 36] };
  assert.ok(mayOpen(node(1000, 0, 0o600), user));
  assert.ok(mayOpen(node(0, 36, 0o660), user));
  assert.ok(mayOpen(node(0, 0, 0o666), user));
  assert.ok(!mayOpen(node(0, 0, 0o600), user));
  assert.ok(!mayOpen(node(0, 36, 0o640), user));
  // The owner's bits count for the owner, even where others get more.
  assert.ok(!mayOpen(node(1000, 36, 0o066), user));
  assert.ok(!mayOpen(node(1000, 0, 0o600, "noiommu-1"), user));
  assert.ok(mayOpen(node(0, 0, 0), { name: "root", uid: 0, gids: [0] }));
});

test("access says what is in the way and the command that removes it", async () => {
  using machine = new FakeMachine([NVME, { address: "0000:07:00.0", driver: "vfio-pci" }]);
  const judge = (address: string, user: User = stranger) =>
    functionAccess(readFunction(address, machine.paths), user, machine.paths);
  assert.match(judge(NVME.address).reason ?? "", /bound to nvme.*sudo ring3 bind 0000:01:00\.0/);
  assert.match(judge("0000:07:00.0").reason ?? "", /no IOMMU group/);
  await bind({ addresses: [NVME.address], user: me }, machine.host());
  assert.deepEqual([judge(NVME.address, me).open, judge(NVME.address, me).reason], [true, undefined]);
  const closed = judge(NVME.address);
  assert.equal(closed.open, false);
  assert.match(
    closed.reason ?? "",
    /bob may not open .*vfio\/11 .*mode 0600.*sudo ring3 permit 0000:01:00\.0 --user bob/,
  );
  // One of the two interfaces is enough.
  chmodSync(join(machine.paths.devRoot, "vfio/11"), 0o666);
  const half = judge(NVME.address);
  assert.deepEqual(
    half.paths.map((path) => [path.interface, path.open]),
    [
      ["vfio-group", true],
      ["vfio-iommufd", false],
    ],
  );
  assert.ok(half.open);
});

test("nodes are listed with their kind", async () => {
  using machine = new FakeMachine([NVME]);
  await bind({ addresses: [NVME.address] }, machine.host());
  machine.node("vfio/noiommu-3", 0o600);
  assert.deepEqual(
    listVfioNodes(machine.paths).map(({ kind, name, noiommu }) => [kind, name, noiommu]),
    [
      ["container", undefined, false],
      ["group", "11", false],
      ["group", "noiommu-3", true],
      ["iommufd", undefined, false],
      ["device", "vfio0", false],
    ],
  );
});

test("users are found by name and uid, with their groups", () => {
  using machine = new FakeMachine([]);
  assert.deepEqual(lookUpUser("alice", machine.paths), { name: "alice", uid: 1000, gids: [1000, 36] });
  assert.deepEqual(lookUpUser("1000", machine.paths).name, "alice");
  assert.deepEqual(lookUpUser("4242", machine.paths), { name: undefined, uid: 4242, gids: [4242] });
  assert.throws(() => lookUpUser("mallory", machine.paths), /USER_UNKNOWN/);
  assert.throws(() => lookUpUser("-x", machine.paths), /USER_UNKNOWN/);
  assert.equal(userName(1000, machine.paths), "alice");
  assert.equal(userName(77, machine.paths), undefined);
  assert.deepEqual([groupName(36, machine.paths), groupName(77, machine.paths)], ["vfio", undefined]);
});

test("holders are found by node and, with newer kernels, by the device's fdinfo", () => {
  using machine = new FakeMachine([]);
  const process_ = join(machine.paths.procRoot, "77");
  machine.file("proc/77/cmdline", "node\0x.ts\0");
  machine.file("proc/77/comm", "node\n");
  machine.file("proc/77/fdinfo/6", "pos: 0\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0\n");
  machine.file("proc/77/fd/0", "");
  symlinkSync("/dev/vfio/11", join(process_, "fd/5"));
  symlinkSync("anon_inode:[vfio-device]", join(process_, "fd/6"));
  machine.file("proc/88/comm", "gone\n");
  machine.file("proc/88/fd/0", "");
  rmSync(join(machine.paths.procRoot, "88/fd"), { recursive: true });
  const byNode = findHolders(["/dev/vfio/11"], [], machine.paths);
  assert.equal(byNode.complete, true);
  assert.deepEqual(
    byNode.holders.map(({ pid, command, path, descriptor }) => [pid, command, path, descriptor]),
    [[77, "node x.ts", "/dev/vfio/11", 5]],
  );
  assert.equal(findHolders([], ["0000:01:00.0"], machine.paths).holders[0]?.descriptor, 6);
  assert.deepEqual(findHolders(["/dev/vfio/1"], ["0000:01:00.1"], machine.paths).holders, []);
  assert.equal(describeHolders(byNode.holders), "process 77 (node x.ts)");
});

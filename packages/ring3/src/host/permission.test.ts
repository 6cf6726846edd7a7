import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { decodeAccessList, encodeAccessList, listAllows, withoutUser, withUser } from "./access-list.ts";
import { bind, unbind } from "./binding.ts";
import { FakeMachine } from "./fake-machine.ts";
import { linuxOperations } from "./operations.ts";
import { permit, planPermit, revoke } from "./permission.ts";
import { bindVfs } from "./sriov.ts";
import { findRules } from "./udev-rules.ts";

const NVME = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const GPU = { address: "0000:03:00.0", group: 14, driver: "nouveau", classCode: 0x030000 };
const AUDIO = { address: "0000:03:00.1", group: 14, driver: "snd_hda_intel", classCode: 0x040300 };
const NIC = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000, totalVfs: 7 };
const alice = { name: "alice", uid: 1000, gids: [1000] };
const bob = { name: "bob", uid: 1001, gids: [1001] };
const code = (name: string) => (error: unknown) => isRing3Error(error, name);

test("an access list is what getfacl and the kernel make of the same words", () => {
  // What `setfacl -m u:1000:rw` leaves on a file of mode 0600, as the kernel returned it.
  const kernel = "0200000001000600ffffffff02000600e803000004000000ffffffff10000600ffffffff20000000ffffffff";
  const list = withUser(undefined, 0o600, 1000);
  assert.equal(Buffer.from(encodeAccessList(list)).toString("hex"), kernel);
  assert.deepEqual(decodeAccessList(Buffer.from(kernel, "hex")), list);
  for (const bytes of ["", "0200", "03000000", "020000000100"]) {
    assert.equal(decodeAccessList(Buffer.from(bytes, "hex")), undefined);
  }
});

test("whoever is added may open, nobody else gets more, and taking back leaves what was", () => {
  const owner = { uid: 7, gid: 8 };
  const uid = fc.integer({ min: 9, max: 20 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0o777 }), fc.array(uid), uid, (mode, users, asker) => {
      const lists = users.reduce<ReturnType<typeof withUser> | undefined>(
        (list, user) => withUser(list, mode, user),
        undefined,
      );
      if (lists === undefined) return;
      const user = { name: undefined, uid: asker, gids: [asker] };
      const byMode = (mode & 0o6) === 0o6;
      assert.equal(listAllows(lists, owner, user), users.includes(asker) || byMode);
      const group = { name: undefined, uid: 99, gids: [8] };
      assert.equal(listAllows(lists, owner, group), ((mode >> 3) & 0o6) === 0o6);
      assert.equal(listAllows(lists, owner, { name: undefined, uid: 7, gids: [] }), ((mode >> 6) & 0o6) === 0o6);
      const left = users.reduce<typeof lists | undefined>((list, one) => list && withoutUser(list, one), lists);
      assert.equal(left, undefined);
    }),
  );
});

test("a list that was masked hides nothing again when somebody is added", () => {
  const masked = withUser(undefined, 0o600, 1000).map((entry) =>
    entry.tag === 0x10 ? { ...entry, permissions: 0 } : entry,
  );
  const user = (uid: number) => ({ name: undefined, uid, gids: [uid] });
  assert.equal(listAllows(masked, { uid: 0, gid: 0 }, user(1000)), false);
  const list = withUser(masked, 0o600, 1001);
  assert.deepEqual(
    [1000, 1001].map((uid) => listAllows(list, { uid: 0, gid: 0 }, user(uid))),
    [false, true],
  );
});

test("lists of real files are set, kept by chown and taken away", async (t) => {
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "ring3-acl-"));
  const path = join(folder, "node");
  writeFileSync(path, "");
  const operations = linuxOperations();
  const { uid, gid } = statSync(path);
  try {
    assert.equal(await operations.accessList(path), undefined);
    const accessList = Buffer.from(encodeAccessList(withUser(undefined, 0o600, 1000))).toString("hex");
    await operations.setOwner(path, { uid, gid, mode: 0o600, accessList });
    assert.equal(await operations.accessList(path), accessList);
    assert.equal(statSync(path).mode & 0o777, 0o660);
    await operations.setOwner(path, { uid, gid, mode: 0o600, accessList: null });
    assert.deepEqual([await operations.accessList(path), statSync(path).mode & 0o777], [undefined, 0o600]);
  } catch (error) {
    if (!isRing3Error(error, "NO_ACCESS_LISTS")) throw error;
    t.skip("the file system keeps no access lists");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("permit gives the nodes away, shares them, and takes them back", async (t) => {
  if (process.geteuid?.() !== 0) return t.skip("needs root to change owners");
  using machine = new FakeMachine([NVME]);
  const before = machine.state();
  await bind({ addresses: [NVME.address] }, machine.host());
  const bound = machine.state();
  await permit({ addresses: ["01:00.0"], user: alice }, machine.host());
  assert.equal(machine.state()["dev/vfio/11"], "1000 0 600");
  assert.throws(() => planPermit({ addresses: [NVME.address], user: bob }, machine.host()), code("NODE_OWNED"));
  await permit({ addresses: [NVME.address], user: bob, handOver: "list" }, machine.host());
  assert.match(machine.state()["dev/vfio/11"] ?? "", /^1000 0 600 02000000.*02000600e9030000/);
  await revoke({ addresses: [NVME.address], user: bob }, machine.host());
  assert.equal(machine.state()["dev/vfio/11"], "1000 0 600");
  await assert.rejects(revoke({ addresses: [NVME.address], user: bob }, machine.host()), code("NOTHING_TO_REVOKE"));
  await permit({ addresses: [NVME.address], user: bob, force: true }, machine.host());
  assert.equal(machine.state()["dev/vfio/11"], "1001 0 600");
  await revoke({ addresses: [NVME.address] }, machine.host());
  assert.equal(machine.state()["dev/vfio/11"], bound["dev/vfio/11"]);
  await unbind({ addresses: [NVME.address] }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("permit refuses what is not bound, and needs root", async () => {
  using machine = new FakeMachine([NVME]);
  const plan = () => planPermit({ addresses: [NVME.address], user: alice }, machine.host());
  assert.throws(plan, /NOT_BOUND.*nvme has it.*sudo ring3 bind 0000:01:00\.0 --user alice/);
  await bind({ addresses: [NVME.address] }, machine.host());
  machine.privileged = false;
  await assert.rejects(
    permit({ addresses: [NVME.address], user: alice }, machine.host()),
    /NOT_ROOT.*sudo ring3 permit/,
  );
});

test("rules for the next boot: named functions only, their group, and they go as they came", async () => {
  using machine = new FakeMachine([NVME, GPU, AUDIO]);
  await bind({ addresses: [NVME.address, GPU.address], wholeGroup: true, user: alice }, machine.host());
  const request = { addresses: [NVME.address], user: alice, persist: true };
  assert.throws(() => planPermit(request, machine.host()), code("NO_UDEV"));
  machine.file("etc/udev/udev.conf", "");
  await permit(request, machine.host());
  const [rules] = findRules(machine.paths, NVME.address);
  assert.deepEqual(rules, { uid: 1000, path: join(machine.root, "etc/udev/rules.d/70-ring3-0000:01:00.0-1000.rules") });
  const text = readFileSync(rules?.path ?? "", "utf8");
  assert.match(
    text,
    /KERNEL=="0000:01:00\.0", ATTR\{vendor\}=="0x1b36", ATTR\{device\}=="0x0010", ATTR\{driver_override\}="vfio-pci"/,
  );
  assert.match(
    text,
    /SUBSYSTEM=="vfio", TEST=="[^"]*%k\/devices\/0000:01:00\.0", RUN\+="\/bin\/chown 1000 \$devnode", RUN\+="\/bin\/chmod 0600 \$devnode"/,
  );
  assert.match(text, /SUBSYSTEM=="vfio-dev", KERNELS=="0000:01:00\.0", RUN\+="\/bin\/chown 1000/);
  assert.doesNotMatch(text, /0000:03/);
  await permit({ ...request, addresses: [GPU.address] }, machine.host());
  const [shared] = findRules(machine.paths, GPU.address);
  // Both functions of the group are bound, or the kernel would not open it.
  assert.match(readFileSync(shared?.path ?? "", "utf8"), /KERNEL=="0000:03:00\.1".*driver_override/);
  assert.throws(() => planPermit({ ...request, handOver: "list" }, machine.host()), code("NO_SETFACL"));
  machine.file("usr/bin/setfacl", "");
  const [, list] = planPermit({ ...request, handOver: "list" }, machine.host()).steps;
  assert.match(list?.command ?? "", /RUN\+="\/usr\/bin\/setfacl -m u:1000:rw \$devnode"/);
  // What is gone can be forgotten.
  machine.remove(GPU.address);
  await revoke({ addresses: [GPU.address] }, machine.host());
  await revoke({ addresses: [NVME.address] }, machine.host());
  assert.deepEqual(readdirSync(join(machine.root, "etc/udev/rules.d")), []);
});

test("the shell part of a rule moves a function that a driver of the kernel took first", async () => {
  using machine = new FakeMachine([NVME]);
  machine.file("etc/udev/udev.conf", "");
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  const [, step] = planPermit({ addresses: [NVME.address], user: alice, persist: true }, machine.host()).steps;
  const script = /RUN\+="\/bin\/sh -c '([^']+)'"/.exec(step?.command ?? "")?.[1] ?? assert.fail(step?.command);
  assert.doesNotMatch(script, /[$%]/, "udev would replace these");
  // Attributes of this tree are plain files: what would be written is what is in them afterwards.
  await unbind({ addresses: [NVME.address] }, machine.host());
  execFileSync("sh", ["-c", script.replaceAll("/sys/", `${machine.root}/sys/`)]);
  const written = (name: string): string => readFileSync(join(machine.paths.sysfsRoot, name), "utf8").trim();
  assert.equal(written("bus/pci/drivers/nvme/unbind"), NVME.address);
  assert.equal(written("bus/pci/drivers_probe"), NVME.address);
});

test("rules for virtual functions make them anew", async () => {
  using machine = new FakeMachine([NIC]);
  machine.file("etc/udev/udev.conf", "");
  const [vf = ""] = await bindVfs(NIC.address, 2, { user: alice }, machine.host());
  const [, step] = planPermit({ addresses: [vf], user: alice, persist: true }, machine.host()).steps;
  assert.match(
    step?.command ?? "",
    /ACTION=="bind", .*KERNEL=="0000:05:00\.0", ATTR\{sriov_numvfs\}=="0", ATTR\{sriov_numvfs\}="2"/,
  );
});

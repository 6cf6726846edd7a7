// seconds: 4
import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { bind, planBind, planUnbind, unbind } from "./binding.ts";
import { boundAddresses, readBindingRecord } from "./binding-records.ts";
import { FakeMachine } from "./fake-machine.ts";
import { readFunction } from "./inventory.ts";
import { holdLock } from "./lock.ts";
import { bindVfs, removeVfs, setVfs } from "./sriov.ts";

const NVME = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const GPU = { address: "0000:03:00.0", group: 14, driver: "nouveau", classCode: 0x030000 };
const AUDIO = { address: "0000:03:00.1", group: 14, driver: "snd_hda_intel", classCode: 0x040300 };
const PORT = { address: "0000:00:01.0", group: 14, driver: "pcieport", classCode: 0x060400 };
const BRIDGE = { address: "0000:02:00.0", group: 14, driver: "shpchp", classCode: 0x060400 };
const NIC = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000, totalVfs: 7 };
const alice = { name: "alice", uid: 1000, gids: [1000] };

const code = (name: string) => (error: unknown) => isRing3Error(error, name);

test("bind hands the function and its nodes over, and unbind gives everything back", async () => {
  using machine = new FakeMachine([NVME]);
  const before = machine.state();
  const plan = await bind({ addresses: ["01:00.0"], user: alice }, machine.host());
  assert.deepEqual(plan.addresses, [NVME.address]);
  const state = machine.state();
  assert.equal(state[NVME.address], "vfio-pci vfio-pci  ");
  assert.equal(state["dev/vfio/11"], "1000 0 600");
  assert.equal(state[`dev/vfio/devices/${NVME.address}`], "1000 0 600");
  assert.equal(state["dev/iommu"], "1000 0 660");
  assert.equal(state["dev/vfio/vfio"], "0 0 666");
  assert.deepEqual(readBindingRecord(machine.paths, NVME.address), {
    address: NVME.address,
    driver: "vfio-pci",
    formerDriver: "nvme",
    formerOverride: null,
    uid: 1000,
  });
  await unbind({ addresses: [NVME.address] }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("a former override comes back, and a function that had no driver has none again", async () => {
  const other = { address: "0000:02:00.0", group: 12, attributes: { driver_override: "pci-stub" } };
  using machine = new FakeMachine([other], { interfaces: "group" });
  const before = machine.state();
  await bind({ addresses: [other.address] }, machine.host());
  assert.equal(readFunction(other.address, machine.paths).driver, "vfio-pci");
  assert.equal(machine.state()["dev/vfio/12"], "0 0 600");
  await unbind({ addresses: [other.address] }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("binding again keeps what is given back", async () => {
  using machine = new FakeMachine([NVME]);
  const before = machine.state();
  await bind({ addresses: [NVME.address] }, machine.host());
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  assert.equal(machine.state()["dev/vfio/11"], "1000 0 600");
  await unbind({ addresses: [NVME.address] }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("the module is loaded where it is missing", async () => {
  using machine = new FakeMachine([NVME], { vfio: false });
  await bind({ addresses: [NVME.address] }, machine.host());
  assert.equal(machine.calls[0], "modprobe vfio-pci");
});

test("a shared group is refused by the name of its blocker, and bound as a whole with wholeGroup", async () => {
  using machine = new FakeMachine([PORT, GPU, AUDIO]);
  const before = machine.state();
  await assert.rejects(bind({ addresses: [GPU.address] }, machine.host()), (error: Error) => {
    assert.match(error.message, /GROUP_NOT_VIABLE: IOMMU group 14 .*0000:03:00\.1 is bound to snd_hda_intel/);
    assert.match(error.message, /sudo ring3 bind 0000:03:00\.0 --group/);
    return true;
  });
  assert.deepEqual(machine.state(), before);
  const plan = await bind({ addresses: [GPU.address], wholeGroup: true, user: alice }, machine.host());
  assert.deepEqual(plan.addresses, [GPU.address, AUDIO.address]);
  assert.equal(readFunction(PORT.address, machine.paths).driver, "pcieport");
  await unbind({ addresses: plan.addresses }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("a bridge whose driver blocks the group is taken from it with wholeGroup, and given back with the last member", async () => {
  const bridge = { address: "0000:08:00.0", group: 22, driver: "shpchp", classCode: 0x060400 };
  const members = ["0000:09:01.0", "0000:09:02.0"].map((address) => ({ address, group: 22 }));
  using machine = new FakeMachine([bridge, ...members]);
  const before = machine.state();
  const [first = "", second = ""] = members.map(({ address }) => address);
  await assert.rejects(bind({ addresses: [first] }, machine.host()), /0000:08:00\.0 is bound to shpchp.*--group/);
  const plan = await bind({ addresses: [first], wholeGroup: true, user: alice }, machine.host());
  assert.deepEqual(plan.addresses, [first, second]);
  assert.equal(readFunction(bridge.address, machine.paths).driver, undefined);
  await unbind({ addresses: [first] }, machine.host());
  assert.equal(readFunction(bridge.address, machine.paths).driver, undefined);
  await unbind({ addresses: [second] }, machine.host());
  assert.deepEqual(machine.state(), before);
  await bind({ addresses: [second], wholeGroup: true }, machine.host());
  await unbind({ addresses: boundAddresses(machine.paths) }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("what must not be bound is refused with the reason", () => {
  using machine = new FakeMachine([PORT, NVME, GPU, AUDIO, { address: "0000:07:00.0", driver: "nvme" }]);
  const plan = (address: string, options = {}) => planBind({ addresses: [address], ...options }, machine.host());
  assert.throws(() => plan(PORT.address), code("BRIDGE"));
  assert.throws(() => plan("0000:07:00.0"), code("NO_IOMMU_GROUP"));
  assert.throws(() => plan("0000:09:00.0"), code("FUNCTION_NOT_FOUND"));
  assert.throws(() => plan("nonsense"), code("ADDRESS_INVALID"));
  assert.throws(() => plan(NVME.address, { driver: "nvme" }), code("DRIVER_INVALID"));
  machine.file("sys/devices/pci0000:00/0000:03:00.0/boot_vga", "1\n");
  assert.throws(() => plan(GPU.address, { wholeGroup: true }), /FUNCTION_IN_USE.*boot display/);
  assert.doesNotThrow(() => plan(GPU.address, { wholeGroup: true, force: true }));
});

test("mounted disks, swap, kernel claims and links that are up are refused", () => {
  using machine = new FakeMachine([NVME, NIC]);
  const disk = `sys/devices/pci0000:00/${NVME.address}/nvme/nvme0/nvme0n1`;
  machine.file(`${disk}/dev`, "259:0\n");
  machine.file(`${disk}/nvme0n1p1/dev`, "259:1\n");
  machine.link("sys/class/block/nvme0n1", disk);
  machine.link("sys/class/block/nvme0n1p1", `${disk}/nvme0n1p1`);
  const refusal = (address: string): string => {
    try {
      planBind({ addresses: [address] }, machine.host());
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  assert.equal(refusal(NVME.address), "");
  machine.file("proc/self/mountinfo", "22 1 259:1 / /data\\040x rw shared:1 - ext4 /dev/nvme0n1p1 rw\n");
  assert.match(refusal(NVME.address), /\/dev\/nvme0n1p1 is mounted on \/data x.*--force/);
  machine.file("proc/self/mountinfo", "22 1 0:30 / / rw shared:1 - btrfs /dev/nvme0n1p1 rw\n");
  assert.match(refusal(NVME.address), /\/dev\/nvme0n1p1 is mounted on \//);
  machine.file("proc/self/mountinfo", "");
  machine.file("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2\n");
  assert.match(refusal(NVME.address), /nvme0n1p1 is swap/);
  machine.file("proc/swaps", "Filename Type Size Used Priority\n");
  // A device-mapper volume above the partition.
  machine.file("sys/devices/virtual/block/dm-0/dev", "254:0\n");
  machine.link("sys/class/block/dm-0", "sys/devices/virtual/block/dm-0");
  machine.link(`${disk}/nvme0n1p1/holders/dm-0`, "sys/devices/virtual/block/dm-0");
  machine.file("proc/self/mountinfo", "22 1 254:0 / / rw - ext4 /dev/mapper/root rw\n");
  assert.match(refusal(NVME.address), /\/dev\/dm-0 is mounted on \//);
  machine.file("proc/self/mountinfo", "");
  machine.claimedDevices.add(`${machine.paths.devRoot}/nvme0n1p1`);
  assert.match(refusal(NVME.address), /claimed by the kernel/);

  machine.file(`sys/devices/pci0000:00/${NIC.address}/net/eth0/flags`, "0x1002\n");
  machine.link("sys/class/net/eth0", `sys/devices/pci0000:00/${NIC.address}/net/eth0`);
  assert.equal(refusal(NIC.address), "");
  machine.file(`sys/devices/pci0000:00/${NIC.address}/net/eth0/flags`, "0x1003\n");
  const route = "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 0102A8C0 0003 0 0 0 00000000\n";
  machine.file("proc/net/route", route);
  assert.match(refusal(NIC.address), /network link eth0 is up and carries the default route/);
});

test("an nvme namespace behind multipath is found through its subsystem", () => {
  using machine = new FakeMachine([NVME]);
  const controller = `sys/devices/pci0000:00/${NVME.address}/nvme/nvme0`;
  machine.file(`${controller}/model`, "x\n");
  const subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
  machine.file(`${subsystem}/nvme0n1/dev`, "259:0\n");
  machine.link(`${subsystem}/nvme0`, controller);
  machine.link("sys/class/nvme-subsystem/nvme-subsys0", subsystem);
  machine.link("sys/class/block/nvme0n1", `${subsystem}/nvme0n1`);
  machine.file("proc/self/mountinfo", "22 1 259:0 / /srv rw - xfs /dev/nvme0n1 rw\n");
  assert.throws(() => planBind({ addresses: [NVME.address] }, machine.host()), /mounted on \/srv/);
});

test("only root binds, and the error says how", async () => {
  using machine = new FakeMachine([NVME]);
  machine.privileged = false;
  await assert.rejects(bind({ addresses: [NVME.address] }, machine.host()), /NOT_ROOT.*sudo ring3 bind 0000:01:00\.0/);
  await assert.rejects(unbind({ addresses: [NVME.address] }, machine.host()), code("NOT_ROOT"));
  assert.equal(machine.calls.length, 0);
});

test("another user's group is not taken away", async (t) => {
  if (process.geteuid?.() !== 0) return t.skip("needs root to change owners");
  using machine = new FakeMachine([NVME]);
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  const bob = { name: "bob", uid: 1001, gids: [1001] };
  await assert.rejects(bind({ addresses: [NVME.address], user: bob }, machine.host()), code("NODE_OWNED"));
});

test("a second user gets into /dev/iommu by mode, and the first owner has it back at the end", async (t) => {
  if (process.geteuid?.() !== 0) return t.skip("needs root to change owners");
  using machine = new FakeMachine([NVME, NIC]);
  const before = machine.state();
  const bob = { name: "bob", uid: 1001, gids: [1001] };
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  await bind({ addresses: [NIC.address], user: bob }, machine.host());
  assert.equal(machine.state()["dev/iommu"], "1000 0 666");
  await unbind({ addresses: [NVME.address] }, machine.host());
  assert.equal(machine.state()["dev/iommu"], "1000 0 666");
  await unbind({ addresses: [NIC.address] }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("unbind refuses what is not bound, and what a process holds", async () => {
  using machine = new FakeMachine([NVME]);
  assert.throws(() => planUnbind({ addresses: [NVME.address] }, machine.host()), code("NOT_BOUND"));
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  machine.link("proc/77/fd/5", "dev/vfio/11");
  machine.file("proc/77/cmdline", "node\0drive.ts\0");
  // The link target is relative in the fake tree; a process shows an absolute one.
  const { rmSync, symlinkSync } = await import("node:fs");
  rmSync(`${machine.paths.procRoot}/77/fd/5`);
  symlinkSync(`${machine.paths.devRoot}/vfio/11`, `${machine.paths.procRoot}/77/fd/5`);
  await assert.rejects(
    unbind({ addresses: [NVME.address] }, machine.host()),
    /FUNCTION_HELD.*process 77 \(node drive\.ts\)/,
  );
  // As for a service that may not look into others' processes.
  rmSync(`${machine.paths.procRoot}/77`, { recursive: true });
  machine.openedGroups.add(`${machine.paths.devRoot}/vfio/11`);
  await assert.rejects(
    unbind({ addresses: [NVME.address] }, machine.host()),
    /FUNCTION_HELD.*a process that is hidden/,
  );
  await unbind({ addresses: [NVME.address], force: true }, machine.host());
  assert.equal(readFunction(NVME.address, machine.paths).driver, "nvme");
});

test("a driver that refuses its function back leaves it with VFIO", async () => {
  using machine = new FakeMachine([NVME]);
  await bind({ addresses: [NVME.address], user: alice }, machine.host());
  const bound = machine.state();
  machine.refusing.add("nvme");
  await assert.rejects(unbind({ addresses: [NVME.address] }, machine.host()), code("HOST_CALL_FAILED"));
  assert.deepEqual(machine.state(), bound);
});

test("vfio-pci refusing the function leaves it with its driver", async () => {
  using machine = new FakeMachine([NVME]);
  const before = machine.state();
  machine.refusing.add("vfio-pci");
  await assert.rejects(bind({ addresses: [NVME.address], user: alice }, machine.host()), /BIND_FAILED.*dmesg/);
  assert.deepEqual(machine.state(), before);
});

test("what a killed bind left half done is given back from its record", async () => {
  using machine = new FakeMachine([NVME]);
  const before = machine.state();
  const plan = planBind({ addresses: [NVME.address], user: alice }, machine.host());
  for (const step of plan.steps.slice(0, 3)) await step.run();
  assert.equal(readFunction(NVME.address, machine.paths).driver, undefined);
  await unbind({ addresses: [NVME.address] }, machine.host());
  assert.deepEqual(machine.state(), before);
});

test("what was unplugged while bound is not among what can be given back", async () => {
  using machine = new FakeMachine([NVME, NIC]);
  await bind({ addresses: [NVME.address, NIC.address] }, machine.host());
  assert.deepEqual(boundAddresses(machine.paths), [NVME.address, NIC.address]);
  machine.remove(NVME.address);
  assert.deepEqual(boundAddresses(machine.paths), [NIC.address]);
  await unbind({ addresses: [NIC.address] }, machine.host());
});

test("two bindings at once: the second is told who is at work; a dead one's lock is taken over", async () => {
  using machine = new FakeMachine([NVME]);
  const held = await holdLock(machine.host());
  await assert.rejects(bind({ addresses: [NVME.address] }, machine.host()), /BINDING_BUSY: process \d+/);
  await held[Symbol.asyncDispose]();
  machine.file("run/ring3/lock", "999999 1");
  await bind({ addresses: [NVME.address] }, machine.host());
});

test("virtual functions are made, bound, given back and removed", async () => {
  using machine = new FakeMachine([NIC]);
  const before = machine.state();
  assert.deepEqual(await setVfs({ address: NIC.address, count: 1 }, machine.host()), ["0000:05:10.0"]);
  await removeVfs(NIC.address, {}, machine.host());
  assert.deepEqual(machine.state(), before);
  const vfs = await bindVfs(NIC.address, 2, { user: alice }, machine.host());
  assert.deepEqual(vfs, ["0000:05:10.0", "0000:05:10.1"]);
  const pf = readFunction(NIC.address, machine.paths);
  assert.deepEqual([pf.driver, pf.sriov?.driversAutoprobe, pf.sriov?.virtualFunctions], ["igb", false, vfs]);
  assert.equal(readFunction("0000:05:10.1", machine.paths).physicalFunction, NIC.address);
  assert.equal(machine.state()["dev/vfio/901"], "1000 0 600");
  assert.throws(() => planBind({ addresses: [NIC.address] }, machine.host()), /has 2 virtual functions/);
  await assert.rejects(bindVfs(NIC.address, 3, {}, machine.host()), code("VFS_EXIST"));
  await assert.rejects(bindVfs(NIC.address, 8, {}, machine.host()), code("TOO_MANY_VFS"));
  await removeVfs(NIC.address, {}, machine.host());
  assert.deepEqual(machine.state(), before);
});

// Each scenario starts from `prepare` and does one change; whatever call fails, the state is the one before.
interface Scenario {
  readonly name: string;
  readonly prepare: (machine: FakeMachine) => Promise<void>;
  readonly change: (machine: FakeMachine, signal?: AbortSignal) => Promise<unknown>;
}
const both = { addresses: [NVME.address, GPU.address], wholeGroup: true, user: alice };
const SCENARIOS: readonly Scenario[] = [
  {
    name: "bind",
    prepare: async () => undefined,
    change: async (machine, signal) => await bind(both, machine.host({ signal })),
  },
  {
    name: "unbind",
    prepare: async (machine) => void (await bind(both, machine.host())),
    change: async (machine, signal) => {
      const addresses = [NVME.address, AUDIO.address, GPU.address];
      await unbind({ addresses }, machine.host({ signal }));
    },
  },
  {
    name: "bind virtual functions",
    prepare: async () => undefined,
    change: async (machine, signal) => await bindVfs(NIC.address, 2, { user: alice }, machine.host({ signal })),
  },
  {
    name: "remove virtual functions",
    prepare: async (machine) => void (await bindVfs(NIC.address, 2, { user: alice }, machine.host())),
    change: async (machine, signal) => await removeVfs(NIC.address, {}, machine.host({ signal })),
  },
];

for (const scenario of SCENARIOS) {
  test(`all or nothing: ${scenario.name} with a failure at every call`, async () => {
    for (const when of ["before", "after"] as const) {
      let failures = 0;
      for (let call = 0; ; call++) {
        using machine = new FakeMachine([PORT, BRIDGE, NVME, GPU, AUDIO, NIC]);
        await scenario.prepare(machine);
        const before = machine.state();
        machine.calls.length = 0;
        machine.failAt = { call, when };
        const error = await scenario.change(machine).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error === undefined) {
          // Past the last call: the change went through.
          assert.notDeepEqual(machine.state(), before);
          break;
        }
        if (!isRing3Error(error, "HOST_CALL_FAILED")) throw error;
        assert.deepEqual(machine.state(), before, `call ${call} (${machine.calls[call]}) failed ${when} its effect`);
        failures++;
      }
      assert.ok(failures > 5);
    }
  });
}

test("all or nothing: an abort at any call, for any choice of functions", async () => {
  const functions = [PORT, BRIDGE, NVME, GPU, AUDIO, NIC, { address: "0000:06:00.0", group: 21 }];
  const endpoints = functions.filter((fn) => fn !== PORT && fn !== BRIDGE).map(({ address }) => address);
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.constantFrom(...endpoints), { minLength: 1 }),
      fc.nat(40),
      fc.constantFrom("group" as const, "iommufd" as const, "both" as const),
      async (addresses, abortAt, interfaces) => {
        using machine = new FakeMachine(functions, { interfaces });
        const before = machine.state();
        const controller = new AbortController();
        machine.onCall = (call) => {
          if (call === abortAt) controller.abort();
        };
        const request = { addresses, wholeGroup: true, user: alice };
        const host = machine.host({ signal: controller.signal });
        const bound = await bind(request, host).catch((error: unknown) => {
          if (!isRing3Error(error, "INTERRUPTED")) throw error;
          return undefined;
        });
        if (bound === undefined) return assert.deepEqual(machine.state(), before);
        for (const address of bound.addresses) assert.equal(readFunction(address, machine.paths).driver, "vfio-pci");
        machine.onCall = undefined;
        await unbind({ addresses: bound.addresses }, machine.host());
        assert.deepEqual(machine.state(), before);
      },
    ),
    { numRuns: 30 },
  );
});

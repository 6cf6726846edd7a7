// A change that is killed at any call, before or after its effect, leaves a machine that the next command brings to the
// new state or back to the old one.
// seconds: 8
import assert from "node:assert/strict";
import test from "node:test";
import { bind, unbind } from "./binding.ts";
import { recordedAddresses } from "./binding-records.ts";
import { FakeMachine } from "./fake-machine.ts";
import { permit, revoke } from "./permission.ts";
import { bindVfs, ownsVfs, removeVfs, setVfs } from "./sriov.ts";

const NVME = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const GPU = { address: "0000:03:00.0", group: 14, driver: "nouveau", classCode: 0x030000 };
const AUDIO = { address: "0000:03:00.1", group: 14, driver: "snd_hda_intel", classCode: 0x040300 };
const PORT = { address: "0000:00:01.0", group: 14, driver: "pcieport", classCode: 0x060400 };
const BRIDGE = { address: "0000:02:00.0", group: 14, driver: "shpchp", classCode: 0x060400 };
const NIC = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000, totalVfs: 7 };
const alice = { name: "alice", uid: 1000, gids: [1000] };
const both = { addresses: [NVME.address, GPU.address], wholeGroup: true, user: alice };

type Change = (machine: FakeMachine) => Promise<unknown>;

interface Scenario {
  readonly name: string;
  readonly prepare: Change;
  readonly change: Change;
  /** What a user runs next to have the change after all, and what to have it undone. */
  readonly finish: Change;
  readonly goBack: Change;
}

const giveBack: Change = async (machine) => {
  const host = machine.host();
  await unbind({ addresses: recordedAddresses(machine.paths) }, host);
};
const giveBackVfs: Change = async (machine) => {
  if (ownsVfs(NIC.address, machine.host())) await removeVfs(NIC.address, {}, machine.host());
};
const nothing: Change = async () => undefined;
const bindBoth: Change = async (machine) => await bind(both, machine.host());
const bindTwoVfs: Change = async (machine) => await bindVfs(NIC.address, 2, { user: alice }, machine.host());
const makeVfs =
  (count: number): Change =>
  async (machine) =>
    await setVfs({ address: NIC.address, count }, machine.host());

const SCENARIOS: readonly Scenario[] = [
  { name: "bind", prepare: nothing, change: bindBoth, finish: bindBoth, goBack: giveBack },
  { name: "unbind", prepare: bindBoth, change: giveBack, finish: giveBack, goBack: bindBoth },
  { name: "bind --vfs", prepare: nothing, change: bindTwoVfs, finish: bindTwoVfs, goBack: giveBackVfs },
  {
    name: "unbind of virtual functions",
    prepare: bindTwoVfs,
    change: giveBackVfs,
    finish: giveBackVfs,
    goBack: bindTwoVfs,
  },
  { name: "vfs 3", prepare: nothing, change: makeVfs(3), finish: makeVfs(3), goBack: makeVfs(0) },
  { name: "vfs 0", prepare: makeVfs(3), change: makeVfs(0), finish: makeVfs(0), goBack: makeVfs(3) },
  { name: "vfs 2 instead of 3", prepare: makeVfs(3), change: makeVfs(2), finish: makeVfs(2), goBack: makeVfs(3) },
  {
    name: "permit",
    prepare: async (machine) => await bind({ addresses: [NVME.address] }, machine.host()),
    change: async (machine) =>
      await permit({ addresses: [NVME.address], user: alice, handOver: "list" }, machine.host()),
    finish: async (machine) =>
      await permit({ addresses: [NVME.address], user: alice, handOver: "list" }, machine.host()),
    goBack: async (machine) => {
      await revoke({ addresses: [NVME.address] }, machine.host()).catch((error: unknown) => {
        assert.match(String(error), /NOTHING_TO_REVOKE/);
      });
      await giveBack(machine);
      await bind({ addresses: [NVME.address] }, machine.host());
    },
  },
];

const newMachine = (): FakeMachine => new FakeMachine([PORT, BRIDGE, NVME, GPU, AUDIO, NIC]);

for (const { name, prepare, change, finish, goBack } of SCENARIOS) {
  test(`killed at every call: ${name}`, async () => {
    const wanted = async (after: Change): Promise<Readonly<Record<string, string>>> => {
      using machine = newMachine();
      await prepare(machine);
      await after(machine);
      return machine.state();
    };
    const old = await wanted(nothing);
    const done = await wanted(change);
    let kills = 0;
    for (const when of ["before", "after"] as const) {
      for (const [next, expected] of [
        [finish, done],
        [goBack, old],
      ] as const) {
        for (let call = 0; ; call++) {
          using machine = newMachine();
          await prepare(machine);
          machine.calls.length = 0;
          machine.killAt = { call, when };
          if (!(await machine.killed(async () => await change(machine)))) break;
          const at = `${when} call ${call}: ${machine.calls[call]}`;
          await next(machine);
          assert.deepEqual(machine.state(), expected, at);
          kills++;
        }
      }
    }
    assert.ok(kills >= 8, `${kills}`);
  });
}

// The attacks of docs/security.md on a ring3d that owns real functions over the kernel's VFIO: uid 1000 attacks, through sockets
// and with no right to a node of VFIO's; uid 1001 works on its own function all the while, and nothing happens to it.
// kernels: iommufd
// timeout: 1800
// timeout-full: 5400
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { open } from "../../../packages/ring3/src/index.ts";
import type { Attack } from "../../hostile/attacks/attack.ts";
import { attacks, attacksAt, type PlaceName } from "../../hostile/attacks/list.ts";
import { eduRegisters, nvmeRegisters, vfRegisters } from "../../hostile/attacks/qemu-registers.ts";
import { type AttackedFunction, AttackedMachine, GuestScene, QUEUE } from "../attack-scene.ts";
import { bind, bindStandard, FULL, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { CONFINED } from "../running-service.ts";

const PLACE = "/tmp/attacks";
const { writesPerSecond, ...kept } = nvmeRegisters.ranges ?? assert.fail();

const TARGETS = {
  nvme: { name: "disk", address: FUNCTIONS.nvme.address, registers: nvmeRegisters },
  edu: { name: "edu", address: FUNCTIONS.edu.address, registers: eduRegisters },
  vf: { name: "vf", address: FUNCTIONS.igbVf0.address, registers: vfRegisters },
} as const satisfies Partial<Record<PlaceName, AttackedFunction>>;

const PLACES = ["nvme", "edu", "vf"] as const;
/** All of them take an emulated machine minutes; every one is tried on the host each time. */
const SAMPLE = 6;
const sample: readonly Attack[] = attacks.filter((_, index) => index % SAMPLE === 0);

/** Who attacks has what is `attacked`, its neighbour the others. Rules are for who is attacked: a driver would not get far. */
function configuration(attacked: readonly (keyof typeof TARGETS)[]): string {
  const rules = {
    nvme: `hand-over: user, ranges: ["bar0+${kept.hidden}+4=hidden", "bar0+${kept.readOnly}+4=read-only",
      "bar0+${kept.limited}+4=limited:${writesPerSecond}"]`,
  };
  const functions = Object.entries(TARGETS).map(([key, { name, address }]) => {
    const own = attacked.some((each) => each === key);
    const more = own && key === "nvme" ? `, ${rules.nvme}` : "";
    const limits = own ? `, lock-limit: 1M, maps: 64, queue: ${QUEUE}` : "";
    return `  ${name}: { address: "${address}", socket: ${PLACE}/${name}.sock, users: ${own ? "user" : "other"}${limits}${more} }\n`;
  });
  return `control: ${PLACE}/control.sock
users-socket: ${PLACE}/users.sock
metrics: ${PLACE}/metrics.sock
traces: ${PLACE}
functions:
${functions.join("")}`;
}

before(async () => {
  await bind(TARGETS.nvme.address, "nvme");
  for (const { address } of [TARGETS.edu, TARGETS.vf]) await bind(address, "none");
  // The virtual function waits for its parent. Sockets of both users lie in the folder.
  const parent = FUNCTIONS.igb.address;
  await rootOutput(`ip link set $(ls /sys/bus/pci/devices/${parent}/net) up; mkdir -p ${PLACE}; chmod 1777 ${PLACE}`);
});

after(async () => {
  await rootOutput(`rm -rf ${PLACE}`);
  await bindStandard();
});

/** With RING3_GUEST_FULL=1 all that can be tried at a function; else one in `SAMPLE`, at one of the functions in turn. */
function triedAt(place: keyof typeof TARGETS): readonly Attack[] {
  return attacksAt(place).filter((attack) => {
    if (FULL) return true;
    const possible = PLACES.filter((each) => attacksAt(each).includes(attack));
    return sample.includes(attack) && possible[sample.indexOf(attack) % possible.length] === place;
  });
}

for (const { attacked, neighbour } of [
  { attacked: ["nvme"], neighbour: "edu" },
  { attacked: ["edu", "vf"], neighbour: "nvme" },
] as const) {
  suite(`uid 1000 attacks by ${attacked.join(" and ")}, uid 1001 works with ${neighbour}`, () => {
    let machine: AttackedMachine | undefined;
    before(async () => {
      const other = { kind: neighbour, name: TARGETS[neighbour].name };
      machine = await AttackedMachine.start(PLACE, configuration(attacked), CONFINED, other);
    });
    after(() => machine?.[Symbol.asyncDispose]());

    for (const place of attacked) {
      const target = TARGETS[place];
      for (const attack of triedAt(place)) {
        const { group, what, outcome } = attack;
        test(`${place}: ${group}: ${what}`, async () => {
          using scene = await GuestScene.open(machine ?? assert.fail(), target);
          assert.equal(await attack.run(scene), outcome);
          await scene.check();
        });
      }
      test(`${place}: its node is nobody's but root's`, async () => {
        await assert.rejects(() => open(target.address), { code: "PERMISSION_DENIED" });
      });
    }

    test("after all of them the service ends as it should", () => machine?.stop());
  });
}

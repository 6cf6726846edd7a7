// ring3d killed at random points in the guest, where it owns real functions: on the way to its readiness, while users have
// their functions, on its way out. Whatever it left, the next one takes over, clean, or the machine has back.
// kernels: iommufd
// timeout: 900
// timeout-full: 14400
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { program, unclear } from "../../hostile/killed-service.ts";
import { Random } from "../../hostile/random.ts";
import { driverOf } from "../bindings.ts";
import { bind, bindStandard, FULL, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { CONFINED, endOf, RING3, startService } from "../running-service.ts";

const USER = new URL("../../hostile/ring3d-user.ts", import.meta.url).pathname;
const PLACE = "/tmp/kills";
const disk = FUNCTIONS.nvme.address;
const edu = FUNCTIONS.edu.address;
const vf = FUNCTIONS.igbVf0.address;
/** What has the functions while nobody serves them. */
const BEFORE = ["nvme", "none", "none"];
/** A quick look in every run; the campaign of 200 takes an hour or two. */
const KILLS = FULL ? 200 : 2;
const SEED = 20_261_129;

const CONFIGURATION = `control: ${PLACE}/control.sock
users-socket: ${PLACE}/users.sock
traces: ${PLACE}
functions:
  disk: { address: "${disk}", socket: ${PLACE}/disk.sock, users: user, lock-limit: 64M, queue: 2 }
  edu: { address: "${edu}", socket: ${PLACE}/edu.sock, users: other }
  vf: { address: "${vf}", socket: ${PLACE}/vf.sock, users: other, rules: linux }
`;

/** How the service is started. What V8 compiled of it is kept: without KVM most of its start would be that, again and again. */
const SETTING = `export NODE_COMPILE_CACHE=${PLACE}/compiled; ${CONFINED}`;

/** Waits until nothing holds a node of VFIO's, and every page that was pinned for a device is let go. */
const RELEASED = `timeout 120 sh -c '
  pinned() { awk "/nr_foll_pin_acquired/ { n += \\$2 } /nr_foll_pin_released/ { n -= \\$2 } END { print n }" /proc/vmstat; }
  while ls -l /proc/[0-9]*/fd 2> /dev/null | grep -qE "/dev/(vfio|iommu)" || [ "$(pinned)" != 0 ]; do usleep 50000; done'`;

function drivers(): string[] {
  return [disk, edu, vf].map(driverOf);
}

before(async () => {
  await bind(disk, "nvme");
  for (const address of [edu, vf]) await bind(address, "none");
  // The virtual function waits for its parent.
  const parent = FUNCTIONS.igb.address;
  await rootOutput(`ip link set $(ls /sys/bus/pci/devices/${parent}/net) up; mkdir -p ${PLACE}`);
});

after(async () => {
  await rootOutput(`rm -rf ${PLACE}`);
  await bindStandard();
});

test(`killed at ${KILLS} random points (seed ${SEED}), the service leaves nothing that the next one does not put right`, async (t) => {
  await rootOutput(RELEASED);
  const users = [program([USER, "disk", `${PLACE}/disk.sock`]), program([USER, "disk", `${PLACE}/disk.sock`])];
  t.after(async () => {
    for (const { child } of users) child.kill("SIGKILL");
    await Promise.all(users.map(({ ended }) => ended));
  });
  /** Once more, with the service that is there. What was found is judged at the end; a user that ended tells why here. */
  const served = async (): Promise<void> => {
    await Promise.all(users.map((user) => user.line(/fresh|stale/, user.all.length)));
  };

  let readyMs = 0;
  // The first one compiles what the second one finds compiled.
  for (let start = 0; start < 2; start++) {
    const begun = performance.now();
    await using service = await startService(PLACE, CONFIGURATION, SETTING);
    readyMs = performance.now() - begun;
    await served();
    await service.end("TERM");
    assert.deepEqual(drivers(), BEFORE);
  }

  const random = new Random(SEED);
  for (let round = 0; round < KILLS; round++) {
    const command = `${SETTING} node ${RING3} daemon --config ${PLACE}/ring3d.yaml`;
    const pid = (await rootOutput(`${command} > /dev/null 2>> ${PLACE}/log < /dev/null & echo $!`)).trim();
    await setTimeout((random.below(1000) / 1000) * readyMs * 1.5);
    if (random.oneIn(4)) {
      // On its way out.
      await rootOutput(`kill -TERM ${pid}`);
      await setTimeout((random.below(1000) / 1000) * readyMs * 0.2);
    }
    // One that had time to end by itself is none to kill. The console tells how far a campaign that was stopped had come.
    const told = `echo "<1>ring3d-kills: ${round + 1} of ${KILLS}, ready after ${readyMs.toFixed(0)} ms" > /dev/kmsg`;
    await rootOutput(`${told}; kill -KILL ${pid} 2> /dev/null; ${endOf(Number(pid))}; ${RELEASED}`);
    if (random.oneIn(2)) continue;
    // Half of the times the machine is to have its functions back, the others the next service meets what is left.
    await rootOutput(`${SETTING} node ${RING3} daemon --give-back --json`);
    assert.deepEqual(drivers(), BEFORE, `round ${round}`);
  }

  await using service = await startService(PLACE, CONFIGURATION, SETTING);
  await served();
  assert.deepEqual(unclear(users), []);
  for (const { child } of users) child.kill("SIGKILL");
  await Promise.all(users.map(({ ended }) => ended));
  const statusCommand = `node ${RING3} ctl status --json --socket ${PLACE}/control.sock`;
  const status = await rootOutput(`while ${statusCommand} | grep -qE "used|resetting"; do :; done; ${statusCommand}`);
  const states = (JSON.parse(status) as { functions: { name: string; state: string; lockedBytes: number }[] })
    .functions;
  assert.deepEqual(
    states.map(({ name, state, lockedBytes }) => [name, state, lockedBytes]),
    [
      ["disk", "ready", 0],
      ["edu", "ready", 0],
      ["vf", "ready", 0],
    ],
  );
  await service.end("TERM");
  assert.deepEqual(drivers(), BEFORE);
  await rootOutput(RELEASED);
  const left = await rootOutput("ls /run/ring3/taken /run/ring3/bindings 2> /dev/null | grep 0000 || true");
  assert.equal(left.trim(), "");
  const words = users.flatMap(({ all }) => all);
  t.diagnostic(
    `${KILLS} kills; ready after ${readyMs.toFixed(0)} ms; users were served ${words.filter((word) => word === "fresh").length} times`,
  );
});

// timeout: 600
// Binding for real: from the kernel's drivers to uid 1000 and back, groups, virtual functions, refusals, events.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, statSync } from "node:fs";
import { after, test } from "node:test";
import { open } from "ring3";
import {
  currentUser,
  functionAccess,
  type HostEvent,
  listFunctions,
  listGroups,
  readBindingRecord,
  readFunction,
  watchHost,
} from "ring3/host";
import { driverOf, vfioNodes } from "../bindings.ts";
import { asRoot, bind, bindStandard, type RootResult, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const RING3 = new URL("../../../packages/cli/src/main.ts", import.meta.url).pathname;
const asRootRing3 = async (words: string): Promise<RootResult> => await asRoot(`node ${RING3} ${words}`);
const ok = async (words: string): Promise<string> => {
  const { code, stderr, stdout } = await asRootRing3(words);
  assert.equal(code, 0, `ring3 ${words}: ${stderr}`);
  return stdout;
};
const peer = FUNCTIONS.peerNvme.address;
const peerDisk = (): string | undefined => {
  const controller = `/sys/bus/pci/devices/${peer}/nvme`;
  if (!existsSync(controller)) return undefined;
  const names = readdirSync(controller).flatMap((name) => readdirSync(`${controller}/${name}`));
  return names.find((name) => /^nvme\d+n\d+$/.test(name));
};

/** The kernel's driver brings its disk up in the background. */
const diskBack = async (): Promise<void> => {
  const pattern = `/sys/bus/pci/devices/${peer}/nvme/*/nvme*n1`;
  await rootOutput(`timeout 30 sh -c 'while ! ls -d ${pattern} 2>/dev/null; do usleep 10000; done'`);
};

after(async () => void (await bindStandard()));

test("the inventory is that of the machine", () => {
  const nvme = readFunction(FUNCTIONS.nvme.address);
  assert.deepEqual(
    [nvme.vendorId, nvme.deviceId, nvme.classCode, nvme.driver, nvme.bridge, nvme.parent],
    [0x1b36, 0x0010, 0x010802, "vfio-pci", false, "0000:00:03.0"],
  );
  assert.ok(nvme.iommuGroup !== undefined && nvme.resetMethods.includes("flr"));
  assert.equal(nvme.configSizeBytes, 4096);
  assert.ok(nvme.resources.some(({ kind, sizeBytes }) => kind === "memory64" && sizeBytes >= 0x4000));
  assert.equal(readFunction("0000:00:03.0").bridge, true);
  const igb = readFunction(FUNCTIONS.igb.address);
  assert.deepEqual(igb.sriov?.virtualFunctions, [FUNCTIONS.igbVf0.address, FUNCTIONS.igbVf1.address]);
  assert.equal(readFunction(FUNCTIONS.igbVf0.address).physicalFunction, igb.address);
  assert.ok(listFunctions().length > Object.keys(FUNCTIONS).length);
  const shared = listGroups().find(({ members }) => members.some(({ name }) => name === FUNCTIONS.sharedA.address));
  assert.ok(shared?.viable);
  assert.ok(shared.members.some(({ name }) => name === FUNCTIONS.sharedB.address));
});

test("access is judged as the kernel judges", async () => {
  const user = currentUser();
  assert.equal(functionAccess(readFunction(FUNCTIONS.nvme.address), user).open, true);
  assert.match(functionAccess(readFunction(peer), user).reason ?? "", /bound to nvme.*sudo ring3 bind/);
  await bind(FUNCTIONS.edu.address, "vfio-pci", 1001);
  const closed = functionAccess(readFunction(FUNCTIONS.edu.address), user);
  assert.match(closed.reason ?? "", /user may not open \/dev\/vfio/);
  await assert.rejects(open(FUNCTIONS.edu.address), /PERMISSION_DENIED/);
  await bind(FUNCTIONS.edu.address, "vfio-pci");
});

test("groups are called viable exactly where the kernel opens them", async () => {
  let opens = 0;
  for (const { address, driver } of Object.values(FUNCTIONS)) {
    if (driver !== "vfio-pci") continue;
    const { iommuGroup } = readFunction(address);
    const group = listGroups().find(({ id }) => id === iommuGroup);
    const opened = await open(address, { backend: "group" }).then(
      async (fn) => {
        await fn[Symbol.asyncDispose]();
        return "opened";
      },
      (error: unknown) => String(error),
    );
    const members = group?.members.map(({ name, driver: bound }) => `${name} ${bound}`).join(", ");
    assert.equal(opened === "opened", group?.viable, `${address}: ${opened} (${members})`);
    if (opened === "opened") opens++;
  }
  assert.equal(opens, Object.values(FUNCTIONS).filter(({ driver }) => driver === "vfio-pci").length);
});

test("an ordinary user is told to use sudo, and nothing changes", async () => {
  const child = spawn(process.execPath, [RING3, "bind", peer], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, "close")) as [number];
  assert.equal(code, 3, stderr);
  assert.match(stderr, /NOT_ROOT.*sudo ring3 bind 0000:07:00\.0/);
  assert.equal(driverOf(peer), "nvme");
});

test("a disk goes from the kernel's nvme to uid 1000 and back", async () => {
  assert.ok(peerDisk() !== undefined, "the kernel has its disk");
  const formerOverride = readFunction(peer).driverOverride ?? null;
  const events = await watchHost({ keepsAlive: true });
  const seen: HostEvent[] = [];
  const listening = (async () => {
    for await (const event of events) seen.push(event);
  })();
  const bound = JSON.parse(await ok(`bind ${peer} --user user --json`)) as {
    bound: { driver: string; nodes: string[] }[];
  };
  assert.equal(bound.bound[0]?.driver, "vfio-pci");
  for (const node of vfioNodes(peer)) {
    const { uid, mode } = statSync(node);
    assert.deepEqual([uid, mode & 0o777], [1000, 0o600], node);
    assert.ok(bound.bound[0]?.nodes.includes(node), node);
  }
  assert.deepEqual(
    readBindingRecord(
      { sysfsRoot: "/sys", devRoot: "/dev", procRoot: "/proc", runRoot: "/run", etcRoot: "/etc" },
      peer,
    ),
    {
      address: peer,
      driver: "vfio-pci",
      formerDriver: "nvme",
      formerOverride,
      uid: 1000,
    },
  );
  {
    await using fn = await open(peer);
    assert.equal(fn.identity.vendorId, 0x1b36);
    const held = await asRootRing3(`unbind ${peer}`);
    assert.equal(held.code, 5, held.stderr);
    assert.match(held.stderr, new RegExp(`FUNCTION_HELD.*process ${process.pid} `));
  }
  assert.match(await ok(`unbind ${peer}`), /0000:07:00\.0 is back with nvme/);
  assert.equal(driverOf(peer), "nvme");
  await diskBack();
  assert.equal(
    await rootOutput(`dd if=/dev/${peerDisk()} bs=4 skip=3 count=1 2>/dev/null | od -An -tu4 | tr -d ' \\n'`),
    "3",
  );
  assert.equal(existsSync(`/run/ring3/bindings/${peer}.json`), false);
  events[Symbol.dispose]();
  await listening;
  const types = seen.map((event) => event.type);
  assert.ok(
    seen.some((event) => event.type === "bound" && event.address === peer && event.driver === "vfio-pci"),
    types.join(),
  );
  assert.ok(seen.some((event) => event.type === "unbound" && event.address === peer));
  assert.ok(seen.some((event) => event.type === "node-added" && event.node.startsWith("/dev/vfio/")));
  assert.ok(seen.some((event) => event.type === "node-removed"));
});

test("a disk that the kernel uses is refused, and taken with --force", async () => {
  await diskBack();
  const disk = `/dev/${peerDisk()}`;
  // What mounting does: an exclusive open. The file says when it is held.
  const holder = asRoot(
    `node -e 'const fs = require("fs"); fs.openSync("${disk}", fs.constants.O_RDONLY | fs.constants.O_EXCL); fs.writeFileSync("/tmp/held", ""); process.stdin.resume(); setInterval(() => fs.existsSync("/tmp/release") && process.exit(), 20)'`,
  );
  await rootOutput("timeout 30 sh -c 'while [ ! -e /tmp/held ]; do usleep 10000; done'");
  const refused = await asRootRing3(`bind ${peer}`);
  assert.equal(refused.code, 5);
  assert.match(refused.stderr, /FUNCTION_IN_USE.*is claimed by the kernel.*--force/);
  assert.equal(driverOf(peer), "nvme");
  await ok(`bind ${peer} --force`);
  assert.equal(driverOf(peer), "vfio-pci");
  await ok(`unbind ${peer}`);
  await rootOutput("touch /tmp/release");
  await holder;
  await rootOutput("rm -f /tmp/held /tmp/release");
});

test("a binding that fails leaves the function with its driver", async () => {
  const { code, stderr } = await asRootRing3(`bind ${peer} --driver absent_vfio_pci --user user`);
  assert.equal(code, 1);
  assert.match(stderr, /MODULE_MISSING/);
  assert.equal(driverOf(peer), "nvme");
  assert.equal(existsSync(`/run/ring3/bindings/${peer}.json`), false);
});

test("a bridge is refused, and a group is bound as a whole", async () => {
  const { sharedA, sharedB } = FUNCTIONS;
  const bridge = await asRootRing3("bind 00:03.0");
  assert.equal(bridge.code, 5);
  assert.match(bridge.stderr, /BRIDGE/);
  await bind(sharedA.address, "none");
  await bind(sharedB.address, "none");
  if (existsSync("/sys/bus/pci/drivers/uio_pci_generic")) {
    await bind(sharedB.address, "uio_pci_generic");
    const blocked = await asRootRing3(`bind ${sharedA.address} --user user`);
    assert.equal(blocked.code, 5);
    assert.match(blocked.stderr, /GROUP_NOT_VIABLE.*0000:09:02\.0 is bound to uio_pci_generic.*--group/);
  }
  // Debian's kernel has a driver for the bridge above them, which blocks the group too.
  const hotplug = existsSync("/sys/bus/pci/drivers/shpchp");
  if (hotplug) await rootOutput("echo 0000:08:00.0 > /sys/bus/pci/drivers/shpchp/bind");
  const formerBridge = driverOf("0000:08:00.0");
  const former = driverOf(sharedB.address);
  await ok(`bind ${sharedA.address} --group --user user`);
  assert.deepEqual([driverOf(sharedA.address), driverOf(sharedB.address)], ["vfio-pci", "vfio-pci"]);
  {
    await using fn = await open(sharedB.address);
    assert.equal(fn.identity.deviceId, 0x11e8);
  }
  assert.equal(driverOf("0000:08:00.0"), hotplug ? "none" : formerBridge);
  await ok(`unbind ${sharedA.address} ${sharedB.address}`);
  assert.deepEqual([driverOf(sharedA.address), driverOf(sharedB.address)], ["none", former]);
  assert.equal(driverOf("0000:08:00.0"), formerBridge);
});

test("virtual functions are made for a user and removed again", async () => {
  const { igb, igbVf0, igbVf1 } = FUNCTIONS;
  await rootOutput(
    `echo 0 > /sys/bus/pci/devices/${igb.address}/sriov_numvfs; echo 1 > /sys/bus/pci/devices/${igb.address}/sriov_drivers_autoprobe`,
  );
  const { bound } = JSON.parse(await ok(`bind ${igb.address} --vfs 2 --user user --json`)) as {
    bound: { address: string }[];
  };
  assert.deepEqual(
    bound.map(({ address }) => address),
    [igbVf0.address, igbVf1.address],
  );
  {
    await using fn = await open(igbVf1.address);
    assert.deepEqual([fn.identity.vendorId, fn.identity.deviceId], [0x8086, 0x10ca]);
  }
  await ok(`unbind ${igb.address}`);
  const { sriov, driver } = readFunction(igb.address);
  assert.deepEqual([driver, sriov?.enabledVfs, sriov?.driversAutoprobe], ["igb", 0, true]);
});

test("unbind without an address gives everything back", async () => {
  await ok(`bind ${peer} --user user`);
  assert.match(await ok("unbind"), /back with nvme/);
  assert.equal(await ok("unbind"), "ring3 has bound nothing\n");
});

test("two at once: one waits for nobody and says who is at work", async () => {
  // The lock is what a running binding holds: this process stands in for it.
  const started = await rootOutput(`cut -d')' -f2 /proc/${process.pid}/stat | awk '{print $20}'`);
  await rootOutput(`mkdir -p /run/ring3; printf '%s %s' ${process.pid} ${started.trim()} > /run/ring3/lock`);
  const busy = await asRootRing3(`bind ${peer}`);
  assert.equal(busy.code, 5, busy.stderr);
  assert.match(busy.stderr, new RegExp(`BINDING_BUSY: process ${process.pid} `));
  await rootOutput("rm /run/ring3/lock");
});

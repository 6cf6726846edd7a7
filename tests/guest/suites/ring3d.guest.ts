// The service ring3d as root, and ordinary users of it, who have nothing but its sockets: the disk is taken from the kernel's
// driver, edu and a virtual function had none; uid 1000 has the disk, uid 1001 the others, and neither gets at the other's.
// kernels: any
// seconds: 245
// timeout: 1200
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { connect } from "../../../packages/ring3/src/vfio-user/index.ts";
import { driverOf } from "../bindings.ts";
import { asRoot, awaitDeletion, awaitFunction, bind, bindStandard, qmp, rootOutput } from "../inside.ts";
import { counting, FUNCTIONS, HOTPLUG } from "../machine.ts";
import { CONFINED, RING3, type RunningService, startService } from "../running-service.ts";

const clientScript = new URL("./mediation-client.ts", import.meta.url).pathname;
const PLACE = "/tmp/ring3d";
const FILE = `${PLACE}/ring3d.yaml`;
const disk = FUNCTIONS.nvme.address;
const edu = FUNCTIONS.edu.address;
const vf = FUNCTIONS.igbVf0.address;
const [slot] = HOTPLUG;
/** What has the functions while nobody serves them. */
const BEFORE = ["nvme", "none", "none"];

function configuration(users: string): string {
  return `control: ${PLACE}/control.sock
users-socket: ${PLACE}/users.sock
traces: ${PLACE}
functions:
  disk:
    address: "${disk}"
    socket: ${PLACE}/disk.sock
    users: ${users}
    lock-limit: 64M
  edu:
    address: "${edu}"
    socket: ${PLACE}/edu.sock
    users: other
  vf:
    address: "${vf}"
    socket: ${PLACE}/vf.sock
    users: [1001]
    rules: linux
  plugged:
    address: "${slot.address}"
    socket: ${PLACE}/plugged.sock
    users: [user, other]
    removal-seconds: 60
`;
}

async function start(): Promise<RunningService> {
  return await startService(PLACE, configuration("[user]"), CONFINED);
}

function drivers(): string[] {
  return [disk, edu, vf].map(driverOf);
}

async function asOther(words: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return await asRoot(`su other -c 'node ${RING3} ${words}'`);
}

before(async () => {
  await bind(disk, "nvme");
  for (const address of [edu, vf]) await bind(address, "none");
  // The virtual function waits for its parent.
  const parent = FUNCTIONS.igb.address;
  await rootOutput(`ip link set $(ls /sys/bus/pci/devices/${parent}/net) up`);
});

after(async () => {
  await rootOutput(`rm -rf ${PLACE}`);
  await bindStandard();
});

test("two users, one service: each drives its own functions, and gets at no other's", async () => {
  await using service = await start();
  assert.deepEqual(drivers(), ["vfio-pci", "vfio-pci", "vfio-pci"], await rootOutput(`cat ${PLACE}/log`));
  for (const address of [disk, edu, vf]) await assert.rejects(() => open(address), { code: "PERMISSION_DENIED" });
  // Both at once: the other one drives edu while this one reads its disk.
  const other = asOther(`edu vfio-user:${PLACE}/edu.sock --json`);
  {
    await using fn = await connect(`${PLACE}/disk.sock`);
    await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
    for (const first of [0, 777]) {
      assert.deepEqual(Buffer.from(await nvme.namespace(1).read(first, 8)), Buffer.from(counting(first * 512, 4096)));
    }
    assert.throws(() => fn.dma.allocate(2 ** 27), { errno: "ENOMEM" });
    const refused = await asOther(`nvme identify vfio-user:${PLACE}/disk.sock`);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /EACCES/);
  }
  const driven = await other;
  assert.equal(driven.code, 0, driven.stderr);
  await assert.rejects(() => connect(`${PLACE}/edu.sock`), /EACCES/);
  const info = await asOther(`net info vfio-user:${PLACE}/vf.sock --json`);
  assert.equal(info.code, 0, info.stderr);
  assert.match(info.stdout, /"mac": "/);
  // The control socket is the administrator's.
  await service.end("TERM");
  assert.deepEqual(drivers(), BEFORE);
  assert.ok(!existsSync(`${PLACE}/disk.sock`));
});

test("a service that is killed: its users get a clear error, and the next one takes over what it left, clean", async () => {
  await using service = await start();
  const user = spawn(process.execPath, [clientScript, `${PLACE}/disk.sock`], { stdio: ["ignore", "pipe", "pipe"] });
  const said = text(user);
  const gone = once(user, "close");
  await Promise.race([once(user.stdout, "data"), gone.then(() => assert.fail(said.stderr))]);
  await service.end("KILL");
  const [code, signal] = (await gone) as [number | null, string | null];
  assert.deepEqual([code, signal], [1, null], said.stderr);
  assert.match(said.stderr, /CONNECTION_LOST|FUNCTION_REMOVED|PEER_GONE/);
  assert.equal(driverOf(disk), "vfio-pci");

  await using next = await start();
  {
    await using fn = await connect(`${PLACE}/disk.sock`);
    await using nvme = await NvmeDriver.start(fn);
    assert.deepEqual(Buffer.from(await nvme.namespace(1).read(64, 1)), Buffer.from(counting(64 * 512, 512)));
  }
  await next.end("KILL");
  // Without another service, what is left is given back by hand, or by systemd.
  const back = await rootOutput(`node ${RING3} daemon --give-back --json`);
  assert.deepEqual((JSON.parse(back) as { returned: string[] }).returned.toSorted(), [disk, edu, vf].toSorted());
  assert.deepEqual(drivers(), BEFORE);
});

test("a function comes, goes and comes again under the service; users of others notice nothing", async () => {
  await using service = await start();
  await using fn = await connect(`${PLACE}/disk.sock`);
  await using nvme = await NvmeDriver.start(fn);
  for (let round = 0; round < 2; round++) {
    await qmp("device_add", { driver: "edu", bus: slot.port, id: "plugged" });
    await awaitFunction(slot.address, true);
    await service.says(/plugged: ready/);
    {
      await using user = await connect(`${PLACE}/plugged.sock`);
      assert.equal(user.bar(0).read32(4) >>> 0, 0);
      user.bar(0).write32(4, 0x1234_5678);
      assert.equal(user.bar(0).read32(4), ~0x1234_5678 >>> 0);
      const wanted = new Promise<void>((resolve) => void user.events.on("removal-requested", () => resolve()));
      await qmp("device_del", { id: "plugged" });
      await wanted;
    }
    // The user has let go long before its grace time is over.
    await awaitFunction(slot.address, false);
    await service.says(/plugged: removed/);
    await awaitDeletion("plugged");
  }
  assert.deepEqual(Buffer.from(await nvme.namespace(1).read(5, 1)), Buffer.from(counting(5 * 512, 512)));
  await nvme[Symbol.asyncDispose]();
  await fn[Symbol.asyncDispose]();
  await service.end("TERM");
});

test("a new configuration takes effect while users stay", async () => {
  await using service = await start();
  await using fn = await connect(`${PLACE}/disk.sock`);
  await using nvme = await NvmeDriver.start(fn);
  await rootOutput(`cat > ${FILE} <<'END'\n${configuration("[user, other]")}END\nkill -HUP ${service.pid}`);
  await service.says(/reloaded .*changed \["disk"\]/);
  assert.deepEqual(Buffer.from(await nvme.namespace(1).read(9, 1)), Buffer.from(counting(9 * 512, 512)));
  await nvme[Symbol.asyncDispose]();
  await fn[Symbol.asyncDispose]();
  await service.end("TERM");
});

function text({ stderr }: ChildProcess): { stderr: string } {
  const said = { stderr: "" };
  stderr?.setEncoding("utf8").on("data", (data: string) => {
    said.stderr += data;
  });
  return said;
}

// ring3d lends the kernel's own descriptors: uid 1000, with no right to any node, drives the disk at full speed by ring3d:disk;
// afterwards the service has it again, or says who keeps it.
// timeout: 900
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open, type PciFunction } from "../../../packages/ring3/src/index.ts";
import { ServiceUser } from "../../../packages/ring3/src/ring3d-user.ts";
import { connect } from "../../../packages/ring3/src/vfio-user/index.ts";
import { asRoot, bind, bindStandard, rootOutput } from "../inside.ts";
import { counting, FUNCTIONS } from "../machine.ts";
import { RING3, type RunningService, startService } from "../running-service.ts";

const PLACE = "/tmp/lent";
const USERS = `${PLACE}/users.sock`;
const LENT = `ring3d:disk@${USERS}`;
const disk = FUNCTIONS.nvme.address;
const keeper = new URL("./lent-keeper.ts", import.meta.url).pathname;
const backend = process.env["RING3_GUEST"] === "iommufd" ? "vfio-iommufd" : "vfio-group";

const CONFIGURATION = `control: ${PLACE}/control.sock
users-socket: ${USERS}
traces: ${PLACE}
functions:
  disk: { address: "${disk}", socket: ${PLACE}/disk.sock, users: [user, other], hand-over: user }
  other: { address: "${FUNCTIONS.edu.address}", socket: ${PLACE}/edu.sock, users: other }
`;

let service: RunningService;

before(async () => {
  await bind(disk, "nvme");
  await bind(FUNCTIONS.edu.address, "none");
  service = await startService(PLACE, CONFIGURATION);
  await service.says(/disk: ready/);
});
after(async () => {
  await service[Symbol.asyncDispose]();
  await rootOutput(`rm -rf ${PLACE}`);
  await bindStandard();
});

/** Reads what the disks hold at first: 32-bit words that count up. */
async function readsRight(fn: PciFunction, first: number): Promise<void> {
  await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
  assert.deepEqual(Buffer.from(await nvme.namespace(1).read(first, 8)), Buffer.from(counting(first * 512, 4096)));
}

test("a user without a right to any node has the function itself, and the service has it afterwards", async () => {
  await assert.rejects(() => open(disk), { code: "PERMISSION_DENIED" });
  using other = new ServiceUser(USERS);
  assert.deepEqual(
    (await other.functions()).map(({ name, handOver }) => [name, handOver]),
    [["disk", true]],
  );
  {
    await using fn = await open(LENT);
    assert.equal(fn.identity.backend, backend);
    assert.equal(fn.identity.address, disk);
    await readsRight(fn, 100);
    await fn.reset();
    await readsRight(fn, 200);
    await assert.rejects(() => other.open("disk"), {
      code: "FUNCTION_BUSY",
      message: new RegExp(`pid ${process.pid} `),
    });
    await assert.rejects(() => connect(`${PLACE}/disk.sock`), { code: "SYSTEM_CALL" });
  }
  await service.says(/disk: ready/);
  {
    await using fn = await connect(`${PLACE}/disk.sock`);
    await readsRight(fn, 300);
    await assert.rejects(() => other.open("disk"), { code: "FUNCTION_BUSY" });
  }
});

test("who is not in hand-over gets no descriptor, and who is no user does not learn that there is one", async () => {
  const refused = await asRoot(`su other -c 'node ${RING3} nvme identify ${LENT}'`);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /PERMISSION_DENIED.*not for uid 1001/);
  await assert.rejects(() => open(`ring3d:other@${USERS}`), { code: "FUNCTION_UNKNOWN", message: /it may use disk/ });
});

test("who keeps the descriptors is named, and the service has the function once they are closed", async (t) => {
  const child = spawn(process.execPath, [keeper, USERS, "disk"], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  await service.says(new RegExp(`disk: failed .*held by process ${child.pid} `));
  child.kill("SIGKILL");
  await ended;
  await service.says(/disk: ready/);
  await using fn = await connect(`${PLACE}/disk.sock`);
  await readsRight(fn, 400);
});

test("where the service ends, whoever has a function lent is asked for it, and it goes back to its driver", async () => {
  await using fn = await open(LENT);
  await using nvme = await NvmeDriver.start(fn);
  const asked = new Promise<void>((resolve) => void fn.events.on("removal-requested", () => resolve()));
  const ended = service.end("TERM");
  await asked;
  await nvme[Symbol.asyncDispose]();
  await fn[Symbol.asyncDispose]();
  await ended;
  assert.equal((await rootOutput(`basename $(readlink /sys/bus/pci/devices/${disk}/driver)`)).trim(), "nvme");
});

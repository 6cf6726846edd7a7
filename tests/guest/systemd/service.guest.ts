// The service under systemd as an ordinary user sees it, uid 1000, from the installation to the end. The tests build on each other:
// each start of the service takes seconds here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { before, test } from "node:test";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import type { Notice, NoticeKind } from "../../../packages/ring3/src/mediation/notices/index.ts";
import { ServiceUser } from "../../../packages/ring3/src/ring3d-user.ts";
import { connect, type VfioUserFunction } from "../../../packages/ring3/src/vfio-user/index.ts";
import { driverOf } from "../bindings.ts";
import { asRoot, awaitFunction, qmp, rootOutput } from "../inside.ts";
import { counting, FUNCTIONS, HOTPLUG } from "../machine.ts";

const disk = FUNCTIONS.nvme.address;
const edu = FUNCTIONS.edu.address;
const link = FUNCTIONS.e1000e.address;
const machineDisk = FUNCTIONS.peerNvme.address;
const [slot] = HOTPLUG;
const FILE = "/etc/ring3/ring3d.yaml";
const EDU_SOCKET = "/run/ring3/edu.sock";
/** The service may have to start first, and the guest is slow. */
const PATIENT = { timeoutMs: 300_000 };

const CONFIGURATION = `metrics: /run/ring3/metrics.sock
audit: /var/log/ring3/audit.jsonl
functions:
  disk:
    address: "${disk}"
    users: [user]
    hand-over: [user]
    lock-limit: 64M
  edu:
    address: "${edu}"
    users: [user]
`;

/** Writes the configuration of the service. */
async function configure(text: string): Promise<void> {
  await rootOutput(`cat > ${FILE} <<'END'\n${text}END`);
}

/** What the journal has of the service since this was asked the last time. */
async function journal(unit = "ring3d"): Promise<string> {
  return await rootOutput(`journalctl --sync; journalctl -u ${unit} -o cat --cursor-file=/run/seen-${unit}`);
}

async function show(property: string, unit = "ring3d"): Promise<string> {
  return (await rootOutput(`systemctl show -P ${property} ${unit}`)).trim();
}

interface FunctionState {
  readonly name: string;
  readonly state: string;
  readonly reason?: string;
}

/** The functions of the service; waits for one that starts, since systemd has its socket. */
async function functions(): Promise<ReadonlyMap<string, FunctionState>> {
  // Its exit status says that one has failed.
  const { stdout, stderr } = await asRoot("ring3 ctl status --json");
  assert.notEqual(stdout, "", stderr);
  const { functions: all } = JSON.parse(stdout) as { functions: FunctionState[] };
  return new Map(all.map((fn) => [fn.name, fn]));
}

/** edu answers with the complement of what is written to its liveness register. */
function works(fn: VfioUserFunction): void {
  const registers = fn.bar(0);
  registers.write32(4, 0x1234_5678);
  assert.equal(registers.read32(4), ~0x1234_5678 >>> 0);
}

async function readsDisk(fn: Parameters<typeof NvmeDriver.start>[0]): Promise<void> {
  await using nvme = await NvmeDriver.start(fn);
  assert.deepEqual(Buffer.from(await nvme.namespace(1).read(64, 8)), Buffer.from(counting(64 * 512, 4096)));
}

/** Waits until a function that the service itself makes a socket for is ready. */
async function socketAppears(path: string): Promise<void> {
  await rootOutput(`timeout 300 sh -c 'until test -S ${path}; do usleep 50000; done'`);
}

async function patientlyConnected(path: string): Promise<VfioUserFunction> {
  await socketAppears(path);
  return await connect(path, PATIENT);
}

before(async () => {
  // npm i -g @ring3/cli, without a registry.
  const modules = "/usr/lib/node_modules";
  await rootOutput(`mkdir -p ${modules} && cp -r /share/installed/. ${modules}`);
  for (const name of ["ring3", "ring3d"]) {
    await rootOutput(`ln -s ../lib/node_modules/@ring3/cli/main.cjs /usr/bin/${name}`);
  }
  // As docs/ring3d.md says.
  await rootOutput(`cp ${modules}/@ring3/cli/systemd/* /etc/systemd/system && mkdir /etc/ring3`);
  await configure(CONFIGURATION);
  await rootOutput("systemctl daemon-reload && systemctl enable --now ring3d.socket ring3d-function@edu.socket");
  await rootOutput("systemctl enable ring3d.service");
});

test("the first user of a socket starts the service, which is active when its functions are ready", async () => {
  assert.equal(await show("ActiveState"), "inactive");
  assert.deepEqual([disk, edu].map(driverOf), ["nvme", "none"]);
  await using fn = await connect(EDU_SOCKET, PATIENT);
  works(fn);
  // A start that is under way already is waited for.
  await rootOutput("systemctl start ring3d");
  // It says so at most once a second.
  assert.match(await show("StatusText"), /^2 functions: (?:2 ready|1 ready, 1 used)$/);
  const told = await journal();
  assert.ok(
    told.indexOf("disk: ready") >= 0 && told.indexOf("disk: ready") < told.indexOf("Started ring3d.service"),
    told,
  );
  assert.match(told, /edu: reset \(cause handover, kind bus\)/);
  assert.deepEqual([disk, edu].map(driverOf), ["vfio-pci", "vfio-pci"]);
  await assert.rejects(() => open(disk), { code: "PERMISSION_DENIED" });
});

test("in its sandbox, with one capability, the service has all that it needs", async () => {
  const pid = await show("MainPID");
  const status = await rootOutput(`cat /proc/${pid}/status`);
  const fields = new Map(
    Array.from(status.matchAll(/^(\w+):[\t ]*(.*)$/gm), ([, name = "", value = ""]) => [name, value]),
  );
  const CAP_CHOWN = "0000000000000001";
  assert.deepEqual(
    ["Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"].map((name) => fields.get(name)),
    ["0\t0\t0\t0", "0000000000000000", CAP_CHOWN, CAP_CHOWN, CAP_CHOWN, "0000000000000000", "1", "2"],
  );
  for (const kind of ["mnt", "net", "uts"]) {
    const [own, first] = (await rootOutput(`for pid in ${pid} 1; do readlink /proc/$pid/ns/${kind}; done`)).split("\n");
    assert.notEqual(own, first, kind);
  }
  assert.match(await rootOutput(`ls /run/ring3/taken`), new RegExp(`${disk}\\s+${edu}`));
  assert.match(
    await rootOutput("cat /var/log/ring3/audit.jsonl"),
    /"event":"opened","function":"edu","pid":\d+,"uid":1000/,
  );
  const ask = `node -e 'require("node:net").connect("/run/ring3/metrics.sock").pipe(process.stdout)'`;
  assert.match(await rootOutput(ask), /^ring3d_opens_total\{function="edu"\} 1$/m);
  {
    await using fn = await connect("/run/ring3/disk.sock", PATIENT);
    await readsDisk(fn);
  }
  // The kernel's own descriptors, which the service opens for who may open no node.
  await using fn = await open("ring3d:disk");
  await readsDisk(fn);
});

test("who keeps descriptors that it was lent is named, though its process is hidden from the service", async (t) => {
  const keeper = new URL("../suites/lent-keeper.ts", import.meta.url).pathname;
  await socketAppears("/run/ring3/disk.sock");
  const child = spawn(process.execPath, [keeper, "/run/ring3/users.sock", "disk"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const failed = `disk: failed .*held by a process of another user.*lent to process ${child.pid} of uid 1000`;
  await rootOutput(
    `timeout 300 sh -c 'until journalctl -u ring3d -o cat | grep -q "${failed}"; do usleep 100000; done'`,
  );
  // Nor does a service that wants to give it back wait in the kernel, where nothing could end it.
  const back = await asRoot(
    `systemd-run -q --wait --pipe -p CapabilityBoundingSet= -p ProtectProc=invisible ring3 unbind ${disk}`,
  );
  assert.notEqual(back.code, 0);
  assert.match(back.stderr, /FUNCTION_HELD.*a process that is hidden from this one/);
  child.kill("SIGKILL");
  await using fn = await patientlyConnected("/run/ring3/disk.sock");
  await readsDisk(fn);
});

test("what the machine itself uses is not taken, though the service sees the machine through its sandbox", async () => {
  const name = async (place: string): Promise<string> => (await rootOutput(`ls ${place}`)).trim();
  const interfaceName = await name(`/sys/bus/pci/devices/${link}/net`);
  const node = `/dev/${await name(`/sys/bus/pci/devices/${machineDisk}/nvme/*/ | grep '^nvme.*n1$'`)}`;
  await rootOutput(
    `ip link set ${interfaceName} up; /usr/sbin/mkfs.ext4 -q -F ${node}; mkdir -p /home/data; mount -t ext4 ${node} /home/data`,
  );
  const more = `  link: { address: "${link}", users: [user] }\n  data: { address: "${machineDisk}", users: [user] }\n`;
  await configure(CONFIGURATION + more);
  await rootOutput("systemctl reload ring3d");
  const used = await functions();
  assert.match(used.get("link")?.reason ?? "", new RegExp(`network link ${interfaceName} is up`));
  assert.match(used.get("data")?.reason ?? "", new RegExp(`${node} is mounted on /home/data`));
  assert.deepEqual([link, machineDisk].map(driverOf), ["e1000e", "nvme"]);

  // A mount that only others see, as a container's.
  await configure(CONFIGURATION);
  await rootOutput(`systemctl reload ring3d; umount /home/data; ip link set ${interfaceName} down`);
  const holder = await rootOutput(
    `unshare -m sh -c 'mount -t ext4 ${node} /mnt && echo mounted > /run/holds; exec sleep 100000' > /dev/null 2>&1 & echo $!`,
  );
  await rootOutput("timeout 300 sh -c 'until test -e /run/holds; do usleep 50000; done'");
  await configure(CONFIGURATION + more);
  await rootOutput("systemctl reload ring3d");
  const held = await functions();
  assert.match(held.get("data")?.reason ?? "", new RegExp(`${node} is claimed by the kernel`));
  assert.equal(held.get("link")?.state, "ready");
  await configure(CONFIGURATION);
  await rootOutput(`kill ${holder.trim()}; systemctl reload ring3d`);
  assert.deepEqual([link, machineDisk].map(driverOf), ["e1000e", "nvme"]);
});

test("a reload changes what the service serves, while a user works on; one that is refused changes nothing", async () => {
  await using fn = await connect(EDU_SOCKET, PATIENT);
  works(fn);
  await configure(`${CONFIGURATION}  plugged: { address: "${slot.address}", users: [user] }\n`);
  await rootOutput("systemctl reload ring3d");
  works(fn);
  // The kernel's word of a new function reaches the service's own network.
  await qmp("device_add", { driver: "edu", bus: slot.port, id: "plugged" });
  await awaitFunction(slot.address, true);
  {
    await using plugged = await patientlyConnected("/run/ring3/plugged.sock");
    works(plugged);
  }
  await configure("functions: { disk: { adress: x } }\n");
  const refused = await asRoot("systemctl reload ring3d");
  assert.notEqual(refused.code, 0);
  assert.match(await journal(), /ring3d\.yaml:1:\d+: there is no setting "adress"; did you mean address\?/);
  works(fn);
  await configure(CONFIGURATION);
  await rootOutput("systemctl reload ring3d");
  works(fn);
  assert.ok(!existsSync("/run/ring3/plugged.sock"));
});

test("a service that is killed: its user hears of it, functions are given back, and the next user has them clean", async () => {
  const fn = await connect(EDU_SOCKET, PATIENT);
  fn.busMaster = true;
  const gone = new Promise<void>((resolve) => fn.gone.addEventListener("abort", () => resolve()));
  await journal();
  await rootOutput("systemctl kill --kill-whom=main -s KILL ring3d");
  await gone;
  assert.throws(() => fn.bar(0).read32(0), { code: /FUNCTION_REMOVED|CONNECTION_LOST|PEER_GONE/ });
  await fn[Symbol.asyncDispose]();
  // Who comes while it restarts waits.
  {
    await using again = await connect(EDU_SOCKET, PATIENT);
    assert.equal(again.busMaster, false);
    works(again);
  }
  const told = await journal();
  assert.match(told, new RegExp(`given back: ${disk}, ${edu}`));
  assert.match(told, /Scheduled restart job/);
  await rootOutput("systemctl start ring3d");

  // With all that runs of the unit, what gives functions back is killed, too: the next service takes them over.
  await rootOutput("systemctl kill -s KILL ring3d");
  await using after = await connect(EDU_SOCKET, PATIENT);
  works(after);
  await rootOutput("systemctl start ring3d");
  assert.deepEqual([disk, edu].map(driverOf), ["vfio-pci", "vfio-pci"]);
});

/** A user of edu that answers questions about a sleep. */
class Sleeper implements AsyncDisposable {
  readonly fn: VfioUserFunction;
  readonly heard: Notice[] = [];
  readonly #user: ServiceUser;
  #wake = (): void => undefined;

  private constructor(fn: VfioUserFunction, answer: "consent" | "refuse") {
    this.fn = fn;
    this.#user = new ServiceUser("/run/ring3/users.sock", {
      onNotice: (notice) => {
        this.heard.push(notice);
        this.#wake();
        if (notice.kind === "suspend")
          void this.#user.reply(notice.notice, answer, "a firmware update").catch(() => undefined);
      },
    });
  }

  static async start(answer: "consent" | "refuse"): Promise<Sleeper> {
    const sleeper = new Sleeper(await connect(EDU_SOCKET, PATIENT), answer);
    await sleeper.#user.register("edu", ["suspend", "power-resume"]);
    // Until then nobody could ask it.
    await locksAre(DELAY);
    return sleeper;
  }

  /** Resolves once it has heard these kinds, and no others. */
  async hears(kinds: readonly NoticeKind[]): Promise<void> {
    while (this.heard.length < kinds.length) await new Promise<void>((resolve) => (this.#wake = resolve));
    assert.deepEqual(
      this.heard.map(({ kind }) => kind),
      kinds,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#user[Symbol.dispose]();
    await this.fn[Symbol.asyncDispose]();
  }
}

/** What the service holds at all times. */
const DELAY = "delay: asks the users of PCI functions before a sleep";

/** The locks that logind has of the service, as `delay` and `block`, and why. */
async function locks(): Promise<string> {
  const listed = await rootOutput("systemd-inhibit --list --json=short");
  const all = JSON.parse(listed) as { who: string; what: string; why: string; mode: string }[];
  const own = all.filter(({ who, what }) => who === "ring3d" && what === "sleep");
  return own
    .map(({ mode, why }) => `${mode}: ${why}`)
    .toSorted()
    .join("\n");
}

async function locksAre(wanted: string): Promise<void> {
  while ((await locks()) !== wanted);
}

async function sleeps(): Promise<number> {
  return Number(await rootOutput("cat /sys/power/suspend_stats/success"));
}

test("while a user cannot be asked, the machine does not sleep, and says who that is", async () => {
  await using fn = await connect(EDU_SOCKET, PATIENT);
  const block = `block: process ${process.pid} drives edu and cannot be asked`;
  await locksAre(`${block}\n${DELAY}`);
  const refused = await asRoot("systemctl suspend --check-inhibitors=yes");
  assert.notEqual(refused.code, 0);
  assert.match(refused.stdout + refused.stderr, new RegExp(`process ${process.pid} drives edu and cannot be asked`));
  // The sleep itself, past logind.
  const past = await asRoot("systemctl start suspend.target");
  assert.notEqual(past.code, 0);
  assert.match(
    await journal("ring3d-sleep"),
    new RegExp(`vetoed; not registered: process ${process.pid} of uid 1000 at edu`),
  );
  assert.equal(await sleeps(), 0);
  await fn[Symbol.asyncDispose]();
  await locksAre(DELAY);
});

test("one user's refusal keeps the machine awake, and names the user", async () => {
  await using user = await Sleeper.start("refuse");
  await rootOutput("systemctl suspend");
  // The veto, and logind's word that nothing came of it.
  await user.hears(["suspend", "power-resume", "power-resume"]);
  assert.equal(await sleeps(), 0);
  const who = `refused by process ${process.pid} of uid 1000 at edu \\(a firmware update\\)`;
  assert.match(await journal("ring3d-sleep"), new RegExp(`SLEEP_VETOED: the machine is to stay awake: vetoed; ${who}`));
  assert.equal(await show("Result", "ring3d-sleep"), "exit-code");
  works(user.fn);
});

test("with its users' consent the machine sleeps; afterwards they go on, and hear so once", async () => {
  await using user = await Sleeper.start("consent");
  await rootOutput("systemctl suspend");
  await user.hears(["suspend", "power-resume"]);
  assert.equal(await sleeps(), 1);
  assert.match(await journal("ring3d-sleep"), new RegExp(`edu: process ${process.pid} consents`));
  works(user.fn);
  // The unit's own word of the end is not a second notice.
  await rootOutput("systemctl stop ring3d-sleep");
  await user.hears(["suspend", "power-resume"]);
});

test("a service that does not run lets the machine sleep, and is not started by that", async () => {
  await rootOutput("systemctl stop ring3d");
  assert.deepEqual([disk, edu].map(driverOf), ["nvme", "none"]);
  assert.equal((await rootOutput("ls /run/ring3/taken /run/ring3/bindings | grep 0000 || true")).trim(), "");
  await rootOutput("systemctl start ring3d-sleep");
  await rootOutput("systemctl stop ring3d-sleep");
  assert.equal(await show("ActiveState"), "inactive");
  assert.ok(existsSync(EDU_SOCKET));
  await rootOutput(
    "systemctl disable --now ring3d.socket ring3d-users.socket ring3d-function@edu.socket ring3d ring3d-sleep",
  );
  assert.ok(!existsSync(EDU_SOCKET));
});

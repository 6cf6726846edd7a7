// timeout: 600
// Set-ups that are broken on purpose: the doctor names each fault as uid 1000, the command that it prints is executed as it
// stands, and then the doctor is content. And binding: what the machine uses is refused, and a SIGKILL at any call leaves
// what the next command finishes or undoes.
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { captured } from "../../../packages/cli/src/captured-run.ts";
import { type Finding, readFunction } from "../../../packages/ring3/src/host/index.ts";
import { driverOf, vfioNodes } from "../bindings.ts";
import { asRoot, bind, bindStandard, FULL, rootOutput, type RootResult } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const RING3 = new URL("../../../packages/cli/src/main.ts", import.meta.url).pathname;
const HOST = new URL("../../../packages/ring3/src/host/index.ts", import.meta.url).href;
const debian = process.env["RING3_GUEST"] === "debian";
/** Every call of a binding is killed, and not a few. */
/** What does not depend on the kernel is tried on the quick one only. */
const ONCE = debian && !FULL ? "on the other kernel" : false;
const nvme = FUNCTIONS.nvme.address;
const edu = FUNCTIONS.edu.address;
const peer = FUNCTIONS.peerNvme.address;
const PCI = "/sys/bus/pci/devices";

interface Diagnosis {
  readonly status: number;
  readonly verdict: string;
  readonly findings: readonly Finding[];
}

async function doctor(...words: string[]): Promise<Diagnosis> {
  const { status, stdout, stderr } = await captured(["doctor", ...words, "--json"]);
  assert.equal(stderr, "");
  return { status, ...(JSON.parse(stdout) as Omit<Diagnosis, "status">) };
}

function find({ findings }: Diagnosis, id: string): Finding {
  const found = findings.find((finding) => finding.id === id && finding.severity !== "fine");
  assert.ok(
    found !== undefined,
    `no ${id} in ${JSON.stringify(findings.map((finding) => [finding.id, finding.severity]))}`,
  );
  return found;
}

/** Runs the command that a finding prints, in a shell in which sudo and ring3 are what they are called elsewhere. */
async function mend(finding: Finding, which = 0): Promise<string> {
  const command = finding.remedies[which]?.command ?? assert.fail(`${finding.id} names no command`);
  // The shell from which the driver would be started is this process.
  const line = command.replaceAll("$$", String(process.pid));
  if (!/\bsudo\b/.test(line)) await promisify(execFile)("sh", ["-c", line]);
  else await rootOutput(`sudo() { "$@"; }; ring3() { node ${RING3} "$@"; }; ${line}`);
  return command;
}

/** A process that has the node of `address` open. Its end is watched from the start: it may come before a command that ends it. */
async function heldOpen(address: string): Promise<{ holder: ChildProcess; gone: Promise<unknown> }> {
  const node = vfioNodes(address)[0] ?? assert.fail("no node");
  const holder = spawn("sh", ["-c", `exec 3<>${node}; echo; exec sleep 600`], { stdio: ["ignore", "pipe", "inherit"] });
  const gone = once(holder, "close");
  await Promise.race([once(holder.stdout, "data"), gone.then(() => assert.fail(`${node} could not be opened`))]);
  return { holder, gone };
}

const ring3 = async (words: string): Promise<RootResult> => await asRoot(`node ${RING3} ${words}`);

after(async () => void (await bindStandard()));

test("a function that is well is called well, opens, and maps memory for DMA", async () => {
  for (const address of [nvme, edu]) {
    const diagnosis = await doctor(address, "--dma");
    assert.equal(diagnosis.status, 0, JSON.stringify(diagnosis.findings, null, 1));
    const dma = diagnosis.findings.find(({ id }) => id === "first-dma");
    assert.match(dma?.summary ?? "", /memory is mapped for DMA: 4096 bytes at IOVA 0x/);
    for (const id of [
      "firmware-iommu",
      "iommu-on",
      "interrupt-remapping",
      "group-viable",
      "reset-method",
      "permission",
    ]) {
      assert.equal(diagnosis.findings.find((finding) => finding.id === id)?.severity, "fine", id);
    }
  }
  const text = (await captured(["doctor", nvme])).stdout;
  assert.match(text, /fine +the firmware describes an IOMMU: DMAR/);
  assert.match(text, /All is well: \d+ checks fine/);
});

test("no permission, and a node that was left with a wrong owner", async () => {
  await bind(edu, "vfio-pci", 0);
  const closed = find(await doctor(edu), "permission");
  assert.equal(closed.severity, "failure");
  assert.equal(find(await doctor(edu, "--dma"), "open").severity, "failure");
  assert.equal(await mend(closed), `sudo ring3 permit ${edu} --user user`);
  assert.equal((await doctor(edu, "--dma")).status, 0);
  await bind(edu, "vfio-pci", 4242);
  const stale = find(await doctor(edu), "stale-owner");
  assert.equal(await mend(stale), `sudo ring3 permit ${edu} --user user --force`);
  assert.equal((await doctor(edu)).status, 0);
});

test("a node without a device", { skip: ONCE }, async () => {
  await rootOutput("mknod /dev/vfio/99 c 240 99");
  const diagnosis = await doctor(nvme);
  assert.equal(diagnosis.status, 6);
  await mend(find(diagnosis, "stale-node"));
  assert.equal((await doctor(nvme)).status, 0);
});

test("tiny memlock", { skip: ONCE }, async () => {
  const limit = /^Max locked memory +(\d+|unlimited) +(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8"));
  await rootOutput(`prlimit --memlock=65536:65536 --pid ${process.pid}`);
  const diagnosis = await doctor(nvme, "--memory", "128K");
  assert.equal(diagnosis.status, 7);
  assert.equal(await mend(find(diagnosis, "memlock")), "sudo prlimit --memlock=unlimited --pid $$");
  assert.equal((await doctor(nvme, "--memory", "8G")).status, 0);
  await rootOutput(`prlimit --memlock=${limit?.[1]}:${limit?.[2]} --pid ${process.pid}`);
});

test("few open files, and the shell may allow more", { skip: ONCE }, async () => {
  await rootOutput(`prlimit --nofile=40:4096 --pid ${process.pid}`);
  const diagnosis = await doctor(nvme);
  const found = find(diagnosis, "nofile");
  const command = found.remedies[0]?.command ?? "";
  assert.match(command, /^ulimit -n \d+$/);
  // A shell's limit is its own: the doctor is asked again inside.
  const script = `${command} && exec ${process.execPath} ${RING3} doctor ${nvme} --json`;
  const { stdout } = await promisify(execFile)("sh", ["-c", script]);
  await rootOutput(`prlimit --nofile=4096:4096 --pid ${process.pid}`);
  assert.equal((JSON.parse(stdout) as Diagnosis).verdict, "fine");
});

test("another process has it open", async () => {
  const { holder, gone } = await heldOpen(edu);
  const diagnosis = await doctor(edu, "--dma");
  const held = find(diagnosis, "held");
  assert.match(held.evidence[0]?.text ?? "", /sleep 600 has \/dev\/vfio\//);
  assert.match(find(diagnosis, "open").consequence ?? "", /BUSY/);
  assert.equal(await mend(held), `kill ${holder.pid}`);
  await gone;
  assert.equal((await doctor(edu, "--dma")).status, 0);
});

test("no reset method, few mappings, the mode without an IOMMU", { skip: ONCE }, async () => {
  const cases: [id: string, path: string, value: string, broken: string][] = [
    ["reset-method", `${PCI}/${nvme}/reset_method`, "flr", ""],
    ["dma-mappings", "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "65535", "16"],
    ["noiommu-mode", "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N", "Y"],
  ];
  for (const [id, path, value, broken] of cases) {
    if (!existsSync(path)) continue;
    await rootOutput(`echo "${broken}" > ${path}`);
    const diagnosis = await doctor(nvme);
    assert.equal(diagnosis.status, 6, id);
    await mend(find(diagnosis, id));
    assert.match(readFileSync(path, "utf8"), new RegExp(value));
    assert.equal((await doctor(nvme)).status, 0, id);
  }
});

test("a group that is shared with a live driver", async () => {
  const { sharedA, sharedB } = FUNCTIONS;
  await bind(sharedB.address, "uio_pci_generic");
  const shared = find(await doctor(sharedA.address), "group-viable");
  assert.match(shared.summary, /shared with 0000:09:02\.0 \(uio_pci_generic\)/);
  assert.equal(await mend(shared), `sudo ring3 bind ${sharedA.address} --group --user user`);
  const diagnosis = await doctor(sharedA.address, "--dma");
  assert.deepEqual(
    diagnosis.findings.filter(({ severity }) => severity === "failure"),
    [],
  );
  await bindStandard();
});

test("a disk that is mounted is refused, the doctor says how to free it, and then it is bound", {
  skip: ONCE,
}, async () => {
  const controllers = `${PCI}/${peer}/nvme`;
  await rootOutput(`timeout 30 sh -c 'while ! ls -d ${controllers}/*/nvme*n1 2>/dev/null; do usleep 10000; done'`);
  const names = readdirSync(controllers).flatMap((name) => readdirSync(`${controllers}/${name}`));
  const disk = `/dev/${names.find((name) => /^nvme\d+n\d+$/.test(name))}`;
  await rootOutput(
    `dd if=${disk} of=/tmp/peer.start bs=1M count=4 2>/dev/null; /e2fs/mke2fs -q -F -t ext4 ${disk} 4M && mount ${disk} /mnt`,
  );
  const refused = await ring3(`bind ${peer} --user user`);
  assert.deepEqual([refused.code, driverOf(peer)], [5, "nvme"]);
  assert.match(refused.stderr, /FUNCTION_IN_USE.*nvme\d+n\d+ is mounted on \/mnt/);
  const diagnosis = await doctor(peer);
  assert.equal(await mend(find(diagnosis, "machine-uses-it")), "sudo umount /mnt");
  await rootOutput(`dd if=/tmp/peer.start of=${disk} bs=1M conv=notrunc 2>/dev/null; rm /tmp/peer.start; sync`);
  assert.equal(await mend(find(await doctor(peer), "driver")), `sudo ring3 bind ${peer} --user user`);
  assert.equal((await doctor(peer, "--dma")).status, 0);
});

/** Binds as root and is killed by itself right after its `call`-th change to the machine; whether it came so far. */
async function killedBind(call: number): Promise<boolean> {
  const script = `
    import { bind, thisHost, lookUpUser } from ${JSON.stringify(HOST)};
    const host = thisHost();
    let calls = 0;
    const operations = Object.fromEntries(Object.entries(host.operations).map(([name, action]) => [name,
      !["write", "save", "remove", "setOwner"].includes(name) ? action : async (...words) => {
        await action(...words);
        if (calls++ === ${call}) process.kill(process.pid, "SIGKILL");
      }]));
    await bind({ addresses: ["${edu}"], user: lookUpUser("user") }, { ...host, operations });`;
  const { code, signal, stderr } = await asRoot(`exec ${process.execPath} --input-type=module -e '${script}'`);
  assert.ok(signal === "SIGKILL" || code === 0, `${code} ${signal} ${stderr}`);
  return signal === "SIGKILL";
}

test("a bind that is killed is finished or undone by the command that the doctor prints", { skip: ONCE }, async () => {
  const calls = FULL ? [...Array(20).keys()] : [1, 2];
  const told: string[] = [];
  for (const [index, call] of calls.entries()) {
    await bind(edu, "none");
    await rootOutput(`rm -rf /run/ring3; echo > ${PCI}/${edu}/driver_override`);
    if (!(await killedBind(call))) break;
    const diagnosis = await doctor(edu);
    const cutOff = diagnosis.findings.find(({ id }) => id === "binding-cut-off");
    told.push(cutOff === undefined ? "bound" : "cut off");
    if (index % 2 === 0) {
      // The first remedy goes on. Where it is bound already, at most the nodes are missing.
      const closed = diagnosis.findings.find(({ id, severity }) => id === "permission" && severity === "failure");
      const left = cutOff ?? closed;
      if (left !== undefined) await mend(left);
      assert.equal((await doctor(edu, "--dma")).status, 0, `finished after call ${call}`);
    } else {
      if (cutOff !== undefined) await mend(cutOff, 1);
      else assert.equal((await ring3(`unbind ${edu}`)).code, 0);
      const { driver, driverOverride } = readFunction(edu);
      const record = existsSync(`/run/ring3/bindings/${edu}.json`);
      assert.deepEqual([driver, driverOverride, record], [undefined, undefined, false], `undone after call ${call}`);
    }
  }
  assert.deepEqual(told.slice(0, 2), FULL ? ["cut off", "cut off"] : ["cut off", "bound"]);
  await rootOutput("rm -rf /run/ring3");
  await bind(edu, "vfio-pci");
});

test("virtual functions come and go by number, and one that is held is not taken", { skip: ONCE }, async () => {
  const { igb, igbVf0 } = FUNCTIONS;
  const { holder, gone } = await heldOpen(igbVf0.address);
  const refused = await ring3(`vfs ${igb.address} 0`);
  assert.deepEqual([refused.code, /FUNCTION_HELD.*sleep 600/.test(refused.stderr)], [5, true], refused.stderr);
  holder.kill();
  await gone;
  const made = await ring3(`vfs ${igb.address} 1 --json`);
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual((JSON.parse(made.stdout) as { virtualFunctions: unknown }).virtualFunctions, [
    { address: igbVf0.address, driver: null },
  ]);
  assert.equal((await ring3(`vfs ${igb.address} 0`)).code, 0);
  assert.equal(readFunction(igb.address).sriov?.enabledVfs, 0);
  await bindStandard();
});

test("a second user gets in by access list, where the kernel has them", async () => {
  const before = vfioNodes(edu).map((path) => statSync(path).mode);
  const { code, stderr } = await ring3(`permit ${edu} --user other --acl`);
  if (!debian) {
    assert.match(stderr, /NO_ACCESS_LISTS.*CONFIG_TMPFS_POSIX_ACL/);
    assert.deepEqual(
      vfioNodes(edu).map((path) => statSync(path).mode),
      before,
    );
    return;
  }
  assert.equal(code, 0, stderr);
  for (const node of vfioNodes(edu)) await rootOutput(`su other -c 'exec 3<>${node}'`);
  assert.equal((await doctor(edu, "--dma", "--user", "user")).status, 0);
  assert.equal((await ring3(`permit ${edu} --user other --revoke`)).code, 0);
  for (const node of vfioNodes(edu)) assert.notEqual((await asRoot(`su other -c 'exec 3<>${node}'`)).code, 0);
  assert.equal((await doctor(edu, "--dma")).status, 0);
});

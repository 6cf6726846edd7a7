// seconds: 1
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";

const DISK = { address: "0000:01:00.0", driver: "nvme" };
const CARD = { address: "0000:05:00.0", driver: "igb", classCode: 0x020000 };

function machineOf(): FakeMachine {
  const machine = new FakeMachine([DISK, CARD]);
  for (const { address } of [DISK, CARD]) {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => (index === 0x0e ? 0 : index));
    writeFileSync(configOf(machine, address), bytes);
  }
  return machine;
}

function configOf(machine: FakeMachine, address: string): string {
  return join(machine.root, "sys/bus/pci/devices", address, "config");
}

test("selectors begin groups, operations are for what they select, in the order of the words", async () => {
  using machine = machineOf();
  const root = ["--root", machine.root];
  const run = async (...words: string[]) => await captured(["setpci", ...root, ...words]);
  assert.equal((await run("01:00.0", "VENDOR_ID", "4.l")).stdout, "0100\n07060504\n");
  assert.equal((await run("-s", "1:", "0.b", "-s", "5:", "8.b", "9.b")).stdout, "00\n08\n09\n");
  assert.equal((await run("-d", "::0200", "0.b")).stdout, "00\n");
  assert.equal((await run("-v", "-s=5:", "-d", "1b36:", "COMMAND.b")).stdout, "0000:05:00.0 @04 = 04\n");
  const changed = await run("-v", "-s", ".0", "COMMAND=0:1", "INTERRUPT_LINE=5");
  assert.equal(changed.stdout.split("\n")[1], "0000:01:00.0 @3c 05");
  assert.equal(readFileSync(configOf(machine, CARD.address))[0x3c], 5);
  const dry = await run("-vD", "01:00.0", "INTERRUPT_LINE=7:7", "command.io=1");
  assert.equal(dry.stdout, "0000:01:00.0 @3c 05->(07:07)->07\n0000:01:00.0 HEADER.COMMAND.IO @04 0504->0505\n");
  assert.equal(readFileSync(configOf(machine, DISK.address))[0x3c], 5);
  assert.deepEqual((await run("01:00.0", "COMMAND.IO=1")).stdout, "");
  assert.match((await run("01:00.0", "header.COMMAND")).stdout, /^0505 IO=1 MEMORY=0 BUS_MASTER=1 /);
});

test("JSON says what was read and written, by name where there is one", async () => {
  using machine = machineOf();
  const { stdout } = await captured([
    "setpci",
    "--json",
    "--root",
    machine.root,
    "01:00.0",
    "4.w",
    "4.w=1:1",
    "COMMAND.IO",
  ]);
  const { dryRun, operations } = JSON.parse(stdout) as { dryRun: boolean; operations: Record<string, unknown>[] };
  assert.equal(dryRun, false);
  assert.deepEqual(
    operations.map(({ address, operation, offset, value }) => [address, operation, offset, value]),
    [
      ["0000:01:00.0", "4.w", 4, 0x0504],
      ["0000:01:00.0", "4.w=1:1", 4, null],
      ["0000:01:00.0", "COMMAND.IO", 4, 1],
    ],
  );
  assert.deepEqual(operations[1]?.["writes"], [{ offset: 4, before: 0x0504, value: 1, mask: 1, after: 0x0505 }]);
  const registers = JSON.parse((await captured(["setpci", "--dumpregs", "--json"])).stdout) as { registers: unknown[] };
  assert.ok(registers.registers.length > 100);
});

test("nothing selected is a warning that -f keeps quiet; several -s of a group are one too", async () => {
  using machine = machineOf();
  const run = async (...words: string[]) => await captured(["setpci", "--root", machine.root, ...words]);
  const none = await run("-s", "7:", "COMMAND");
  assert.deepEqual([none.status, none.stdout, /group 1 selects no function/.test(none.stderr)], [0, "", true]);
  assert.equal((await run("-f", "-s", "7:", "COMMAND")).stderr, "");
  const two = await run("-s", "7:", "-s", "1:", "0.b");
  assert.deepEqual([two.stdout, /several -s options/.test(two.stderr)], ["00\n", true]);
  const far = await run("01:00.0", "400.l");
  assert.deepEqual([far.stdout, /beyond the 256 bytes/.test(far.stderr)], ["ffffffff\n", true]);
});

test("what is wrong is refused before anything is written", async () => {
  using machine = machineOf();
  const before = readFileSync(configOf(machine, DISK.address));
  const cases: [status: number, message: RegExp, ...words: string[]][] = [
    [2, /operates on nothing yet/, "COMMAND"],
    [2, /nothing to do/],
    [2, /SETPCI_SYNTAX.*there is no register "COMAND"/, "01:00.0", "COMMAND=0", "COMAND"],
    [2, /FIELD_UNKNOWN.*it has IO, MEMORY/, "01:00.0", "COMMAND=0", "COMMAND.FOO"],
    [2, /FILTER_INVALID/, "-s", "1:2:3:4", "COMMAND"],
    [1, /REGISTER_ABSENT.*type 1/, "01:00.0", "PRIMARY_BUS=1"],
    [1, /CAPABILITY_ABSENT/, "01:00.0", "CAP_MSIX.w=1"],
    [4, /FUNCTION_NOT_FOUND/, "09:00.0", "COMMAND"],
  ];
  for (const [status, message, ...words] of cases) {
    const result = await captured(["setpci", "--root", machine.root, ...words]);
    assert.deepEqual([result.status, result.stdout], [status, ""], `${words.join(" ")}: ${result.stderr}`);
    assert.match(result.stderr, message);
  }
  assert.deepEqual(readFileSync(configOf(machine, DISK.address)), before);
});

test("the same words over a socket, a dump and a tree", { timeout: 60_000 }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-setpci-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "nvme.sock");
  const main = join(import.meta.dirname, "../main.ts");
  const child = spawn(process.execPath, [main, "serve", "nvme", "--memory", "1M", "--socket", socket]);
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const address = `vfio-user:${socket}`;
  const [file, tree] = [join(directory, "dump"), join(directory, "tree")];
  assert.equal((await captured(["dump", address, "-o", file])).status, 0);
  assert.equal((await captured(["sysfs-tree", tree, address])).status, 0);
  const words = [
    "VENDOR_ID",
    "CAP_EXP+8.w",
    "express.deviceControl.maxReadRequest",
    "PM.PMCSR.POWER_STATE",
    "ECAP_AER.l",
  ];
  const outputs: string[] = [];
  for (const source of [address, `dump:${file}`, `tree:${tree}`]) {
    const { status, stdout, stderr } = await captured(["setpci", source, ...words]);
    assert.deepEqual([status, stderr], [0, ""]);
    outputs.push(stdout);
  }
  assert.deepEqual(new Set(outputs).size, 1);
  assert.match(outputs[0] ?? "", /^1234\n[0-9a-f]{4}\n512\nD0\n/);
  const change = ["express.deviceControl.maxReadRequest=4096", "express.deviceControl.maxReadRequest"];
  for (const source of [address, `tree:${tree}`]) {
    assert.equal((await captured(["setpci", source, ...change])).stdout, "4096\n");
  }
  const refused = await captured(["setpci", `dump:${file}`, ...change]);
  assert.deepEqual([refused.status, /CONFIG_READ_ONLY/.test(refused.stderr)], [1, true]);
});

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { parseDump, readConfig } from "../../../ring3/src/pci/index.ts";
import { captured } from "../captured-run.ts";

const DISK = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const CARD = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000 };

function machineOf(): FakeMachine {
  const machine = new FakeMachine([DISK, CARD]);
  for (const { address } of [DISK, CARD]) {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => (index < 2 ? 0x12 : index));
    writeFileSync(join(machine.root, "sys/bus/pci/devices", address, "config"), bytes);
  }
  return machine;
}

test("dump: the machine, one function, less of it, into a file, as JSON", async () => {
  using machine = machineOf();
  const root = ["--root", machine.root];
  const all = await captured(["dump", ...root]);
  assert.deepEqual([all.status, all.stderr], [0, ""]);
  assert.equal(parseDump(all.stdout).length, 2);
  assert.match(all.stdout, /^0000:01:00\.0 Non-volatile memory controller: /);
  const one = await captured(["dump", "05:00.0", "--extent", "header", ...root]);
  assert.equal(parseDump(one.stdout)[0]?.config.size, 64);
  const file = join(machine.root, "dump");
  const into = await captured(["dump", "-o", file, ...root]);
  assert.deepEqual([into.status, into.stdout, readFileSync(file, "utf8")], [0, "", all.stdout]);
  const { functions } = JSON.parse((await captured(["dump", "01:00.0", "--json", ...root])).stdout) as {
    functions: { address: string; method: string; sizeBytes: number; bytes: string }[];
  };
  assert.deepEqual(
    functions.map(({ address, method, sizeBytes, bytes }) => [address, method, sizeBytes, bytes.slice(0, 8)]),
    [["0000:01:00.0", "sysfs", 256, "12120203"]],
  );
});

test("sysfs-tree: from a dump and from the machine, refused where it would overwrite", async () => {
  using machine = machineOf();
  const root = ["--root", machine.root];
  const [file, tree] = [join(machine.root, "dump"), join(machine.root, "tree")];
  await captured(["dump", "-o", file, ...root]);
  const written = await captured(["sysfs-tree", tree, "05:00.0", ...root]);
  assert.match(written.stdout, /^wrote 1 function; now: lspci -A linux-sysfs -O sysfs\.path=.*tree -vvv\n$/);
  const again = await captured(["sysfs-tree", tree, `dump:${file}`, ...root]);
  assert.deepEqual([again.status, /TREE_EXISTS.*--force/.test(again.stderr)], [1, true]);
  const forced = await captured(["sysfs-tree", tree, `dump:${file}`, "--force", "--json"]);
  assert.equal((JSON.parse(forced.stdout) as { functions: unknown[] }).functions.length, 2);
  const copied = parseDump((await captured(["dump", `tree:${tree}`])).stdout);
  assert.deepEqual(
    copied.map((fn) => readConfig(fn)),
    parseDump(readFileSync(file, "utf8")).map((fn) => readConfig(fn)),
  );
});

test("what cannot be reached is refused with the reason", async () => {
  using machine = machineOf();
  const cases: [status: number, message: RegExp, ...words: string[]][] = [
    [4, /FUNCTION_NOT_FOUND.*ring3 ls/, "dump", "09:00.0", "--root", machine.root],
    [2, /ADDRESS_INVALID/, "dump", "nonsense", "--root", machine.root],
    [2, /--at 02:00\.0 is for a vfio-user address/, "dump", "01:00.0", "--at", "02:00.0", "--root", machine.root],
    [2, /--root shows files of another machine/, "dump", "01:00.0", "--backend", "auto", "--root", machine.root],
    [4, /ENOENT/, "dump", "dump:/nowhere/dump"],
    [4, /vfio-user|ENOENT|nobody/, "dump", "vfio-user:/nowhere/disk.sock"],
    [2, /DIR is missing/, "sysfs-tree"],
    [4, /TREE_UNWRITABLE.*that you may write to/, "sysfs-tree", "/proc/tree", "01:00.0", "--root", machine.root],
  ];
  for (const [status, message, ...words] of cases) {
    const result = await captured(words);
    assert.deepEqual([result.status, result.stdout], [status, ""], `${words.join(" ")}: ${result.stderr}`);
    assert.match(result.stderr, message);
  }
});

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { FakeMachine } from "../../../../ring3/src/host/fake-machine.ts";
import { captured } from "../../captured-run.ts";

const HEADER = "00: 86 80 33 15 00 00 00 00 03 00 00 02 00 00 00 00";
const ROWS = [HEADER, ...["10", "20", "30"].map((at) => `${at}:${" 00".repeat(16)}`)].join("\n");

test("lspci: options as lspci has them, from a dump", async () => {
  using machine = new FakeMachine([]);
  const [file, names] = [join(machine.root, "dump"), join(machine.root, "pci.ids")];
  writeFileSync(file, `00:03.0 x\n${ROWS}\n\n`);
  writeFileSync(names, "8086  Intel Corporation\n\t1533  I210\nC 02  Network controller\n\t00  Ethernet controller\n");
  const run = async (...words: string[]): Promise<string> => {
    const { status, stdout, stderr } = await captured(["lspci", "-i", names, "-F", file, ...words]);
    assert.deepEqual([status, stderr], [0, ""]);
    return stdout;
  };
  assert.equal(await run(), "00:03.0 Ethernet controller: Intel Corporation I210 (rev 03)\n");
  assert.equal(await run("-nn"), "00:03.0 Ethernet controller [0200]: Intel Corporation I210 [8086:1533] (rev 03)\n");
  assert.equal(await run("-n", "-D", "-x"), `0000:00:03.0 0200: 8086:1533 (rev 03)\n${ROWS}\n\n`);
  assert.match(await run("-vvv"), /\n\tControl: I\/O- Mem-/);
  assert.equal(await run("-t"), "-[0000:00]---03.0\n");
  assert.equal(await run("-d", "::06xx"), "");
  const { schemaVersion, functions } = JSON.parse(await run("--json")) as {
    schemaVersion: number;
    functions: unknown[];
  };
  assert.deepEqual([schemaVersion, functions.length], [1, 1]);
  assert.match(await run("--schema"), /"title": "ring3 lspci --json, version 1"/);
});

test("lspci: a list of names that is not there leaves numbers; filters and files that are wrong are refused", async () => {
  using machine = new FakeMachine([]);
  const file = join(machine.root, "dump");
  writeFileSync(file, `00:03.0 x\n${ROWS}\n\n`);
  const plain = await captured(["lspci", "-i", "/nonexistent", "-F", file]);
  assert.equal(plain.stdout, "00:03.0 Class 0200: Device 8086:1533 (rev 03)\n");
  const filter = await captured(["lspci", "-F", file, "-s", "zz"]);
  assert.deepEqual([filter.status, /-s: Invalid slot number/.test(filter.stderr)], [2, true]);
  assert.equal((await captured(["lspci", "-F", "/nonexistent"])).status, 4);
});

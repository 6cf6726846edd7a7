// The ways to config space beside each other: /proc/bus/pci and ECAM's memory give the bytes that sysfs gives, and what is
// written through one is read through the others.
// kernels: debian
import assert from "node:assert/strict";
import { test } from "node:test";
import { asRoot, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const RING3 = new URL("../../../packages/cli/src/main.ts", import.meta.url).pathname;
const address = FUNCTIONS.e1000e.address;

/** Functions by address, as lines of a dump; without titles. */
async function dump(method: string, ...addresses: string[]): Promise<ReadonlyMap<string, string>> {
  const text = await rootOutput(`node ${RING3} dump -A ${method} ${addresses.join(" ")}`);
  const blocks = text
    .trim()
    .split("\n\n")
    .map((block) => block.split("\n"));
  return new Map(blocks.map(([heading = "", ...rows]) => [heading.split(" ")[0] ?? "", rows.join("\n")]));
}

const hasMemory = (await asRoot("test -c /dev/mem")).code === 0;

test("proc gives what sysfs gives, of every function", async () => {
  const [sysfs, proc] = [await dump("sysfs"), await dump("proc")];
  assert.deepEqual([...proc.keys()], [...sysfs.keys()]);
  for (const [name, rows] of sysfs) assert.equal(proc.get(name), rows, name);
});

test("ECAM gives what sysfs gives, of every function that the bus shows", async (t) => {
  if (!hasMemory) {
    const { code, stderr } = await asRoot(`node ${RING3} dump -A ecam`);
    assert.deepEqual([code, /ACCESS_UNAVAILABLE.*CONFIG_DEVMEM/.test(stderr)], [5, true], stderr);
    return t.skip("this kernel has no /dev/mem");
  }
  const [sysfs, ecam] = [await dump("sysfs"), await dump("ecam")];
  // Virtual functions answer no ids in hardware; only their parent knows of them.
  const virtual: string[] = [FUNCTIONS.igbVf0.address, FUNCTIONS.igbVf1.address];
  const seen = [...sysfs.keys()].filter((name) => !virtual.includes(name) || ecam.has(name));
  assert.deepEqual([...ecam.keys()], seen);
  for (const name of seen) assert.equal(ecam.get(name), sysfs.get(name), name);
});

test("setpci through one method is seen through another", async () => {
  const methods = hasMemory ? ["proc", "ecam", "sysfs"] : ["proc", "sysfs"];
  for (const [index, method] of methods.entries()) {
    const value = (0x18 + 8 * index).toString(16);
    const other = methods[(index + 1) % methods.length] ?? "sysfs";
    const steps = [
      `setpci -A ${method} ${address} CACHE_LINE_SIZE=${value}`,
      `setpci -A ${other} ${address} CACHE_LINE_SIZE`,
    ];
    const output = await rootOutput(steps.map((words) => `node ${RING3} ${words}`).join(" && "));
    assert.equal(output.trim(), value, `${method}, then ${other}`);
  }
  await rootOutput(`printf '\\0' | dd of=/sys/bus/pci/devices/${address}/config bs=1 seek=12 conv=notrunc`);
});

test("an ordinary user reads the header through proc, and is told that ECAM is for root", async () => {
  const { execFile } = await import("node:child_process");
  const run = (...words: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
    new Promise((resolve) =>
      execFile(process.execPath, [RING3, ...words], (error, stdout, stderr) =>
        resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
      ),
    );
  const shown = await run("lspci", "-A", "proc", "-n", "-s", address);
  assert.match(shown.stdout, /^06:00\.0 0200: 8086:10d3/);
  const refused = await run("lspci", "-A", "ecam");
  assert.deepEqual([refused.code, /PERMISSION_DENIED.*root/.test(refused.stderr)], [3, true], refused.stderr);
});

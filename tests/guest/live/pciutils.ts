// Runs in the guest as root: the real lspci and setpci on the guest's own functions, beside ring3 on the same ones. Prints
// what was compared as JSON; an assertion that fails ends it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { numbersFrom, oneOf } from "../../lspci/generated-config.ts";

const PEERS = "/mnt";
const LIBRARIES = `${PEERS}/usr/lib/x86_64-linux-gnu`;
const RING3 = new URL("../../../packages/cli/src/main.js", import.meta.url).pathname;
const NAMES = `${PEERS}/usr/share/misc/pci.ids`;
/** Nobody drives it while this runs. */
const EDU = "02:00.0";
const CONFIG = `/sys/bus/pci/devices/0000:${EDU}/config`;
const directory = mkdtempSync(join(tmpdir(), "pciutils-"));

function real(name: "lspci" | "setpci", words: readonly string[]): string {
  const program = `${LIBRARIES}/ld-linux-x86-64.so.2`;
  const names = name === "lspci" ? ["-i", NAMES] : [];
  const all = ["--library-path", LIBRARIES, `${PEERS}/usr/bin/${name}`, ...names, ...words];
  return execFileSync(program, all, { encoding: "latin1", maxBuffer: 2 ** 28, stdio: ["ignore", "pipe", "ignore"] });
}

function ring3(words: readonly string[]): string {
  return execFileSync(process.execPath, [RING3, ...words], {
    encoding: "latin1",
    maxBuffer: 2 ** 28,
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** Interrupts and error registers change by themselves. */
const live = ["-vvvxxxx", "-nnk", "-vmmk", "-tv"];
for (const words of live) assert.equal(ring3(["lspci", "-i", NAMES, words]), real("lspci", [words]), words);

// What both write out, read by the real one.
const [file, ours, tree] = [join(directory, "theirs"), join(directory, "ours"), join(directory, "tree")];
writeFileSync(file, real("lspci", ["-D", "-xxxx"]), "latin1");
ring3(["dump", "-o", ours]);
ring3(["sysfs-tree", tree]);
assert.equal(real("lspci", ["-F", ours, "-vvvnn"]), real("lspci", ["-F", file, "-vvvnn"]));
const sysfs = ["-A", "linux-sysfs", "-O", `sysfs.path=${tree}`];
assert.equal(real("lspci", [...sysfs, "-vvvnn"]), real("lspci", ["-vvvnn"]));

/** Registers that may be written while nobody drives the function: its line, its BAR, its message. */
const WRITABLE = [
  "INTERRUPT_LINE",
  "CACHE_LINE_SIZE",
  "LATENCY_TIMER",
  "BASE_ADDRESS_0",
  "CAP_MSI+4.l",
  "CAP05+8.l",
  "CAP_MSI+c.w",
];
const pick = numbersFrom(2026);

function operation(): string {
  const width = oneOf(pick, ["B", "W", "L"] as const);
  const bytes = { B: 1, W: 2, L: 4 }[width];
  if (pick(3) !== 0) return `${(pick(256 / bytes) * bytes).toString(16)}.${width}`;
  const mask = pick(2) === 0 ? `:${pick(0x100).toString(16)}` : "";
  return `${oneOf(pick, WRITABLE)}=${pick(0x100).toString(16)}${mask}`;
}

let operations = 0;
const before = readFileSync(CONFIG);
for (let batch = 0; batch < 4; batch++) {
  const words = ["-s", EDU, ...Array.from({ length: 2500 }, operation)];
  const run = (tool: () => string): { readonly text: string; readonly bytes: Buffer } => {
    writeFileSync(CONFIG, before);
    return { text: tool(), bytes: readFileSync(CONFIG) };
  };
  const theirs = run(() => real("setpci", words));
  const mine = run(() => ring3(["setpci", ...words]));
  assert.deepEqual(mine, theirs);
  assert.notDeepEqual(theirs.bytes, before);
  operations += words.length - 2;
}
writeFileSync(CONFIG, before);
console.log(JSON.stringify({ live, operations }));

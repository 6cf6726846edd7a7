// What ring3 writes for pciutils, and what it does in their place, judged by the real lspci and setpci: dumps and trees of
// served devices, dumps of other hands, and the same operations on the same bytes.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { captured } from "../../packages/cli/src/captured-run.ts";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { treeAccess, writeSysfsTree } from "../../packages/ring3/src/host/index.ts";
import * as pci from "../../packages/ring3/src/pci/index.ts";
import * as virtual from "../../packages/ring3/src/virtual/index.ts";
import { GuestUnavailable } from "./cache.ts";
import { complaints } from "./lspci.ts";
import { type Pciutils, pciutils } from "./pciutils.ts";

const main = join(import.meta.dirname, "../../packages/cli/src/main.ts");

async function tools(t: TestContext): Promise<Pciutils | undefined> {
  try {
    return await pciutils((line) => t.diagnostic(line));
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    t.skip(error.message);
    return undefined;
  }
}

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-pciutils-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const sysfs = (directory: string): string[] => ["-A", "linux-sysfs", "-O", `sysfs.path=${directory}`];

test("the names are those of setpci --dumpregs", async (t) => {
  const run = await tools(t);
  if (run === undefined) return;
  const { stdout } = await run("setpci", ["--dumpregs"]);
  assert.equal((await captured(["setpci", "--dumpregs"])).stdout, stdout);
});

test("lspci reads dump and sysfs-tree of every device that ring3 serves", { timeout: 120_000 }, async (t) => {
  const run = await tools(t);
  if (run === undefined) return;
  const directory = place(t);
  const served: [name: string, ...words: string[]][] = [
    ["edu"],
    ["nvme", "--memory", "1M"],
    ["virtio-blk", "--memory", "1M"],
    ["virtio-net"],
  ];
  const addresses: string[] = [];
  for (const [name, ...words] of served) {
    const socket = join(directory, `${name}.sock`);
    // A network card needs something to be plugged into: another one.
    const sockets = [socket, ...(name === "virtio-net" ? [`${socket}2`] : [])].flatMap((path) => ["--socket", path]);
    const child = spawn(process.execPath, [main, "serve", name, ...words, ...sockets]);
    t.after(() => child.kill("SIGKILL"));
    let errors = "";
    child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
    const failed = once(child, "exit").then(() => assert.fail(errors));
    failed.catch(() => undefined);
    await Promise.race([once(child.stdout, "data"), failed]);
    addresses.push(`vfio-user:${socket}`);
  }
  const file = join(directory, "dump");
  const tree = join(directory, "tree");
  assert.equal((await captured(["dump", ...addresses, "--at", "01:00.0", "-o", file])).status, 0);
  const written = await captured(["sysfs-tree", tree, ...addresses, "--at", "01:00.0"]);
  assert.equal(written.status, 0, written.stderr);

  const fromDump = await run("lspci", ["-F", file, "-nnvvv"]);
  const fromTree = await run("lspci", [...sysfs(tree), "-nnvvv"]);
  for (const { stdout, stderr } of [fromDump, fromTree]) {
    assert.equal(stderr, "");
    const slots = stdout.split("\n").filter((line) => /^[0-9a-f]{2}:/.test(line));
    assert.deepEqual(
      slots.map((line) => line.slice(0, 7)),
      ["00:00.0", "00:01.0", "00:02.0", "01:00.0"],
    );
    // Nobody has assigned addresses; that is what unassigned and <ignored> say.
    assert.deepEqual(
      complaints(stdout).filter(
        (line) => !/<unassigned>|VirtIO: <unknown>|Unassigned class|\[disabled\]|Unknown small/.test(line),
      ),
      [],
    );
  }
  // Sizes, interrupts, and what lspci says only of functions whose BARs it knows.
  const known = /^\t(?:Region|Expansion ROM|Interrupt).*\n|^\t+ AtomicOpsCap.*\n/gm;
  const differing = fromTree.stdout.replace(known, "").split("\n");
  assert.deepEqual(differing, fromDump.stdout.replace(known, "").split("\n"));
  assert.match(fromTree.stdout, /Region 0: .*\[size=1M\]/, "edu's registers");
  assert.match(fromTree.stdout, /Region 0: .*\[size=16K\]/, "NVMe's");

  const bytes = await run("lspci", ["-F", file, "-xxxx"]);
  const again = await run("lspci", [...sysfs(tree), "-xxxx"]);
  assert.equal(again.stdout, bytes.stdout);
});

test("a dump of other hands is read or refused as lspci does it", { timeout: 120_000 }, async (t) => {
  const run = await tools(t);
  if (run === undefined) return;
  const file = join(place(t), "dump");
  const row = fc
    .tuple(
      fc.integer({ min: 0, max: 0x107 }),
      fc.uint8Array({ minLength: 1, maxLength: 16 }),
      fc.constantFrom("", " ", "  ", " x"),
    )
    .map(([at, bytes, end]) => `${(at * 16).toString(16).padStart(2, "0")}: ${hexBytes(bytes)}${end}`);
  const sound = fc
    .tuple(fc.integer({ min: 0, max: 0xff }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
    .map(([at, bytes]) => `${(at * 16).toString(16).padStart(2, "0")}: ${hexBytes(bytes)}`);
  const heading = fc.constantFrom("00:1f.2 a", "0000:03:00.0 b", "10000:e0:01.7 c", "00:00.0", "000000:00:00.0 d");
  const line = fc.oneof(
    { weight: 8, arbitrary: sound },
    { weight: 1, arbitrary: row },
    { weight: 2, arbitrary: heading },
    { weight: 1, arbitrary: fc.constantFrom("", "\r", "\tFlags: fast", "40: 00\r", "x".repeat(252)) },
  );
  // A header first, since lspci gives up where it cannot read 64 bytes.
  const start = Array.from({ length: 4 }, (_, index) => `${index}0:${" 00".repeat(16)}`);
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 12 }), async (lines) => {
      const text = [
        "02:00.0 first",
        ...start,
        ...lines.flatMap((l) => (/^[0-9a-f:.]{7,14} /.test(l) ? [l, ...start] : [l])),
        "",
      ];
      writeFileSync(file, text.join("\n"));
      const judged = await run("lspci", ["-F", file, "-D", "-n", "-xxxx"]);
      let ours: pci.AccessedFunction[];
      try {
        ours = pci.parseDump(text.join("\n"));
      } catch (error) {
        assert.ok(isRing3Error(error, "DUMP_INVALID"), String(error));
        assert.notEqual(judged.status, 0, `lspci reads what we refuse: ${error.message}`);
        refused++;
        return;
      }
      assert.equal(judged.status, 0, `we read what lspci refuses: ${judged.stderr}`);
      // lspci shows functions by address, and of one address the first that it finds.
      const blocks = judged.stdout.trim().split("\n\n");
      assert.equal(blocks.length, ours.length);
      for (const fn of ours) {
        const bytes = hexBlock(pci.readConfig(fn));
        const shown = blocks
          .filter((block) => block.startsWith(`${fn.address.toString()} `))
          .map((block) => block.slice(block.indexOf("\n") + 1));
        assert.ok(shown.includes(bytes), `${fn.address.toString()}\n${bytes}\n${shown.join("\n\n")}`);
      }
    }),
    { numRuns: 150 },
  );
  t.diagnostic(`${refused} of 150 were refused by both`);
});

function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** As -xxxx prints: all 4096 bytes, or 256, or what any function has: 64, of a CardBus bridge 128. */
function hexBlock(bytes: Uint8Array): string {
  const header = bytes.length >= 128 && ((bytes[0x0e] ?? 0) & 0x7f) === 2 ? 128 : 64;
  const size = bytes.length >= 4096 ? 4096 : bytes.length >= 256 ? 256 : header;
  return hexdump(bytes.subarray(0, size));
}

/** A function with capabilities of many kinds, as bytes. */
function everything(): Uint8Array {
  const content = Uint8Array.of(1, 2, 3, 4, 5);
  const config = new virtual.VirtualConfig({
    vendorId: 0x1234,
    deviceId: 0x0add,
    classCode: 0x020000,
    capabilities: [
      virtual.pm(),
      virtual.msi({ vectors: 8 }),
      virtual.vendorSpecific({ content }),
      virtual.pcie(),
      virtual.vendorSpecific({ content }),
      virtual.msix({ vectors: 8, table: { bar: 4 } }),
      virtual.aer(),
      virtual.dsn({ serialNumber: "00-15-17-ff-ff-aa-bb-cc" }),
      virtual.vsec({ id: 0x42, revision: 1, content }),
      virtual.vsec({ id: 0x43, revision: 1, content }),
      virtual.acs(),
    ],
  });
  const bytes = new Uint8Array(config.size);
  config.readInto(0, bytes);
  return bytes;
}

/** Whether an access touches the chain of capabilities, whose loss the two tools judge differently. */
function touchesChain(bytes: Uint8Array, at: number, size: number): boolean {
  const config = new pci.ConfigSpace(pci.bytesConfigAccess(bytes));
  const links = [...config.capabilities(), ...config.extendedCapabilities()];
  const places = [
    [6, 2],
    [0x0e, 1],
    [0x34, 1],
    ...links.map(({ offset, kind }) => [offset, kind === "standard" ? 2 : 4]),
  ];
  return places.some(([start = 0, length = 0]) => at < start + length && start < at + size);
}

const hexNumber = (maximum: number) => fc.integer({ min: 0, max: maximum }).map((value) => value.toString(16));
const widths = { B: 1, W: 2, L: 4 } as const;

/** Operations that both tools take, most of them writes. */
function operations(bytes: Uint8Array) {
  const base = fc.oneof(
    hexNumber(0xfff),
    fc.constantFrom(
      ...pci.registerNames
        .filter(({ kind, headerTypes }) => kind === "header" && (headerTypes.length === 0 || headerTypes.includes(0)))
        .map(({ name }) => name),
      ...[
        "cap_pm",
        "CAP_EXP",
        "CAP05",
        "CAP_VNDR",
        "CAP_MSIX",
        "ECAP_AER",
        "ECAP001",
        "ecap_vndr",
        "ECAP_ACS",
        "ECAP3",
      ],
    ),
  );
  return fc
    .record({
      base,
      offset: fc.option(hexNumber(0x30)),
      width: fc.constantFrom("B", "W", "L", "b", "w", "l", ""),
      instance: fc.constantFrom("", "", "", "@0", "@1"),
      values: fc.array(
        fc.record({
          value: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
          mask: fc.option(fc.integer({ min: 0, max: 2 ** 32 - 1 })),
        }),
        { maxLength: 3 },
      ),
    })
    .map(({ base: name, offset, width, instance, values }) => {
      const bits = 8 * (widths[(width === "" ? "B" : width.toUpperCase()) as keyof typeof widths] ?? 4);
      const cut = (value: number): string => (value % 2 ** bits).toString(16);
      const list = values
        .map(({ value, mask }) => (mask === null ? cut(value) : `${cut(value)}:${cut(mask)}`))
        .join(",");
      const suffix = width === "" ? "" : `.${width}`;
      return `${name}${offset === null ? "" : `+${offset}`}${suffix}${instance}${list === "" ? "" : `=${list}`}`;
    })
    .filter((text) => {
      try {
        const operation = pci.parseSetpciOperation(text);
        const config = new pci.ConfigSpace(pci.bytesConfigAccess(bytes.slice()));
        const { offset } = pci.runSetpciOperation(config, operation, { dryRun: true });
        return !touchesChain(bytes, offset, operation.width * operation.values.length);
      } catch {
        return false;
      }
    });
}

test("10,000 reads and writes leave the bytes that setpci leaves, and say what it says", {
  timeout: 300_000,
}, async (t) => {
  const run = await tools(t);
  if (run === undefined) return;
  const directory = place(t);
  const [theirs, ours] = [join(directory, "theirs"), join(directory, "ours")];
  const bytes = everything();
  const address = pci.PciAddress.parse("0000:01:00.0");
  writeSysfsTree(theirs, [{ address, method: "test", config: pci.bytesConfigAccess(bytes), facts: {} }]);
  cpSync(theirs, ours, { recursive: true });
  const batch = fc.array(operations(bytes), { minLength: 250, maxLength: 250 });
  const [first] = fc.sample(batch, 1);
  assert.ok(first !== undefined);
  for (const [index, words] of fc.sample(batch, 40).entries()) {
    const judged = await run("setpci", [...sysfs(theirs), "-v", "-s", "1:", ...words]);
    assert.deepEqual([judged.status, judged.stderr], [0, ""], words.join(" "));
    // The command once, and what it is made of for the rest.
    let text: string;
    if (index === 0) {
      const done = await captured(["setpci", "-v", `tree:${ours}`, "-s", "1:", ...words]);
      assert.equal(done.status, 0, done.stderr);
      text = done.stdout;
    } else {
      using tree = treeAccess(ours);
      const [fn] = tree.functions;
      assert.ok(fn !== undefined);
      const config = new pci.ConfigSpace(fn.config);
      const lines = words.map((word) =>
        pci.traceSetpci(address, pci.runSetpciOperation(config, pci.parseSetpciOperation(word))),
      );
      text = `${lines.join("\n")}\n`;
    }
    assert.equal(text, judged.stdout);
    const config = `devices/${address.toString()}/config`;
    assert.deepEqual(readFileSync(join(ours, config)), readFileSync(join(theirs, config)));
  }
});

test("words that setpci refuses are refused, and those that it takes are taken", { timeout: 300_000 }, async (t) => {
  const run = await tools(t);
  if (run === undefined) return;
  const directory = place(t);
  const address = pci.PciAddress.parse("0000:01:00.0");
  const access = pci.bytesConfigAccess(everything());
  writeSysfsTree(directory, [{ address, method: "test", config: access, facts: {} }]);
  // Mostly sound parts, so that every odd one is met by itself.
  const part = (sound: readonly string[], odd: readonly string[]): fc.Arbitrary<string> =>
    fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...sound) }, { weight: 1, arbitrary: fc.constantFrom(...odd) });
  const word = fc
    .tuple(
      part(
        ["COMMAND", "command", "CAP_PM", "CAP_VNDR", "ECAP_AER", "CAP1", "0x4", "4", " 4", "BASE_ADDRESS_0", "ECAP3"],
        ["CAP", "ECAP", "CAP100", "ECAP1000", "CAP_HT", "fff", "1000", "beef", "", "g", "CB_IO_BASE_0", "PRIMARY_BUS"],
      ),
      part(["", "", "+2", "+0", "+4"], ["+1000", "+fff", "+ffc", "+-1", "+g", "+1", "+"]),
      part([".w", ".W", ".b", ".L"], ["", ".x", ".bb"]),
      part(["", "", "", "@0"], ["@1", "@", "@g", "@0x1"]),
      part(
        ["", "=0", "=ff:f", "=1:1", "=1,2,3", "=ffffffff", "=+1", "=0x1", "= 1", "=1:ffffffff"],
        [
          "=",
          "=fffffff0",
          "=10000",
          "=1:",
          "=:1",
          "=-1",
          "=1,",
          "=1,,2",
          "=ffffffffff",
          "=1:10000",
          "=0x",
          "=1:2:3",
          "=1.b",
        ],
      ),
    )
    .map((parts) => parts.join(""));
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(word, async (text) => {
      const judged = await run("setpci", [...sysfs(directory), "-D", "-v", "-s", "01:00.0", text]);
      let line: string;
      try {
        const operation = pci.parseSetpciOperation(text);
        line = pci.traceSetpci(
          address,
          pci.runSetpciOperation(new pci.ConfigSpace(access), operation, { dryRun: true }),
        );
      } catch (error) {
        assert.ok(isRing3Error(error), String(error));
        assert.notEqual(judged.status, 0, `setpci takes "${text}": ${judged.stdout}; we: ${error.message}`);
        refused++;
        return;
      }
      assert.equal(judged.status, 0, `we take "${text}": ${line}; setpci: ${judged.stderr}`);
      assert.equal(`${line}\n`, judged.stdout);
    }),
    { numRuns: 500 },
  );
  t.diagnostic(`${refused} of 500 were refused by both`);
});

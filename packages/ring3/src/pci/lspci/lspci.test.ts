import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { Ring3Error } from "../../binary/error.ts";
import { hexdump } from "../../binary/hexdump.ts";
import { PciExpress } from "../capabilities/pci-express.ts";
import { parseDump } from "../dump.ts";
import { PciIds } from "../ids.ts";
import { describeFunction } from "./describe.ts";
import { UnfetchedByteError } from "./fetched-config.ts";
import { FilterError, LspciFilter } from "./filter.ts";
import { layout } from "./layout.ts";
import { type LspciOptions, lspci } from "./lspci.ts";
import { IdNames } from "./names.ts";
import { LSPCI_JSON_SCHEMA } from "./schema.ts";

const ids = new PciIds(
  "8086  Intel Corporation\n\t1533  I210 Gigabit Network Connection\n\t\t8086 0001  Server Adapter\n" +
    "C 02  Network controller\n\t00  Ethernet controller\nC 06  Bridge\n\t04  PCI bridge\n\t\t00  Normal decode\n",
);

/** Bytes by their offset; the rest is 0. */
function config(size: number, content: Readonly<Record<number, readonly number[]>>): Uint8Array {
  const bytes = new Uint8Array(size);
  for (const [at, values] of Object.entries(content)) bytes.set(values, Number(at));
  return bytes;
}

function dump(...functions: readonly (readonly [address: string, bytes: Uint8Array])[]): string {
  return functions.map(([address, bytes]) => `${address} x\n${hexdump(bytes)}\n\n`).join("");
}

function text(source: string, options: LspciOptions): string {
  let all = "";
  lspci(parseDump(source), { ids, ...options }, (part) => {
    all += part;
  });
  return all;
}

const CARD = config(256, {
  0x00: [0x86, 0x80, 0x33, 0x15, 0x06, 0x04, 0x10, 0x00, 0x03, 0x00, 0x00, 0x02, 0x10],
  0x10: [0x00, 0x00, 0x10, 0xfe],
  0x18: [0x01, 0xd0],
  0x2c: [0x86, 0x80, 0x01, 0x00],
  0x34: [0x40],
  0x3c: [0x0b, 0x01],
  0x40: [0x01, 0x50, 0x23, 0xc8, 0x08, 0x20],
  0x50: [0x05, 0x00, 0x8a, 0x00],
});

test("one function, from a line to everything, as lspci 3.15 prints it", () => {
  const source = dump(["00:03.0", CARD]);
  const line = "00:03.0 Ethernet controller: Intel Corporation I210 Gigabit Network Connection (rev 03)\n";
  assert.equal(text(source, {}), line);
  assert.equal(text(source, { numeric: 1 }), "00:03.0 0200: 8086:1533 (rev 03)\n");
  assert.equal(text(source, { machine: 2, domains: true }).slice(0, 14), '0000:00:03.0 "');
  const all = text(source, { verbose: 3 });
  for (const expected of [
    `${line}\tSubsystem: Intel Corporation Server Adapter\n`,
    "\tLatency: 0, Cache Line Size: 64 bytes\n\tInterrupts: pin B disabled\n",
    "\tRegion 0: Memory at fe100000 (32-bit, non-prefetchable)\n\tRegion 2: I/O ports at d000 [disabled]\n",
    "\t\tStatus: D0 NoSoftRst+ PME-Enable- DSel=0 DScale=1 PME-\n",
    "\tCapabilities: [50] MSI: Enable- Count=1/32 Maskable- 64bit+\n\t\tAddress: 0000000000000000  Data: 0000\n\n",
  ]) {
    assert.ok(all.includes(expected), `${all}\n--- has no\n${expected}`);
  }
});

const bridge = (secondary: number, subordinate: number): Uint8Array => {
  return config(64, {
    0x00: [0x86, 0x80, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x04, 0x06, 0, 0, 0x01],
    0x18: [0, secondary, subordinate],
  });
};

test("the tree of buses, filtered or not, and the way to a function", () => {
  const source = dump(["00:00.0", CARD], ["00:1c.0", bridge(1, 2)], ["01:00.0", bridge(2, 2)], ["02:00.1", CARD]);
  const last = "02:00.1";
  assert.equal(text(source, { tree: true }), "-[0000:00]-+-00.0\n           \\-1c.0-[01-02]----00.0-[02]----00.1\n");
  const filter = LspciFilter.parse({ slot: last });
  assert.equal(text(source, { tree: true, filter }), "-[0000:00]---1c.0-[01-02]----00.0-[02]----00.1\n");
  assert.match(text(source, { path: 1, filter }), /^00:1c\.0\/00\.0\/00\.1 Ethernet/);
  assert.match(text(source, { path: 2, filter }), /^00:1c\.0\/01:00\.0\/02:00\.1 Ethernet/);
});

test("filters: what they take, and what is wrong with them", () => {
  const source = dump(["00:03.0", CARD], ["00:1c.0", bridge(1, 1)]);
  const shown = (filter: { slot?: string; ids?: string }): string[] => {
    return text(source, { filter: LspciFilter.parse(filter), numeric: 1 }).match(/^\S+/gm) ?? [];
  };
  assert.deepEqual(shown({ slot: "03" }), ["00:03.0"]);
  assert.deepEqual(shown({ slot: "*:*.0" }), ["00:03.0", "00:1c.0"]);
  assert.deepEqual(shown({ ids: "8086:1533" }), ["00:03.0"]);
  assert.deepEqual(shown({ ids: "::06xx" }), ["00:1c.0"]);
  for (const bad of [{ slot: "1:2:3:4" }, { slot: "20" }, { slot: "0.8" }, { ids: "8086" }, { ids: "zz:" }]) {
    assert.throws(() => LspciFilter.parse(bad), FilterError);
  }
});

test("a template names fields, their bits, numbers and formats; a misspelt one does not load", () => {
  const { DEVICE_CONTROL } = PciExpress;
  const line = layout(
    DEVICE_CONTROL,
    "{ENABLE_NO_SNOOP} {!ENABLE_NO_SNOOP} {MAX_PAYLOAD_SIZE:04x} {MAX_PAYLOAD_SIZE.1} {MAX_PAYLOAD_SIZE:b}",
    {
      b: (value) => 128 << value,
    },
  );
  assert.equal(line.render(0x0840), "+ - 0002 + 512");
  assert.throws(() => layout(DEVICE_CONTROL, "{SNOOP}"), /EXP\.DEVICE_CONTROL has no field SNOOP/);
});

test("no bytes make it fail in any way but lspci's own, and a line always ends", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 64, maxLength: 256 }),
    fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
  );
  const options = fc.record({
    verbose: fc.nat(3),
    hex: fc.nat(4),
    machine: fc.nat(2),
    path: fc.nat(2),
    tree: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 4 }), options, (spaces, chosen) => {
      const source = dump(...spaces.map((space, index) => [`00:0${index}.0`, space] as const));
      try {
        assert.ok(text(source, chosen).endsWith("\n"));
      } catch (error) {
        assert.ok(error instanceof UnfetchedByteError && error instanceof Ring3Error, String(error));
      }
    }),
    { numRuns: 200 },
  );
});

test("as data: every register with offset, bits and fields; every property is in the schema", () => {
  const [fn] = parseDump(dump(["00:03.0", CARD]));
  assert.ok(fn !== undefined);
  const described = describeFunction(fn, { names: new IdNames(ids) });
  const [power, msi] = described.capabilities;
  assert.deepEqual([power?.id, power?.offset, msi?.id, msi?.offset, described.problems], [1, 0x40, 5, 0x50, []]);
  const state = power?.registers.find(({ name }) => name === "PM.PMCSR");
  assert.deepEqual([state?.offset, state?.width, state?.raw, state?.fields["NO_SOFT_RESET"]], [0x44, 16, 0x2008, 1]);
  assert.deepEqual(
    msi?.registers.map(({ name }) => name),
    ["MSI.CONTROL", "MSI.MESSAGE_ADDRESS", "MSI.MESSAGE_UPPER_ADDRESS", "MSI.MESSAGE_DATA_64"],
  );
  const schema = LSPCI_JSON_SCHEMA as { properties: { functions: { items: { required: string[] } } } };
  assert.deepEqual(schema.properties.functions.items.required.toSorted(), Object.keys(described).toSorted());
});

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { classDescription, className } from "./class-codes.ts";
import { PciIds } from "./ids.ts";

const excerpt = `# A comment
8086  Example Semiconductor
\t1533  Single port adapter
\t\t103c 0003  Board with one port
\t\t17aa 1074  Another board

# between devices
\t10c9  Dual port adapter \r
1B36  Virtual Devices, Inc.
\t0010  NVMe controller
\t0010  given twice
not a line of any kind
\t9999  belongs to nobody
8086  given twice

C 01  Storage
\t08  Non-volatile memory
\t\t02  NVM Express
C 02  Network
\t00  Ethernet
L 00  lists that later files may bring
\t00  are not classes
`;

test("vendors, devices, boards and classes", () => {
  const ids = new PciIds(excerpt);
  assert.equal(ids.vendor(0x8086), "Example Semiconductor");
  assert.equal(ids.device(0x8086, 0x1533), "Single port adapter");
  assert.equal(ids.device(0x8086, 0x10c9), "Dual port adapter");
  assert.equal(ids.device(0x1b36, 0x0010), "NVMe controller");
  assert.equal(ids.subsystem(0x8086, 0x1533, 0x17aa, 0x1074), "Another board");
  assert.equal(ids.subsystem(0x8086, 0x10c9, 0x17aa, 0x1074), undefined);
  assert.equal(ids.baseClass(1), "Storage");
  assert.equal(ids.subclass(1, 8), "Non-volatile memory");
  assert.equal(ids.programmingInterface(1, 8, 2), "NVM Express");
  assert.equal(ids.subclass(2, 0), "Ethernet");
  assert.equal(ids.programmingInterface(2, 0, 0), undefined);
});

test("what the file does not know, or what is malformed, is undefined", () => {
  const ids = new PciIds(excerpt);
  assert.equal(ids.vendor(0x1234), undefined);
  assert.equal(ids.device(0x1234, 0x11e8), undefined);
  assert.equal(ids.device(0x8086, 0xffff), undefined);
  assert.equal(ids.device(0x1b36, 0x9999), undefined);
  assert.equal(ids.subclass(0xff, 0), undefined);
});

test("lines do as well as one text", () => {
  const ids = new PciIds(excerpt.split("\n").map((line) => `${line}\n`));
  assert.equal(ids.device(0x8086, 0x10c9), "Dual port adapter");
});

test("lines that end as on Windows", () => {
  const ids = new PciIds(excerpt.replaceAll("\n", "\r\n"));
  assert.equal(ids.vendor(0x8086), "Example Semiconductor");
  assert.equal(ids.device(0x1b36, 0x0010), "NVMe controller");
  assert.equal(ids.subclass(1, 8), "Non-volatile memory");
});

test("no text makes a look-up throw", () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom("8086  A", "\t1533  B", "\t\t8086 0001  C", "C 01  D", "\t08  E", "\t", "C", ""),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      const ids = new PciIds(lines.join("\n"));
      ids.subsystem(0x8086, 0x1533, 0x8086, 1);
      ids.programmingInterface(1, 8, 2);
    }),
  );
});

test("a file of real size is indexed in well under 100 ms", () => {
  const lines: string[] = [];
  for (let vendor = 0; vendor < 2000; vendor++) {
    lines.push(`${vendor.toString(16).padStart(4, "0")}  Vendor number ${vendor} of the list`);
    for (let device = 0; device < 18; device++)
      lines.push(`\t${device.toString(16).padStart(4, "0")}  Device of that vendor`);
  }
  const text = lines.join("\n");
  // Time of the processor: others may use it meanwhile.
  const start = process.threadCpuUsage();
  assert.equal(new PciIds(text).device(1999, 17), "Device of that vendor");
  const elapsedMs = process.threadCpuUsage(start).user / 1000;
  assert.ok(elapsedMs < 100, `${text.length} characters took ${elapsedMs.toFixed(1)} ms`);
});

test("class codes without a file", () => {
  assert.deepEqual(className(0x010802), {
    baseClass: "Mass storage controller",
    subclass: "Non-volatile memory controller",
    programmingInterface: "NVM Express I/O",
  });
  assert.equal(classDescription(0x020000), "Ethernet controller");
  assert.equal(classDescription(0x13ff00), "Non-essential instrumentation");
  assert.equal(classDescription(0x777700), "class 7777");
});

// The rule sets against literal tables of what they are to be, and the laws that every set keeps over random writes.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { EduDevice } from "../devices/edu/device.ts";
import { Header, Header0 } from "../pci/header.ts";
import { get } from "../virtual/config-bits.ts";
import * as virtual from "../virtual/index.ts";
import { ConfigPlan } from "./config-plan.ts";
import { linux, mediate, type RuleSet, strict, vfio2010 } from "./index.ts";

/** A function with a capability of every kind that the tables speak of. */
class EveryCapability extends virtual.VirtualFunction {
  constructor() {
    super({
      vendorId: 0x1234,
      deviceId: 0x4321,
      classCode: 0x020000,
      interruptPin: "A",
      rom: new Uint8Array(2048),
      bars: { 0: { size: 0x1000 }, 1: { size: 64, kind: "io" }, 4: { size: 0x2000, kind: "memory64" } },
      capabilities: [
        virtual.pm({ at: 0x40, pme: ["D0"] }),
        virtual.msi({ at: 0x50, vectors: 4, perVectorMasking: true }),
        virtual.msix({ at: 0x70, vectors: 4, table: { bar: 4 } }),
        virtual.pcie({ at: 0x80 }),
        virtual.vpd({ at: 0xc0, content: Uint8Array.of(0x78) }),
        virtual.vendorSpecific({ at: 0xd0, content: new Uint8Array(6), writable: new Uint8Array(6).fill(0xff) }),
        virtual.aer({ at: 0x100 }),
        virtual.dsn({ at: 0x150, serialNumber: "00-00-00-00-00-00-00-01" }),
        virtual.ats({ at: 0x160 }),
      ],
    });
  }
}

/** Offset, width, virtualised bits, writable bits: the table of the original driver. */
const table2010: readonly (readonly [name: string, at: number, width: number, virtual: number, writable: number])[] = [
  ["vendor id", 0x00, 2, 0xffff, 0],
  ["device id", 0x02, 2, 0xffff, 0],
  ["command", 0x04, 2, 0x0403, 0xffff],
  ["status", 0x06, 2, 0x0010, 0],
  ["cache line", 0x0c, 1, 0, 0xff],
  ["latency", 0x0d, 1, 0, 0xff],
  ["BIST", 0x0f, 1, 0, 0xff],
  ["BAR 0", 0x10, 4, 0xffff_ffff, 0xffff_ffff],
  ["BAR 5", 0x24, 4, 0xffff_ffff, 0xffff_ffff],
  ["ROM", 0x30, 4, 0xffff_ffff, 0xffff_ffff],
  ["interrupt line", 0x3c, 1, 0xff, 0xff],
  ["MSI flags", 0x52, 2, 0xffff, 0xffff],
  ["MSI address", 0x54, 4, 0xffff_ffff, 0xffff_ffff],
  ["MSI upper address", 0x58, 4, 0xffff_ffff, 0xffff_ffff],
  ["MSI data", 0x5c, 2, 0xffff, 0xffff],
  ["MSI mask", 0x60, 4, 0, 0xffff_ffff],
  ["MSI-X control", 0x72, 2, 0, 0],
  ["device control: all but phantom functions", 0x88, 2, 0x8000, 0xfdff],
  ["device control 2: all but ARI", 0xa8, 2, 0, 0xffdf],
  ["VPD address", 0xc2, 2, 0, 0xffff],
  ["VPD data", 0xc4, 4, 0, 0xffff_ffff],
  ["AER uncorrectable status", 0x104, 4, 0, 0x03ff_f031],
  ["AER correctable mask", 0x114, 4, 0, 0xf1c1],
  ["gap", 0x4c, 4, 0, 0],
];

const tableLinux: typeof table2010 = [
  ["command", 0x04, 2, 0x0400, 0xffff],
  ["PMC", 0x42, 2, 0xf800, 0],
  ["PMCSR", 0x44, 2, 0x8100, 0x7efc],
  ["MSI flags", 0x52, 2, 0x00ff, 0x00ff],
  ["MSI-X", 0x72, 2, 0, 0],
  ["device control", 0x88, 2, 0xf0e0, 0xfdff],
  ["device control 2", 0xa8, 2, 0, 0xffdf],
  ["link control", 0x90, 2, 0, 0],
  ["VPD address", 0xc2, 2, 0xffff, 0xffff],
  ["vendor-specific", 0xd4, 4, 0, 0xffff_ffff],
  ["AER head", 0x100, 4, 0xffff_ffff, 0],
  ["AER uncorrectable mask", 0x108, 4, 0, 0x03ff_f031],
  ["AER control", 0x118, 4, 0, 0x0140],
  ["ATS control", 0x166, 2, 0, 0],
  ["gap", 0x4c, 4, 0, 0xffff_ffff],
];

for (const [rules, table] of [
  [vfio2010, table2010],
  [linux, tableLinux],
] as const) {
  test(`${rules.name} has the masks of its table`, () => {
    const device = new EveryCapability();
    const plan = new ConfigPlan(device.config.space, { rules, hide: [], vectors: { intx: 1, msi: 4, msix: 4 } });
    const found = table.map(([name, at, width]) => [name, get(plan.virtual, at, width), get(plan.writable, at, width)]);
    assert.deepEqual(
      found,
      table.map(([name, , , bits, writable]) => [name, bits, writable]),
    );
  });
}

const sets: readonly RuleSet[] = [strict, linux, vfio2010];

test("whatever is written, real BARs, ids and lists stay, and the copy's BARs keep their sizes", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...sets),
      fc.array(fc.tuple(fc.nat(0x17f), fc.constantFrom(1, 2, 4), fc.integer({ min: 0, max: 0xffff_ffff })), {
        maxLength: 60,
      }),
      async (rules, writes) => {
        using device = new EveryCapability();
        await using real = virtual.inProcess(device);
        await using mediated = await mediate(real, { rules });
        await using user = virtual.inProcess(mediated);
        const lists = [user.config.capabilities(), user.config.extendedCapabilities()];
        for (const [at, width, value] of writes) {
          mediated.config.write(at, width, (value & (2 ** (8 * width) - 1)) >>> 0);
        }
        for (let index = 0; index < 6; index++) assert.equal(real.config.read32(0x10 + 4 * index) & ~0xf, 0);
        assert.equal(real.config.readRaw(Header.VENDOR_ID), 0x1234);
        user.config.invalidate();
        assert.deepEqual([user.config.capabilities(), user.config.extendedCapabilities()], lists);
        mediated.config.write(0x10, 4, 0xffff_ffff);
        assert.equal(mediated.config.read(0x10, 4), 0xffff_f000);
      },
    ),
    { numRuns: 60 },
  );
});

test("capabilities are hidden and added", async () => {
  await using real = virtual.inProcess(new EveryCapability());
  const { AdvancedErrorReporting, PowerManagement } = await import("../pci/index.ts");
  await using mediated = await mediate(real, {
    rules: linux,
    hide: [PowerManagement, AdvancedErrorReporting],
    add: [virtual.vsec({ id: 7, content: Uint8Array.of(1, 2, 3, 4) })],
  });
  await using user = virtual.inProcess(mediated);
  assert.equal(user.config.find(PowerManagement), undefined);
  assert.equal(user.config.find(AdvancedErrorReporting), undefined);
  const added = user.config.find(0x0b, "extended");
  assert.ok(added !== undefined);
  assert.equal(user.config.read32(added.offset + 8), 0x0403_0201);
  // The list begins at its place though what lies there is hidden.
  assert.equal(user.config.read32(0x100) & 0xf_ffff, 0);
});

test("a function whose BARs a reset took has them back before it decodes", async () => {
  const device = new EduDevice();
  await using real = virtual.inProcess(device);
  real.config.writeRaw(Header0.BAR0, 0xfe00_0000);
  await using mediated = await mediate(real, { rules: linux });
  await using user = virtual.inProcess(mediated);
  device.reset("conventional");
  assert.equal(real.config.readRaw(Header0.BAR0), 0);
  user.config.write(Header.COMMAND, { MEMORY: 1 });
  assert.equal(real.config.readRaw(Header0.BAR0), 0xfe00_0000);
});

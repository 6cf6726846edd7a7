// Each capability as software meets it: what can be set, what acts, and what the specification says happens then.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { throwsCode } from "../../../../tests/contract/fixture.ts";
import {
  AccessControlServices,
  AddressTranslationServices,
  AdvancedFeatures,
  AlternativeRoutingId,
  findDesignated,
  Msi,
  msiVectors,
  PciExpress,
  PowerManagement,
  ProcessAddressSpaceId,
  parseVpd,
  ResizableBar,
  readExpress,
  readMsiXLayout,
  readResizableBars,
  readSerialNumber,
  readVpd,
  SubsystemId,
  VitalProductData,
} from "../pci/index.ts";
import type { CapabilityBuilder, ConfigListener } from "./capability-builder.ts";
import * as virtual from "./index.ts";
import { type FunctionDeclaration, VirtualConfig } from "./index.ts";

const MiB = 2 ** 20;

function functionWith(
  capabilities: readonly CapabilityBuilder[],
  more: Partial<FunctionDeclaration> = {},
  listener: ConfigListener = {},
): VirtualConfig {
  return new VirtualConfig(
    { vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000, ...more, capabilities },
    listener,
  );
}

test("PM takes the states that the function has, by the transitions that exist", () => {
  const changes: unknown[] = [];
  const config = functionWith([virtual.pm({ d2: true })], {}, { power: (change) => changes.push(change) });
  const go = (state: number): number => {
    config.space.write(PowerManagement.PMCSR, { POWER_STATE: state });
    return config.space.read(PowerManagement.PMCSR).POWER_STATE;
  };
  assert.equal(go(1), 0, "D1 is not there: the write is dropped");
  assert.equal(go(2), 2);
  assert.equal(go(1), 2);
  assert.equal(go(3), 3);
  assert.equal(go(2), 3, "D3hot is left to D0 only");
  assert.equal(go(0), 0);
  assert.equal(go(0), 0);
  assert.deepEqual(changes, [
    { state: 2, before: 0, softReset: false },
    { state: 3, before: 2, softReset: false },
    { state: 0, before: 3, softReset: true },
  ]);
  assert.deepEqual(
    [config.space.read(PowerManagement.PMC).D1_SUPPORT, config.space.read(PowerManagement.PMC).D2_SUPPORT],
    [0, 1],
  );
});

test("PM with NO_SOFT_RESET leaves D3hot without a reset; PME bits exist where PME does", () => {
  const changes: boolean[] = [];
  const listener: ConfigListener = { power: ({ softReset }) => changes.push(softReset) };
  const config = functionWith([virtual.pm({ noSoftReset: true, pme: ["D3hot"] })], {}, listener);
  for (const state of [3, 0]) config.space.write(PowerManagement.PMCSR, { POWER_STATE: state });
  assert.deepEqual(changes, [false, false]);
  config.latch(PowerManagement.PMCSR, ["PME_STATUS"]);
  config.space.write(PowerManagement.PMCSR, { PME_ENABLE: 1 });
  assert.equal(config.readRaw(PowerManagement.PMCSR), 0x8108);
  config.space.write(PowerManagement.PMCSR, { PME_STATUS: 1 });
  assert.equal(config.readRaw(PowerManagement.PMCSR), 0x0108);
  const without = functionWith([virtual.pm()]);
  without.space.writeRaw(PowerManagement.PMCSR, 0xff03);
  assert.equal(without.readRaw(PowerManagement.PMCSR), 0x0003);
});

test("MSI in its four layouts, with the masks of the vectors that are there", () => {
  for (const vectors of [1, 2, 4, 8, 16, 32]) {
    for (const address64 of [false, true]) {
      for (const perVectorMasking of [false, true]) {
        const config = functionWith([virtual.msi({ vectors, address64, perVectorMasking })]);
        assert.equal(msiVectors(config.space), vectors);
        const at = config.space.find(Msi)?.offset ?? 0;
        for (let offset = 0; offset < 24; offset += 4) config.write(at + offset, 4, 0xffff_ffff);
        const control = 0x0071 | (address64 ? 0x80 : 0) | (perVectorMasking ? 0x100 : 0) | (Math.log2(vectors) << 1);
        assert.equal(config.read(at + 2, 2), control);
        assert.equal(config.read(at + 4, 4), 0xffff_fffc);
        const mask = perVectorMasking ? 2 ** vectors - 1 : 0;
        assert.equal(config.read(at + (address64 ? 0x0c : 0x08), 4), 0xffff);
        assert.equal(config.read(at + (address64 ? 0x10 : 0x0c), 4), mask);
        if (address64) assert.equal(config.read(at + 8, 4), 0xffff_ffff);
        assert.equal(config.read(at + (address64 ? 0x14 : 0x10), 4), 0, "pending bits are the function's");
      }
    }
  }
  const extended = functionWith([virtual.msi({ extendedData: true })]);
  const at = extended.space.find(Msi)?.offset ?? 0;
  extended.write(at + 0x0c, 4, 0xffff_ffff);
  assert.equal(extended.read(at + 0x0c, 4), 0xffff_ffff);
  for (const vectors of [0, 3, 64]) assert.throws(() => virtual.msi({ vectors }), { code: "DECLARATION_INVALID" });
});

test("MSI-X says where table and pending bits lie; a BAR that is not declared is made", () => {
  for (const [vectors, size, offset] of [
    [1, 4096, 2048],
    [128, 4096, 2048],
    [129, 8192, 4096],
    [2048, 65_536, 32_768],
  ] as const) {
    const config = functionWith([virtual.msix({ vectors, table: { bar: 4 } })]);
    assert.equal(config.bars[4]?.size, size);
    assert.deepEqual(readMsiXLayout(config.space), {
      vectors,
      table: { bar: 4, offset: 0, size: vectors * 16 },
      pendingBits: { bar: 4, offset, size: Math.ceil(vectors / 64) * 8 },
    });
  }
  const bars = { 0: { size: 0x4000 }, 2: { size: 4096 } };
  const shared = functionWith([virtual.msix({ vectors: 9, table: { bar: 0, offset: 0x2000 } })], { bars });
  assert.equal(readMsiXLayout(shared.space)?.pendingBits.offset, 0x3000);
  const tight = functionWith([virtual.msix({ vectors: 9, table: { bar: 2, offset: 0x800 } })], { bars });
  assert.equal(readMsiXLayout(tight.space)?.pendingBits.offset, 0x890);
  const apart = functionWith([virtual.msix({ vectors: 9, table: { bar: 0 }, pendingBits: { bar: 3, offset: 8 } })], {
    bars,
  });
  assert.deepEqual(readMsiXLayout(apart.space)?.pendingBits, { bar: 3, offset: 8, size: 8 });
  assert.equal(apart.bars[3]?.size, 4096);
  const at = apart.space.find(0x11)?.offset ?? 0;
  for (let offset = 0; offset < 12; offset += 4) apart.write(at + offset, 4, 0xffff_ffff);
  assert.equal(apart.read(at + 2, 2), 0xc008);
  assert.equal(readMsiXLayout(apart.space)?.vectors, 9);
  for (const vectors of [0, 2049, 1.5]) {
    assert.throws(() => virtual.msix({ vectors, table: { bar: 0 } }), { code: "DECLARATION_INVALID" });
  }
});

test("PCI Express describes itself, and its reset bit acts and reads as 0", () => {
  const resets: string[] = [];
  const options = { maxPayloadBytes: 256, link: { speed: 8, width: 4 } } as const;
  const config = functionWith([virtual.pcie(options)], {}, { flr: (method) => resets.push(method) });
  assert.deepEqual(readExpress(config.space), {
    version: 2,
    portType: "Endpoint",
    functionLevelReset: true,
    maxPayloadBytes: 128,
    maxPayloadSupportedBytes: 256,
    maxReadRequestBytes: 512,
    link: { speed: 8, width: 4, maxSpeed: 8, maxWidth: 4 },
  });
  config.space.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 });
  assert.equal(config.space.read(PciExpress.DEVICE_CONTROL).INITIATE_FUNCTION_LEVEL_RESET, 0);
  assert.deepEqual(resets, ["flr"]);
  const at = config.space.offsetOf(PciExpress.DEVICE_CONTROL);
  config.write(at, 1, 0xff);
  assert.equal(resets.length, 1, "the low byte has no reset bit");
  config.write(at + 1, 1, 0x80);
  assert.equal(resets.length, 2);

  const without = functionWith(
    [virtual.pcie({ functionLevelReset: false })],
    {},
    { flr: (method) => resets.push(method) },
  );
  without.space.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 });
  assert.equal(resets.length, 2);
  assert.equal(readExpress(functionWith([virtual.pcie({ type: "integrated" })]).space)?.link, undefined);
  assert.throws(() => virtual.pcie({ maxPayloadBytes: 100 }), RangeError);
});

test("what an endpoint lacks of PCI Express cannot be written", () => {
  for (const type of ["endpoint", "legacy", "integrated"] as const) {
    const config = functionWith([virtual.pcie({ type })]);
    const at = config.space.find(PciExpress)?.offset ?? 0;
    for (let offset = 0x0c; offset < 0x3c; offset += 4) config.write(at + offset, 4, 0xffff_ffff);
    const link = type === "integrated" ? 0 : 0x02cb;
    for (const name of ["LINK_BANDWIDTH_MANAGEMENT_STATUS", "LINK_AUTONOMOUS_BANDWIDTH_STATUS"]) {
      assert.equal(config.clearable(PciExpress.LINK_STATUS, name), false);
    }
    assert.equal(config.readRaw(PciExpress.LINK_CONTROL), link);
    for (const offset of [0x14, 0x18, 0x1c, 0x20, 0x34, 0x38]) assert.equal(config.read(at + offset, 4), 0);
    assert.equal(config.readRaw(PciExpress.DEVICE_CONTROL_2), 0x0350);
  }
  const capable = functionWith([
    virtual.pcie({ deviceCapabilities2: { LTR_MECHANISM_SUPPORTED: 1, COMPLETION_TIMEOUT_RANGES_SUPPORTED: 1 } }),
  ]);
  capable.space.writeRaw(PciExpress.DEVICE_CONTROL_2, 0xffff);
  assert.equal(capable.readRaw(PciExpress.DEVICE_CONTROL_2), 0x075f);
});

test("AF resets the function", () => {
  const resets: string[] = [];
  const config = functionWith([virtual.af()], {}, { flr: (method) => resets.push(method) });
  assert.deepEqual(config.space.read(AdvancedFeatures.CAPABILITIES), {
    TRANSACTIONS_PENDING: 1,
    FUNCTION_LEVEL_RESET: 1,
  });
  config.space.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 1 });
  assert.equal(config.readRaw(AdvancedFeatures.CONTROL), 0);
  config.space.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 0 });
  assert.deepEqual(resets, ["af_flr"]);
});

/** "Adder" as the product, PN, a checksum, and 16 bytes of VPD-W in the keyword Y1. */
function vpdContent(): Uint8Array {
  const text = (value: string): number[] => Array.from(value, (character) => character.charCodeAt(0));
  const bytes = [0x82, 5, 0, ...text("Adder"), 0x90, 11, 0, ...text("PN"), 4, ...text("A-17"), ...text("RV"), 1];
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  const writable = [...text("Y1"), 13, ...text("0123456789abc")];
  return Uint8Array.from([...bytes, -sum & 0xff, 0x91, writable.length, 0, ...writable, 0x78]);
}

test("VPD is read through the address register, as drivers read it", () => {
  const config = functionWith([virtual.vpd({ content: vpdContent() })]);
  const vpd = parseVpd(readVpd(config.space));
  assert.deepEqual(vpd.problems, []);
  assert.equal(vpd.identifier, "Adder");
  assert.equal(vpd.checksumValid, true);
  assert.equal(String.fromCharCode(...(vpd.readWrite[0]?.data ?? [])), "0123456789abc");
  // Behind the end: a blank EEPROM. And an access that misses the F bit starts nothing.
  const at = config.space.offsetOf(VitalProductData.ADDRESS);
  config.write(at, 2, 0x1000);
  assert.equal(config.read(at, 2), 0x9000);
  assert.equal(config.read(at + 2, 4), 0xffff_ffff);
  config.write(at + 2, 4, 0x1234_5678);
  config.write(at, 2, 0x9000);
  assert.equal(config.read(at, 2), 0x1000, "written, to where nothing is");
  config.write(at, 1, 0x20);
  assert.deepEqual([config.read(at, 2), config.read(at + 2, 4)], [0x1020, 0x1234_5678]);
});

test("VPD-W takes writes, VPD-R does not, and the content is part of the state", () => {
  const content = vpdContent();
  const config = functionWith([virtual.vpd({ content })]);
  const store = (address: number, value: number): void => {
    config.space.writeRaw(VitalProductData.DATA, value);
    config.space.writeRaw(VitalProductData.ADDRESS, address | 0x8000);
    assert.equal(config.space.read(VitalProductData.ADDRESS).F, 0, "done at once");
  };
  for (let address = 0; address < 64; address += 4) store(address, 0x2a2a_2a2a);
  const after = readVpd(config.space).slice(0, content.length);
  const start = content.indexOf(0x91) + 3;
  assert.deepEqual(after.subarray(0, start), content.subarray(0, start));
  assert.ok(after.subarray(start, start + 16).every((byte) => byte === 0x2a));
  assert.equal(after[start + 16], 0x78);
  assert.deepEqual(vpdContent(), content, "the declared bytes are not touched");

  const twin = functionWith([virtual.vpd({ content })]);
  twin.restore(config.save());
  assert.deepEqual(readVpd(twin.space).slice(0, content.length), after);
  config.powerOn();
  assert.deepEqual(readVpd(config.space).slice(0, content.length), after, "an EEPROM forgets nothing");
  const other = functionWith([virtual.vpd({ content: Uint8Array.of(0x78) })]);
  assert.throws(() => other.restore(config.save()), { code: "STATE_MISMATCH" });
  assert.throws(() => virtual.vpd({ content: new Uint8Array(0x8001) }), { code: "DECLARATION_INVALID" });
});

test("the small capabilities say what they were told and let set what that allows", () => {
  const config = functionWith([
    virtual.pcie(),
    virtual.subsystem({ subsystemVendorId: 0x1af4, subsystemId: 0x1100 }),
    virtual.dsn({ serialNumber: "00:15:17:ff:ff:aa:bb:cc" }),
    virtual.ari({ nextFunction: 3 }),
    virtual.acs({ completionRedirect: false }),
    virtual.ats(),
    virtual.pasid({ width: 16, executePermission: true }),
    virtual.ltr(),
    virtual.dvsec({ vendorId: 0x1e98, id: 8, revision: 2, content: Uint8Array.of(9) }),
  ]);
  const { space } = config;
  assert.equal(space.readRaw(SubsystemId.SUBSYSTEM_VENDOR_ID), 0x1af4);
  assert.equal(readSerialNumber(space), "00-15-17-ff-ff-aa-bb-cc");
  assert.equal(space.read(AlternativeRoutingId.CAPABILITY).NEXT_FUNCTION_NUMBER, 3);
  for (const register of [AlternativeRoutingId.CONTROL, AccessControlServices.CONTROL, ProcessAddressSpaceId.CONTROL]) {
    config.write(space.offsetOf(register), 2, 0xffff);
  }
  assert.equal(space.readRaw(AlternativeRoutingId.CONTROL), 0);
  assert.deepEqual(config.readRaw(AccessControlServices.CONTROL), 0x0004);
  assert.equal(space.readRaw(ProcessAddressSpaceId.CONTROL), 0x0003);
  space.write(AddressTranslationServices.CONTROL, { ENABLE: 1, SMALLEST_TRANSLATION_UNIT: 5 });
  assert.equal(space.readRaw(AddressTranslationServices.CONTROL), 0x8005);
  assert.equal(space.read(AddressTranslationServices.CAPABILITY).INVALIDATE_QUEUE_DEPTH, 0, "0 means 32");
  assert.equal(findDesignated(space, 0x1e98, 8)?.version, 1);
  assert.throws(() => virtual.dsn({ serialNumber: "12" }), { code: "DECLARATION_INVALID" });
  throwsCode(() => virtual.ats({ invalidateQueueDepth: 33 }), "DECLARATION_INVALID");
  throwsCode(() => virtual.pasid({ width: 21 }), "DECLARATION_INVALID");
  const long = { content: Uint8Array.of(1), writable: new Uint8Array(2) };
  assert.throws(() => virtual.vendorSpecific(long), { code: "DECLARATION_INVALID" });
});

test("a resizable BAR changes its size mask, drops the address bits below and tells the function", () => {
  const told: unknown[] = [];
  const listener: ConfigListener = { resize: (bar, size) => told.push([bar, size]) };
  const sizes = [MiB, 16 * MiB, 256 * MiB, 2 ** 35];
  const bars = { 0: { size: 4096 }, 2: { size: 16 * MiB, kind: "memory64", prefetchable: true } } as const;
  const make = (): VirtualConfig =>
    functionWith([virtual.pcie(), virtual.rebar({ bars: [{ bar: 2, sizes }] })], { bars }, listener);
  const config = make();
  assert.deepEqual(readResizableBars(config.space), [{ bar: 2, size: 16 * MiB, possible: sizes }]);
  const size = (encoded: number): void => config.space.write(ResizableBar.CONTROL_0, { BAR_SIZE: encoded });
  config.write(0x18, 4, 0xcf00_0000);
  config.write(0x1c, 4, 0x12);
  size(8);
  assert.equal(config.read(0x18, 4), 0xc000_000c);
  config.write(0x18, 4, 0xffff_ffff);
  assert.equal(config.read(0x18, 4), 0xf000_000c);
  size(15);
  assert.equal(config.read(0x18, 4), 0x0000_000c);
  assert.equal(config.read(0x1c, 4), 0x10);
  size(7);
  assert.equal(config.barSize(2), 2 ** 35, "128 MiB is not offered");
  assert.equal(config.space.read(ResizableBar.CONTROL_0).BAR_SIZE, 15);
  config.write(0x18, 4, 0xffff_ffff);
  config.write(0x1c, 4, 0xffff_ffff);
  assert.deepEqual([config.read(0x18, 4), config.read(0x1c, 4)], [0x0000_000c, 0xffff_fff8]);
  assert.deepEqual(told, [
    [2, 256 * MiB],
    [2, 2 ** 35],
  ]);

  const twin = make();
  twin.restore(config.save());
  assert.equal(twin.barSize(2), 2 ** 35);
  assert.deepEqual([twin.read(0x18, 4), twin.read(0x1c, 4)], [0x0000_000c, 0xffff_fff8]);
  size(0);
  config.write(0x18, 4, 0xfff0_0000);
  twin.restore(config.save());
  assert.equal(twin.read(0x18, 4), 0xfff0_000c, "address bits that the declared size does not have");
  config.reset("flr");
  assert.equal(config.barSize(2), 16 * MiB);
  config.write(0x18, 4, 0xffff_ffff);
  assert.equal(config.read(0x18, 4), 0xff00_000c);
});

test("several BARs resize each for itself", () => {
  const bars = { 0: { size: MiB }, 1: { size: 4 * MiB }, 4: { size: 2 ** 30, kind: "memory64" } } as const;
  const rebar = virtual.rebar({
    bars: [
      { bar: 0, sizes: [MiB, 2 * MiB] },
      { bar: 1, sizes: [4 * MiB, 8 * MiB] },
      { bar: 4, sizes: [2 ** 30, 2 ** 52] },
    ],
  });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2), fc.nat(63)), { maxLength: 10 }), (choices) => {
      const config = functionWith([virtual.pcie(), rebar], { bars });
      const expected = new Map<number, number>([
        [0, MiB],
        [1, 4 * MiB],
        [4, 2 ** 30],
      ]);
      const possible = readResizableBars(config.space);
      const controls = [ResizableBar.CONTROL_0, ResizableBar.CONTROL_1, ResizableBar.CONTROL_2] as const;
      for (const [index, encoded] of choices) {
        const control = controls[index];
        const entry = possible[index];
        if (control === undefined || entry === undefined) continue;
        config.write(config.offsetOf(control), 4, encoded << 8);
        if (entry.possible.includes(2 ** (20 + encoded))) expected.set(entry.bar, 2 ** (20 + encoded));
      }
      for (const [bar, size] of expected) assert.equal(config.barSize(bar as 0 | 1 | 4), size);
    }),
  );
  const twice = {
    bars: [
      { bar: 1, sizes: [MiB] },
      { bar: 1, sizes: [MiB] },
    ],
  } as const;
  assert.throws(() => virtual.rebar(twice), { code: "DECLARATION_INVALID" });
  assert.throws(() => virtual.rebar({ bars: [{ bar: 1, sizes: [4096] }] }), { code: "DECLARATION_INVALID" });
});

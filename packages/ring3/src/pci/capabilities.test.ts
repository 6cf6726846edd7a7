// Decodes literal config spaces: an NVMe controller as QEMU has it, an 82576 network function with SR-IOV, a root port.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PciAddress } from "./address.ts";
import { readBars } from "./bar.ts";
import { readBridge } from "./bridge.ts";
import { AdvancedErrorReporting, readErrors } from "./capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "./capabilities/advanced-features.ts";
import { AlternativeRoutingId } from "./capabilities/alternative-routing-id.ts";
import { readSerialNumber } from "./capabilities/device-serial-number.ts";
import { LatencyToleranceReporting, latencyNs } from "./capabilities/latency-tolerance-reporting.ts";
import { Msi, msiLayout, msiVectors } from "./capabilities/msi.ts";
import { MsiX, readMsiXLayout } from "./capabilities/msi-x.ts";
import { PciExpress } from "./capabilities/pci-express.ts";
import { PowerManagement } from "./capabilities/power-management.ts";
import { readResizableBars } from "./capabilities/resizable-bar.ts";
import { readVirtualFunctions, virtualFunctionAddress } from "./capabilities/single-root-io-virtualization.ts";
import { ExtendedVendorSpecific, findDesignated, VendorSpecific } from "./capabilities/vendor-specific.ts";
import { capabilityName } from "./capability-ids.ts";
import { bytesConfigAccess, ConfigSpace } from "./config-space.ts";
import { readExpress } from "./express.ts";
import { Header } from "./header.ts";
import { identify } from "./identification.ts";

/** A config space from lines of `offset: bytes`, as `lspci -xxxx` prints them; zero elsewhere. */
function space(size: number, dump: string): ConfigSpace {
  const bytes = new Uint8Array(size);
  for (const line of dump.trim().split("\n")) {
    const [offset = "", content = ""] = line.trim().split(": ");
    bytes.set(
      content.split(" ").map((byte) => parseInt(byte, 16)),
      parseInt(offset, 16),
    );
  }
  return new ConfigSpace(bytesConfigAccess(bytes));
}

const nvme = `
  00: 36 1b 10 00 07 04 10 00 02 02 08 01 00 00 00 00
  10: 04 00 80 fe 00 00 00 00 00 00 00 00 00 00 00 00
  20: 00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 00 11
  30: 00 00 00 00 40 00 00 00 00 00 00 00 0b 01 00 00
  40: 11 80 40 80 00 20 00 00 00 30 00 00 00 00 00 00
  60: 01 00 03 00 08 00 00 00 00 00 00 00 00 00 00 00
  80: 10 60 02 00 00 80 00 10 10 28 00 00 11 04 00 00
  90: 00 00 11 00 00 00 00 00 00 00 00 00 00 00 00 00
  a0: 00 00 00 00 10 00 30 00 00 00 00 00 00 00 00 00
`;

const igb = `
  00: 86 80 c9 10 06 04 10 00 01 00 00 02 10 00 80 00
  10: 00 00 00 fb 00 00 40 fb 21 e0 00 00 04 00 80 fb
  20: 00 00 00 00 00 00 00 00 00 00 00 00 86 80 3c a0
  30: 00 00 c0 fb 40 00 00 00 00 00 00 00 0a 01 00 00
  40: 01 50 23 c8 08 20 00 00 00 00 00 00 00 00 00 00
  50: 05 70 8a 01 00 00 e0 fe 00 00 00 00 21 40 00 00
  60: 03 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
  70: 11 a0 09 80 03 00 00 00 03 20 00 00 00 00 00 00
  a0: 10 00 02 00 c2 8c 00 10 2f 28 09 00 41 6c 03 00
  b0: 40 00 41 10 00 00 00 00 00 00 00 00 00 00 00 00
  c0: 00 00 00 00 1f 00 00 00 09 00 00 00 00 00 00 00
  100: 01 00 01 14 00 40 10 00 00 00 40 00 31 20 46 00
  110: c1 20 00 00 00 e0 00 00 ae 00 00 00 01 00 00 04
  120: 0f 00 00 01 00 10 00 fe 00 00 00 00 00 00 00 00
  140: 03 00 01 15 cc bb aa ff ff 17 15 00 00 00 00 00
  150: 0e 00 01 16 00 01 00 00 00 00 00 00 00 00 00 00
  160: 10 00 01 00 02 00 00 00 19 00 00 00 08 00 08 00
  170: 07 00 00 00 80 01 02 00 00 00 ca 10 53 05 00 00
  180: 01 00 00 00 0c 00 90 fb 00 00 00 00 00 00 00 00
  190: 0c 00 92 fb 00 00 00 00 00 00 00 00 00 00 00 00
`;

const rootPort = `
  00: 36 1b 0c 00 07 05 10 00 00 00 04 06 00 00 01 00
  10: 00 40 a5 fe 00 00 00 00 00 01 01 00 d1 d1 00 20
  20: 40 fe 50 fe 01 e0 f1 ef 7f 00 00 00 7f 00 00 00
  30: 00 00 00 00 40 00 00 00 00 00 00 00 0b 01 12 00
  40: 0d 48 00 00 36 1b 01 00 10 00 42 01 00 80 00 00
`;

test("an NVMe controller's header and capabilities", () => {
  const config = space(4096, nvme);
  assert.deepEqual(identify(config), {
    vendorId: 0x1b36,
    deviceId: 0x0010,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x1100,
    revision: 2,
    classCode: 0x010802,
    headerType: 0,
    multiFunction: false,
  });
  const { IO, MEMORY, BUS_MASTER, INTX_DISABLE, SERR_ENABLE } = config.read(Header.COMMAND);
  assert.deepEqual([IO, MEMORY, BUS_MASTER, INTX_DISABLE, SERR_ENABLE], [1, 1, 1, 1, 0]);
  assert.deepEqual(
    config.capabilities().map((entry) => [entry.offset, capabilityName(entry)]),
    [
      [0x40, "MSI-X"],
      [0x80, "PCI Express"],
      [0x60, "PCI Power Management Interface"],
    ],
  );
  assert.deepEqual(config.walk("standard").problems, []);
  assert.deepEqual(config.extendedCapabilities(), []);
  assert.deepEqual(readMsiXLayout(config), {
    vectors: 65,
    table: { bar: 0, offset: 0x2000, size: 1040 },
    pendingBits: { bar: 0, offset: 0x3000, size: 16 },
  });
  assert.deepEqual(config.read(MsiX.CONTROL), { TABLE_SIZE: 64, FUNCTION_MASK: 0, MSIX_ENABLE: 1 });
  assert.equal(config.read(PowerManagement.PMC).VERSION, 3);
  assert.deepEqual(config.read(PowerManagement.PMCSR), {
    POWER_STATE: 0,
    NO_SOFT_RESET: 1,
    PME_ENABLE: 0,
    DATA_SELECT: 0,
    DATA_SCALE: 0,
    PME_STATUS: 0,
  });
  assert.deepEqual(readExpress(config), {
    version: 2,
    portType: "Endpoint",
    functionLevelReset: true,
    maxPayloadBytes: 128,
    maxPayloadSupportedBytes: 128,
    maxReadRequestBytes: 512,
    link: { speed: 2.5, width: 1, maxSpeed: 2.5, maxWidth: 1 },
  });
  assert.equal(msiVectors(config), 0);
  const [bar0, bar1, bar2] = readBars(config);
  assert.deepEqual(bar0, {
    index: 0,
    kind: "memory64",
    prefetchable: false,
    address: 0xfe80_0000n,
    problem: undefined,
  });
  assert.equal(bar1?.kind, "none");
  assert.equal(bar2?.kind, "none");
});

test("an 82576: MSI, AER with its log, serial number, ARI, SR-IOV", () => {
  const config = space(4096, igb);
  assert.equal(identify(config).multiFunction, true);
  assert.deepEqual(
    [...config.capabilities(), ...config.extendedCapabilities()].map((entry) => [
      entry.offset,
      entry.id,
      entry.version,
    ]),
    [
      [0x40, 0x01, 0],
      [0x50, 0x05, 0],
      [0x70, 0x11, 0],
      [0xa0, 0x10, 0],
      [0x100, 0x01, 1],
      [0x140, 0x03, 1],
      [0x150, 0x0e, 1],
      [0x160, 0x10, 1],
    ],
  );
  const kinds = readBars(config).map((bar) => [bar.kind, bar.address]);
  assert.deepEqual(kinds, [
    ["memory32", 0xfb00_0000n],
    ["memory32", 0xfb40_0000n],
    ["io", 0xe020n],
    ["memory64", 0xfb80_0000n],
    ["none", 0n],
    ["none", 0n],
  ]);

  assert.equal(msiVectors(config), 32);
  const layout = msiLayout(config.readRaw(Msi.CONTROL));
  assert.equal(layout.size, 24);
  assert.equal(config.readRaw(layout.messageData), 0x4021);
  assert.equal(layout.maskBits && config.readRaw(layout.maskBits), 3);
  assert.equal(layout.pendingBits && config.readRaw(layout.pendingBits), 1);

  const express = readExpress(config);
  assert.equal(express?.maxPayloadBytes, 256);
  assert.equal(express?.maxPayloadSupportedBytes, 512);
  assert.deepEqual(express?.link, { speed: 2.5, width: 4, maxSpeed: 2.5, maxWidth: 4 });
  assert.equal(config.read(PciExpress.DEVICE_STATUS).CORRECTABLE_ERROR_DETECTED, 1);
  assert.equal(config.read(PciExpress.DEVICE_STATUS).UNSUPPORTED_REQUEST_DETECTED, 1);

  assert.deepEqual(readErrors(config), {
    uncorrectable: ["COMPLETION_TIMEOUT", "UNSUPPORTED_REQUEST_ERROR"],
    correctable: ["RECEIVER_ERROR", "BAD_TLP", "BAD_DLLP", "ADVISORY_NON_FATAL_ERROR"],
    fatal: [],
    first: "COMPLETION_TIMEOUT",
    headerLog: [0x0400_0001, 0x0100_000f, 0xfe00_1000, 0],
    flitMode: false,
  });
  assert.equal(readSerialNumber(config), "00-15-17-ff-ff-aa-bb-cc");
  assert.equal(config.read(AlternativeRoutingId.CAPABILITY).NEXT_FUNCTION_NUMBER, 1);

  const functions = readVirtualFunctions(config);
  assert.ok(functions);
  assert.deepEqual(
    [functions.enabled, functions.total, functions.count, functions.deviceId, functions.firstOffset, functions.stride],
    [true, 8, 7, 0x10ca, 0x180, 2],
  );
  assert.deepEqual(
    functions.bars.map((bar) => bar.kind),
    ["memory64", "none", "none", "memory64", "none", "none"],
  );
  const physical = PciAddress.parse("01:00.0");
  assert.equal(virtualFunctionAddress(physical, functions, 0).toString(), "0000:02:10.0");
  assert.equal(virtualFunctionAddress(physical, functions, 6).toString(), "0000:02:11.4");
  assert.throws(() => virtualFunctionAddress(PciAddress.parse("ff:00.0"), functions, 0), { code: "ADDRESS_INVALID" });
});

test("a root port: windows, buses, subsystem ids by capability", () => {
  const config = space(4096, rootPort);
  assert.deepEqual(identify(config), {
    vendorId: 0x1b36,
    deviceId: 0x000c,
    subsystemVendorId: 0x1b36,
    subsystemId: 0x0001,
    revision: 0,
    classCode: 0x060400,
    headerType: 1,
    multiFunction: false,
  });
  assert.deepEqual(readBridge(config), {
    primaryBus: 0,
    secondaryBus: 1,
    subordinateBus: 1,
    io: { base: 0xd000n, limit: 0xdfffn, open: true, bits: 32 },
    memory: { base: 0xfe40_0000n, limit: 0xfe5f_ffffn, open: true, bits: 32 },
    prefetchable: { base: 0x7f_e000_0000n, limit: 0x7f_efff_ffffn, open: true, bits: 64 },
  });
  assert.equal(readExpress(config)?.portType, "Root Port");
  assert.equal(readBars(config).length, 2);
});

test("a closed window has its limit below its base", () => {
  const config = space(
    256,
    "00: 01 00 02 00 00 00 00 00 00 00 04 06 00 00 01 00\n1c: f0 00\n20: f0 ff 00 00 f1 ff 01 00",
  );
  const { io, memory, prefetchable } = readBridge(config);
  assert.deepEqual([io.open, memory.open, prefetchable.open], [false, false, false]);
  assert.equal(io.bits, 16);
});

test("vendor-specific capabilities repeat and are told apart by entry", () => {
  const config = space(
    4096,
    `00: f4 1a 41 10 00 00 10 00
     34: 40
     40: 09 50 10 01
     50: 09 00 14 02
     100: 0b 00 01 11 23 01 00 01
     110: 23 00 01 12 98 1e 80 03 00 00 00 00
     120: 23 00 01 00 98 1e 40 02 08 00 00 00`,
  );
  const lengths = config.findAll(VendorSpecific).map((entry) => config.readRaw(VendorSpecific.LENGTH, entry));
  assert.deepEqual(lengths, [0x10, 0x14]);
  assert.deepEqual(config.read(ExtendedVendorSpecific.HEADER), { VSEC_ID: 0x0123, VSEC_REV: 0, VSEC_LENGTH: 0x010 });
  assert.equal(findDesignated(config, 0x1e98, 8)?.offset, 0x120);
  assert.equal(findDesignated(config, 0x1e98, 9), undefined);
});

test("resizable BARs: sizes from both registers, exact to 2^63", () => {
  const config = space(
    4096,
    `00: 02 10 bf 73
     100: 15 00 01 00 00 70 00 00 40 0d 00 80 10 00 00 00 02 03 00 00`,
  );
  assert.deepEqual(readResizableBars(config), [
    { bar: 0, size: 8 * 2 ** 30, possible: [2 ** 28, 2 ** 29, 2 ** 30, 2 ** 63] },
    { bar: 2, size: 2 ** 23, possible: [2 ** 20] },
  ]);
  assert.deepEqual(readResizableBars(space(256, "00: 01")), []);
});

test("latencies, advanced features and the four MSI layouts", () => {
  assert.equal(latencyNs({ VALUE: 3, SCALE: 4 }), 3_145_728);
  assert.equal(latencyNs({ VALUE: 3, SCALE: 6 }), undefined);
  const config = space(
    4096,
    "00: 01 00 02 00 00 00 10 00\n34: 40\n40: 13 00 06 03 00 01\n100: 18 00 01 00 03 10 01 0c",
  );
  assert.deepEqual(config.read(AdvancedFeatures.CAPABILITIES), { TRANSACTIONS_PENDING: 1, FUNCTION_LEVEL_RESET: 1 });
  assert.equal(config.read(AdvancedFeatures.STATUS).TRANSACTIONS_PENDING, 1);
  assert.equal(latencyNs(config.read(LatencyToleranceReporting.MAX_SNOOP_LATENCY)), 3 * 32 ** 4);
  const layouts = [0x0000, 0x0080, 0x0100, 0x0180].map((control) => msiLayout(control));
  assert.deepEqual(
    layouts.map(({ size, messageData, maskBits }) => [size, messageData.offset, maskBits?.offset]),
    [
      [10, 0x08, undefined],
      [14, 0x0c, undefined],
      [20, 0x08, 0x0c],
      [24, 0x0c, 0x10],
    ],
  );
});

test("AER resets to the severities of the specification", () => {
  const severity = Object.values(AdvancedErrorReporting.UNCORRECTABLE_ERROR_SEVERITY.fields);
  const reset = severity.reduce((word, field) => (word | field.of(field.reset)) >>> 0, 0);
  assert.equal(reset, 0x0046_2030);
});

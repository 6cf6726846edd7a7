import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { isRing3Error } from "../binary/error.ts";
import { FakeMachine } from "./fake-machine.ts";
import { listFunctions, readFunction, sysfsAddress } from "./inventory.ts";
import { FunctionNames } from "./names.ts";
import { hostPaths } from "./paths.ts";

test("a function is read with everything that sysfs says", () => {
  using machine = new FakeMachine([
    { address: "0000:00:01.0", classCode: 0x060400, driver: "pcieport" },
    {
      address: "0000:01:00.0",
      parent: "0000:00:01.0",
      group: 11,
      driver: "nvme",
      attributes: {
        current_link_speed: "8.0 GT/s PCIe",
        max_link_speed: "Unknown",
        current_link_width: "4",
        max_link_width: "255",
        numa_node: "1",
        enable: "1",
        driver_override: "vfio-pci",
        resource: [
          "0x00000000fe800000 0x00000000fe803fff 0x0000000000140204",
          "0x0000000000000000 0x0000000000000000 0x0000000000000000",
          "0x000000000000e000 0x000000000000e07f 0x0000000000040101",
          "0x0000004000000000 0x00000041ffffffff 0x000000000014220c",
        ].join("\n"),
      },
    },
  ]);
  const fn = readFunction("01:00.0", machine.paths);
  assert.deepEqual(fn, {
    address: "0000:01:00.0",
    vendorId: 0x1b36,
    deviceId: 0x0010,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x1100,
    revision: 2,
    classCode: 0x010802,
    driver: "nvme",
    driverOverride: "vfio-pci",
    iommuGroup: 11,
    numaNode: 1,
    resetMethods: ["flr", "bus"],
    link: { currentSpeed: "8.0 GT/s PCIe", maxSpeed: undefined, currentWidth: 4, maxWidth: undefined },
    sriov: undefined,
    physicalFunction: undefined,
    powerState: "D0",
    enabled: true,
    resources: [
      { index: 0, start: 0xfe800000, sizeBytes: 0x4000, kind: "memory64", prefetchable: false },
      { index: 2, start: 0xe000, sizeBytes: 0x80, kind: "io", prefetchable: false },
      { index: 3, start: 0x40_0000_0000, sizeBytes: 0x2_0000_0000, kind: "memory64", prefetchable: true },
    ],
    bootVga: false,
    vfioDevice: undefined,
    configSizeBytes: 4096,
    bridge: false,
    parent: "0000:00:01.0",
  });
  assert.equal(readFunction("0000:00:01.0", machine.paths).bridge, true);
  assert.deepEqual(
    listFunctions(machine.paths).map(({ address }) => address),
    ["0000:00:01.0", "0000:01:00.0"],
  );
});

test("a function that vanishes or lies is left out, never thrown over", () => {
  using machine = new FakeMachine([{ address: "0000:01:00.0" }, { address: "0000:02:00.0" }]);
  const directory = join(machine.paths.sysfsRoot, "devices/pci0000:00");
  rmSync(join(directory, "0000:01:00.0"), { recursive: true });
  machine.file("sys/devices/pci0000:00/0000:02:00.0/revision", "garbage\n");
  machine.file("sys/devices/pci0000:00/0000:02:00.0/resource", "x y z\n1\n\n");
  machine.file("sys/devices/pci0000:00/0000:02:00.0/numa_node", "\n");
  const [fn, ...rest] = listFunctions(machine.paths);
  assert.equal(rest.length, 0);
  assert.deepEqual([fn?.address, fn?.revision, fn?.resources, fn?.numaNode], ["0000:02:00.0", 0, [], undefined]);
  assert.throws(
    () => readFunction("0000:01:00.0", machine.paths),
    (error) => isRing3Error(error, "FUNCTION_NOT_FOUND") && error.message.includes("ring3 ls"),
  );
  assert.deepEqual(listFunctions(hostPaths("/nonexistent")), []);
});

test("names come from a pci.ids file where there is one", () => {
  using machine = new FakeMachine([]);
  machine.file("pci.ids", "1b36  Red Hat, Inc.\n\t0010  QEMU NVM Express Controller\n");
  const names = new FunctionNames(["/nonexistent", join(machine.root, "pci.ids")]);
  assert.equal(names.vendor(0x1b36), "Red Hat, Inc.");
  assert.equal(names.device(0x1b36, 0x10), "QEMU NVM Express Controller");
  assert.equal(names.device(0x1b36, 0x11), undefined);
  assert.equal(new FunctionNames([]).vendor(0x1b36), undefined);
  assert.equal(names.class(0x010802), "Non-volatile memory controller");
});

test("addresses are spelled the way of sysfs", () => {
  assert.equal(sysfsAddress("1:0.0"), "0000:01:00.0");
  assert.equal(sysfsAddress("0000:AB:1F.7"), "0000:ab:1f.7");
  for (const wrong of ["", "01:00", "01:20.0", "01:00.8", "../../etc"]) {
    assert.throws(
      () => sysfsAddress(wrong),
      (error) => isRing3Error(error, "ADDRESS_INVALID"),
    );
  }
});

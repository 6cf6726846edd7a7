import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { isRing3Error } from "../binary/error.ts";
import { readConfig } from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import { FakeMachine } from "./fake-machine.ts";
import { sysfsAccess, treeAccess } from "./sysfs-access.ts";
import { writeSysfsTree } from "./sysfs-tree.ts";

const PORT = { address: "0000:00:1c.0", classCode: 0x060400, driver: "pcieport", group: 3 };
const DISK = {
  address: "0000:01:00.0",
  group: 11,
  driver: "nvme",
  parent: PORT.address,
  attributes: {
    irq: "16",
    numa_node: "1",
    modalias: "pci:v00001B36d00000010",
    label: "Front bay",
    "msi_irqs/41": "msix",
    "msi_irqs/40": "msix",
    vpd: "\u0082",
  },
};

function machineWithConfig(bytes: Uint8Array): FakeMachine {
  const machine = new FakeMachine([PORT, DISK]);
  writeFileSync(join(machine.root, `sys/devices/pci0000:00/${PORT.address}/${DISK.address}/config`), bytes);
  machine.file("sys/bus/pci/slots/7-1/address", "0000:01:00\n");
  return machine;
}

test("sysfs: functions by address, config space for reading and writing, facts from the files beside it", () => {
  const bytes = Uint8Array.from({ length: 4096 }, (_, index) => index & 0xff);
  using machine = machineWithConfig(bytes);
  using access = sysfsAccess({ paths: machine.paths });
  const [port, disk] = access.functions;
  assert.ok(access.functions.length === 2 && port !== undefined && disk !== undefined);
  assert.deepEqual([String(port.address), String(disk.address)], [PORT.address, DISK.address]);
  assert.deepEqual(readConfig(disk), bytes);
  assert.equal(readConfig(port)[0], 0, "the one open file follows the function that is read");
  assert.equal(disk.config.read(0x10, 4), 0x13121110);
  new ConfigSpace(disk.config).write16(0x3c, 0xbeef);
  assert.equal(disk.config.read(0x3c, 2), 0xbeef);
  const { facts } = disk;
  assert.deepEqual([facts.vendorId, facts.deviceId, facts.classCode, facts.revision], [0x1b36, 0x10, 0x010802, 2]);
  assert.deepEqual([facts.driver, facts.iommuGroup, facts.numaNode, facts.irq], ["nvme", "11", 1, 16]);
  assert.deepEqual([facts.physicalSlot, facts.label, facts.parent], ["7-1", "Front bay", PORT.address]);
  assert.deepEqual([facts.messageIrqs, facts.modalias], [[40, 41], "pci:v00001B36d00000010"]);
  assert.deepEqual(facts.resources, [{ start: 0xfe80_0000n, end: 0xfe80_3fffn, flags: 0x140204n }]);
  assert.ok((facts.readVpd?.()?.length ?? 0) > 0);
  assert.deepEqual(
    [port.facts.physicalSlot, port.facts.rcdLink, port.facts.deviceTreeNode],
    [undefined, undefined, undefined],
  );
});

test("config space ends where reading ends: 64 bytes for ordinary users, 128 of a CardBus bridge", () => {
  for (const size of [64, 128, 256, 4096]) {
    using machine = machineWithConfig(new Uint8Array(size));
    using access = sysfsAccess({ paths: machine.paths, addresses: [PciAddress.parse(DISK.address)] });
    const [disk] = access.functions;
    assert.ok(disk !== undefined);
    assert.equal(disk.config.size, size);
    assert.throws(
      () => new ConfigSpace(disk.config).read32(size),
      (error) => isRing3Error(error, "CONFIG_RANGE"),
    );
  }
});

test("a function that is not there, or that vanishes, is an error that says so", () => {
  using machine = machineWithConfig(new Uint8Array(256));
  const addresses = [PciAddress.parse("09:00.0")];
  assert.throws(
    () => sysfsAccess({ paths: machine.paths, addresses }),
    (error: Error) => isRing3Error(error, "FUNCTION_NOT_FOUND") && /ring3 ls/.test(error.message),
  );
  using access = sysfsAccess({ paths: machine.paths, addresses: [PciAddress.parse(DISK.address)] });
  const [disk] = access.functions;
  machine.remove(DISK.address);
  assert.throws(
    () => disk?.config.read(0, 4),
    (error) => isRing3Error(error, "CONFIG_UNREADABLE"),
  );
  assert.deepEqual(
    [disk?.facts.vendorId, disk?.facts.resources, disk?.facts.readVpd?.()],
    [undefined, undefined, undefined],
  );
});

test("a tree holds all that the machine tells, and is read by the same method", () => {
  using machine = machineWithConfig(Uint8Array.from({ length: 4096 }, (_, index) => (index * 7) & 0xff));
  using access = sysfsAccess({ paths: machine.paths });
  const directory = join(machine.root, "tree");
  mkdirSync(directory);
  writeSysfsTree(directory, access.functions);
  using tree = treeAccess(directory);
  assert.equal(tree.functions.length, 2);
  for (const [index, { address, facts, config }] of tree.functions.entries()) {
    const original = access.functions[index];
    assert.ok(original !== undefined);
    assert.equal(String(address), String(original.address));
    assert.deepEqual(readConfig({ config }), readConfig(original));
    const kept = [
      "vendorId",
      "deviceId",
      "classCode",
      "revision",
      "subsystemVendorId",
      "subsystemId",
      "driver",
    ] as const;
    const further = ["irq", "messageIrqs", "iommuGroup", "numaNode", "physicalSlot", "label", "modalias"] as const;
    for (const name of [...kept, ...further]) {
      // The kernel always has an irq; a machine that leaves it out is shown with 0.
      const wanted: unknown = name === "irq" ? (original.facts.irq ?? 0) : original.facts[name];
      assert.deepEqual(facts[name], wanted, name);
    }
    assert.deepEqual(facts.resources?.[0], original.facts.resources?.[0]);
    assert.equal(facts.resources?.length, 7);
    assert.deepEqual(facts.readVpd?.(), original.facts.readVpd?.());
  }
  assert.throws(
    () => writeSysfsTree(directory, access.functions),
    (error) => isRing3Error(error, "TREE_EXISTS"),
  );
  writeSysfsTree(directory, access.functions, { replace: true });
  assert.equal(treeAccess(directory).functions.length, 2);
});

import assert from "node:assert/strict";
import test from "node:test";
import { readConfig } from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import { FakeMachine } from "./fake-machine.ts";
import { parseProcDevices, procAccess } from "./proc-access.ts";

const zeros = (count: number): string => "0\t".repeat(count);
/** As the kernel prints an NVMe disk, a bridge and a card with I/O, a prefetchable BAR and a ROM. */
const devices = [
  `0100\t1b360010\t10\tfe800004\t${zeros(6)}4000\t${zeros(6)}nvme`,
  `0008\t8086a341\t0\t${zeros(14)}pcieport`,
  `0300\t10de1234\tb\tfd000000\te000000c\t0\te001\t0\t0\tfe000002\t1000000\t10000000\t0\t80\t0\t0\t80000\t`,
  "odd line",
].join("\n");

test("the list: ids, interrupt, driver, and BARs by the low bits of their addresses", () => {
  const facts = parseProcDevices(devices);
  assert.deepEqual(facts.get(0x100), {
    vendorId: 0x1b36,
    deviceId: 0x0010,
    irq: 0x10,
    driver: "nvme",
    resources: [
      { start: 0xfe80_0000n, end: 0xfe80_3fffn, flags: 0x10_0204n },
      ...Array.from({ length: 6 }, () => ({ start: 0n, end: 0n, flags: 0n })),
    ],
  });
  const card = facts.get(0x300)?.resources ?? [];
  assert.deepEqual(card[1], { start: 0xe000_0000n, end: 0xefff_ffffn, flags: 0x10_220cn });
  assert.deepEqual(card[3], { start: 0xe000n, end: 0xe07fn, flags: 0x101n });
  assert.deepEqual(card[6], { start: 0xfe00_0002n, end: 0xfe08_0001n, flags: 0x4200n });
  assert.equal(facts.size, 3);
});

test("functions of all domains; facts only where the list cannot mean another one", () => {
  using machine = new FakeMachine([]);
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  for (const place of ["01/00.0", "00/01.0", "10000:00/01.0"]) {
    machine.file(`proc/bus/pci/${place}`, "");
    machine.bytes(`proc/bus/pci/${place}`, bytes);
  }
  machine.file("proc/bus/pci/devices", devices);
  using access = procAccess({ paths: machine.paths });
  assert.deepEqual(
    access.functions.map(({ address, facts }) => [String(address), facts.driver]),
    [
      ["0000:00:01.0", undefined],
      ["0000:01:00.0", "nvme"],
      ["10000:00:01.0", undefined],
    ],
  );
  const [, disk] = access.functions;
  assert.ok(disk !== undefined);
  assert.deepEqual(readConfig(disk), bytes);
  disk.config.write(0x3c, 2, 0xbeef);
  assert.equal(disk.config.read(0x3c, 2), 0xbeef);
  assert.throws(() => procAccess({ paths: machine.paths, addresses: [PciAddress.parse("9:0.0")] }), {
    code: "FUNCTION_NOT_FOUND",
  });
  using bare = new FakeMachine([]);
  assert.throws(() => procAccess({ paths: bare.paths }), { code: "ACCESS_UNAVAILABLE" });
});

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { readConfig } from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import { ecamAccess } from "./ecam-access.ts";
import { FakeMachine } from "./fake-machine.ts";
import { parseMcfg } from "./mcfg.ts";

type Window = readonly [address: number, domain: number, firstBus: number, lastBus: number];

function mcfg(...windows: Window[]): Uint8Array {
  const table = new Uint8Array(44 + windows.length * 16);
  const view = new DataView(table.buffer);
  table.set(Buffer.from("MCFG"));
  view.setUint32(4, table.length, true);
  for (const [index, [address, domain, firstBus, lastBus]] of windows.entries()) {
    view.setBigUint64(44 + index * 16, BigInt(address), true);
    view.setUint16(52 + index * 16, domain, true);
    table.set([firstBus, lastBus], 54 + index * 16);
  }
  table[9] = -table.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return table;
}

/** Physical memory that is ECAM's: buses by address. */
class Memory {
  readonly buses = new Map<number, Uint8Array>();

  readonly map = (address: number) => {
    let bytes = this.buses.get(address);
    if (bytes === undefined) this.buses.set(address, (bytes = new Uint8Array(0x10_0000).fill(0xff)));
    return { bytes, words: new Uint16Array(bytes.buffer), dwords: new Uint32Array(bytes.buffer) };
  };

  put(address: number, bus: number, device: number, fn: number, header: Record<number, number>): void {
    const { bytes } = this.map(address + bus * 0x10_0000);
    const start = (device * 8 + fn) * 4096;
    bytes.fill(0, start, start + 4096);
    bytes.set([0x36, 0x1b, device, fn], start);
    for (const [offset, byte] of Object.entries(header)) bytes[start + Number(offset)] = byte;
  }
}

function machine(table: Uint8Array): FakeMachine {
  const fake = new FakeMachine([]);
  fake.file("sys/firmware/acpi/tables/MCFG", "");
  fake.bytes("sys/firmware/acpi/tables/MCFG", table);
  fake.file("sys/devices/pci0001:40/uevent", "");
  return fake;
}

test("MCFG: windows of each domain; what firmware got wrong is refused, and nothing crashes", () => {
  const table = mcfg([0xb000_0000, 0, 0, 0xff], [0x40_0000_0000, 1, 0x20, 0x7f]);
  assert.deepEqual(parseMcfg(table), [
    { address: 0xb000_0000, domain: 0, firstBus: 0, lastBus: 0xff },
    { address: 0x40_0000_0000, domain: 1, firstBus: 0x20, lastBus: 0x7f },
  ]);
  const broken = table.slice();
  broken[60] = 1;
  assert.throws(() => parseMcfg(broken), { code: "MCFG_INVALID", message: /checksum/ });
  assert.throws(() => parseMcfg(mcfg([0xb000_0400, 0, 0, 1])), { code: "MCFG_INVALID", message: /no window/ });
  assert.throws(() => parseMcfg(mcfg([0xb000_0000, 0, 2, 1])), { code: "MCFG_INVALID" });
  assert.throws(() => parseMcfg(table.subarray(0, 60)), { code: "MCFG_INVALID", message: /76 bytes, of 60/ });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      try {
        parseMcfg(bytes);
      } catch (error) {
        assert.ok(isRing3Error(error, "MCFG_INVALID"), String(error));
      }
    }),
  );
});

test("ECAM: functions below bridges and on every root bus, read and written by single accesses", async () => {
  const memory = new Memory();
  const [low, high] = [0xb000_0000, 0x40_0000_0000];
  memory.put(low, 0, 0, 0, {});
  memory.put(low, 0, 1, 0, { 0x0e: 0x81, 0x19: 3 });
  memory.put(low, 0, 1, 2, {});
  memory.put(low, 3, 0, 0, { 0x3c: 0x0b });
  // Not multi-function, so what a stray decoder answers at function 1 is not looked at.
  memory.put(low, 3, 0, 1, {});
  // A bridge that leads back up, and one out of its window.
  memory.put(low, 0, 2, 0, { 0x0e: 0x01, 0x19: 0 });
  memory.put(low, 0, 3, 0, { 0x0e: 0x01, 0x19: 0xf0 });
  memory.put(high, 0x40, 5, 0, {});
  // Conventional functions: one answers nothing behind the first 256 bytes, one the same again.
  memory.map(high + 0x40 * 0x10_0000).bytes.fill(0xff, 5 * 8 * 4096 + 256, 5 * 8 * 4096 + 4096);
  const first = (1 * 8 + 2) * 4096;
  const { bytes } = memory.map(low);
  for (let at = 256; at < 4096; at += 256) bytes.copyWithin(first + at, first, first + 256);
  using fake = machine(mcfg([low, 0, 0, 0x7f], [high, 1, 0x20, 0x7f]));
  using access = await ecamAccess({ paths: fake.paths, mapBus: memory.map });
  assert.deepEqual(
    access.functions.map(({ address }) => String(address)),
    ["0000:00:00.0", "0000:00:01.0", "0000:00:01.2", "0000:00:02.0", "0000:00:03.0", "0000:03:00.0", "0001:40:05.0"],
  );
  const disk = access.functions.find(({ address }) => address.bus === 3);
  assert.ok(disk !== undefined);
  assert.equal(readConfig(disk).length, 4096);
  assert.deepEqual([disk.config.read(0, 4), disk.config.read(0x3c, 1), disk.config.read(0, 2)], [0x1b36, 0x0b, 0x1b36]);
  disk.config.write(0x3c, 2, 0xbeef);
  disk.config.write(0x100, 4, 0xffff_fffe);
  assert.deepEqual([disk.config.read(0x3c, 1), disk.config.read(0x100, 4)], [0xef, 0xffff_fffe]);
  const sizeOf = (text: string) => access.functions.find(({ address }) => String(address) === text)?.config.size;
  assert.deepEqual([sizeOf("0001:40:05.0"), sizeOf("0000:00:01.2")], [256, 256], "nothing of its own behind");
  const absent = ecamAccess({ paths: fake.paths, mapBus: memory.map, addresses: [PciAddress.parse("3:1f.0")] });
  await assert.rejects(absent, { code: "FUNCTION_NOT_FOUND" });
  const beyond = ecamAccess({ paths: fake.paths, mapBus: memory.map, addresses: [PciAddress.parse("f0:00.0")] });
  await assert.rejects(beyond, { code: "FUNCTION_NOT_FOUND" });
});

test("ECAM says what is missing", async () => {
  using bare = new FakeMachine([]);
  await assert.rejects(ecamAccess({ paths: bare.paths }), { code: "ACCESS_UNAVAILABLE", message: /no MCFG table/ });
  using fake = machine(mcfg([0xb000_0000, 0, 0, 0xff]));
  await assert.rejects(ecamAccess({ paths: fake.paths }), { code: "ACCESS_UNAVAILABLE", message: /CONFIG_DEVMEM/ });
});

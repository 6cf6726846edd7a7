import assert from "node:assert/strict";
import test from "node:test";
import { VirtualFunction } from "../virtual/function.ts";
import { inProcess } from "../virtual/in-process.ts";
import { readConfig } from "./access.ts";
import { accessFunction, freeAddresses } from "./access-function.ts";
import { PciAddress } from "./address.ts";
import { ConfigSpace } from "./config-space.ts";
import { Header } from "./header.ts";

test("a function in process is enumerable like one of the machine: config space, and sizes of what it decodes", async () => {
  const device = new VirtualFunction({
    vendorId: 0x1234,
    deviceId: 0x0add,
    classCode: 0xff0000,
    subsystemVendorId: 0x1af4,
    bars: {
      0: { size: 0x10000, kind: "memory64", prefetchable: true },
      2: { size: 32, kind: "io" },
      3: { size: 4096 },
    },
    rom: new Uint8Array(3000),
  });
  await using fn = inProcess(device);
  const seen = accessFunction(fn, PciAddress.parse("02:00.0"));
  assert.deepEqual([String(seen.address), seen.method], ["0000:02:00.0", "in-process"]);
  assert.deepEqual(readConfig(seen), fn.config.readBytes(0, fn.config.size));
  assert.deepEqual([seen.facts.vendorId, seen.facts.deviceId, seen.facts.classCode], [0x1234, 0x0add, 0xff0000]);
  assert.equal(seen.facts.subsystemVendorId, 0x1af4);
  const [bar0, bar1, bar2, bar3, , , rom] = seen.facts.resources ?? [];
  const size = (resource: typeof bar0): bigint => (resource === undefined ? -1n : resource.end - resource.start + 1n);
  assert.deepEqual([size(bar0), size(bar2), size(bar3), size(rom)], [0x10000n, 32n, 4096n, 4096n]);
  assert.deepEqual([bar0?.flags, bar2?.flags, bar3?.flags], [0x14220cn, 0x40101n, 0x40200n]);
  assert.deepEqual(bar1, { start: 0n, end: 0n, flags: 0n });

  fn.config.write(Header.COMMAND, { MEMORY: 0 });
  new ConfigSpace(seen.config).write32(0x10, 0xfe00_0000);
  assert.equal(seen.facts.resources?.[0]?.start, 0xfe00_0000n, "addresses are those of now, and writes go through");
});

test("functions without an address get the first ones that are free", () => {
  const taken = ["00:00.0", "00:02.0"].map((text) => PciAddress.parse(text));
  assert.deepEqual(freeAddresses(3, taken).map(String), ["0000:00:01.0", "0000:00:03.0", "0000:00:04.0"]);
  assert.equal(String(freeAddresses(33).at(-1)), "0000:01:00.0");
});

// Config space over an access method that counts: what is read and written, what is refused, what is remembered.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { PciExpress } from "./capabilities/pci-express.ts";
import { PowerManagement } from "./capabilities/power-management.ts";
import { VendorSpecific } from "./capabilities/vendor-specific.ts";
import { bytesConfigAccess, type ConfigAccess, ConfigSpace } from "./config-space.ts";
import { Header } from "./header.ts";

/** Access to bytes that writes down each access, without a range read. */
class CountingAccess implements ConfigAccess {
  readonly size: number;
  readonly log: string[] = [];
  readonly bytes: Uint8Array;
  readonly #inner: ConfigAccess;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.size = bytes.length;
    this.#inner = bytesConfigAccess(bytes);
  }

  read(offset: number, width: 1 | 2 | 4): number {
    this.log.push(`read${width * 8} ${offset.toString(16)}`);
    return this.#inner.read(offset, width);
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.log.push(`write${width * 8} ${offset.toString(16)} ${value.toString(16)}`);
    this.#inner.write(offset, width, value);
  }
}

function withPowerManagement(): CountingAccess {
  const bytes = new Uint8Array(256);
  bytes.set([0x86, 0x80, 0x33, 0x15, 0x00, 0x00, 0x10, 0x00]);
  bytes[0x34] = 0x40;
  bytes.set([0x01, 0x00, 0x23, 0xc8, 0xf8, 0x81, 0x00, 0x00], 0x40);
  return new CountingAccess(bytes);
}

test("reading a register is one read, writing it one read and one write", () => {
  const access = withPowerManagement();
  const config = new ConfigSpace(access);
  config.write(Header.COMMAND, { MEMORY: 1, BUS_MASTER: 1 });
  assert.deepEqual(access.log.splice(0), ["read16 4", "write16 4 6"]);

  assert.equal(config.find(PowerManagement)?.offset, 0x40);
  access.log.length = 0;
  assert.equal(config.read(PowerManagement.PMCSR).PME_STATUS, 1);
  assert.deepEqual(access.log.splice(0), ["read16 44"]);
  config.write(PowerManagement.PMCSR, { POWER_STATE: 3 });
  // PME_STATUS was set and is not named: it is written as 0 and so not cleared. Bits 4 to 7 are RsvdP and go back.
  assert.deepEqual(access.log.splice(0), ["read16 44", "write16 44 1fb"]);
  config.writeRaw(PowerManagement.PMCSR, 0x8100);
  assert.deepEqual(access.log, ["write16 44 8100"]);
});

test("status bits that are named are written as one", () => {
  const access = withPowerManagement();
  access.bytes.set([0x10, 0xf9], 0x06);
  const config = new ConfigSpace(access);
  config.write(Header.STATUS, { DETECTED_PARITY_ERROR: 1 });
  assert.deepEqual(access.log, ["read16 6", "write16 6 8010"]);
});

test("offsets out of range or not aligned throw before any access", () => {
  const access = withPowerManagement();
  const config = new ConfigSpace(access);
  const refused = (call: () => unknown): void => assert.throws(call, { code: "CONFIG_RANGE" });
  refused(() => config.read32(0x02));
  refused(() => config.read16(0x03));
  refused(() => config.read32(256));
  refused(() => config.read8(-1));
  refused(() => config.read8(0.5));
  refused(() => config.read8(Number.NaN));
  refused(() => config.write16(0xff, 0));
  refused(() => config.write8(0x3c, 256));
  refused(() => config.write16(0x04, -1));
  refused(() => config.write32(0x10, 1.5));
  refused(() => config.readBytes(250, 7));
  refused(() => config.readBytes(0, -1));
  refused(() => config.writeBytes(255, new Uint8Array(2)));
  assert.deepEqual(access.log, []);
});

test("ranges take the widest aligned accesses and touch nothing else", () => {
  const access = new CountingAccess(Uint8Array.from({ length: 64 }, (_, index) => index));
  const config = new ConfigSpace(access);
  assert.deepEqual([...config.readBytes(3, 8)], [3, 4, 5, 6, 7, 8, 9, 10]);
  assert.deepEqual(access.log.splice(0), ["read8 3", "read32 4", "read16 8", "read8 a"]);
  config.writeBytes(6, Uint8Array.of(1, 2, 3));
  assert.deepEqual(access.log, ["write16 6 201", "write8 8 3"]);
});

test("ranges read as single accesses do, with and without help of the back end", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.nat(63), fc.nat(64), (bytes, offset, size) => {
      const length = Math.min(size, 64 - offset);
      const expected = bytes.slice(offset, offset + length);
      assert.deepEqual(new ConfigSpace(new CountingAccess(bytes)).readBytes(offset, length), expected);
      assert.deepEqual(new ConfigSpace(bytesConfigAccess(bytes)).readBytes(offset, length), expected);
    }),
  );
});

test("a register of a capability that is not there names it", () => {
  const config = new ConfigSpace(withPowerManagement());
  assert.throws(() => config.read(PciExpress.DEVICE_CONTROL), {
    code: "CAPABILITY_ABSENT",
    message: /no EXP capability, which EXP\.DEVICE_CONTROL belongs to/,
  });
  assert.equal(config.has(PciExpress.DEVICE_CONTROL), false);
  assert.equal(config.has(PowerManagement.DATA), true);
  assert.equal(config.find(0x01)?.offset, 0x40);
  assert.equal(config.find(0x01, "extended"), undefined);
  assert.equal(config.find(Header), undefined);
  const entry = config.find(PowerManagement);
  assert.throws(() => config.readRaw(VendorSpecific.LENGTH, entry), RangeError);
});

test("a register that is cut off at the end of config space is a range error", () => {
  const bytes = new Uint8Array(256);
  bytes.set([1, 0, 2, 0, 0, 0, 0x10, 0]);
  bytes[0x34] = 0xfc;
  bytes.set([0x01, 0x00, 0x03, 0x00], 0xfc);
  const config = new ConfigSpace(bytesConfigAccess(bytes));
  assert.equal(config.read(PowerManagement.PMC).VERSION, 3);
  assert.throws(() => config.read(PowerManagement.PMCSR), { code: "CONFIG_RANGE" });
});

test("the walk is remembered until it is invalidated, but never one that found problems", () => {
  const access = withPowerManagement();
  const config = new ConfigSpace(access);
  config.capabilities();
  access.log.length = 0;
  config.capabilities();
  assert.deepEqual(access.log, []);
  access.bytes[0x34] = 0x00;
  assert.equal(config.capabilities().length, 1);
  config.invalidate();
  assert.equal(config.capabilities().length, 0);

  const looped = withPowerManagement();
  looped.bytes[0x41] = 0x40;
  const mended = new ConfigSpace(looped);
  assert.equal(mended.walk("standard").problems.length, 1);
  looped.bytes.set([0x01, 0x50], 0x40);
  assert.equal(mended.capabilities().length, 2);

  const gone = withPowerManagement();
  const good = gone.bytes.slice();
  gone.bytes.fill(0xff);
  const returning = new ConfigSpace(gone);
  assert.equal(returning.find(PowerManagement), undefined);
  assert.deepEqual(returning.extendedCapabilities(), []);
  gone.bytes.set(good);
  assert.equal(returning.find(PowerManagement)?.offset, 0x40);
});

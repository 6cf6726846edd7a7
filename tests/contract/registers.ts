// The part of the contract about identity, config space, BARs and the expansion ROM.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Registers } from "../../packages/ring3/src/memory/registers.ts";
import type { Bar, BarIndex } from "../../packages/ring3/src/pci/function.ts";
import { barIndexes, type OpenFixture, rejectsCode, throwsCode } from "./fixture.ts";

const COMMAND = 0x04;
const MEMORY_SPACE = 2;

export function registerContract(open: OpenFixture): void {
  test("identity says what config space says", async (t) => {
    const { fn } = await open(t);
    const { identity, config } = fn;
    assert.equal(identity.vendorId, config.read16(0));
    assert.equal(identity.deviceId, config.read16(2));
    assert.equal(identity.revision, config.read8(8));
    assert.equal(identity.classCode, config.read32(8) >>> 8);
    assert.equal(identity.subsystemVendorId, config.read16(0x2c));
    assert.equal(identity.subsystemId, config.read16(0x2e));
    assert.notEqual(identity.vendorId, 0xffff);
    assert.ok(identity.backend.length > 0 && identity.address.length > 0);
  });

  test("config space reads the same at every width", async (t) => {
    const { config } = (await open(t)).fn;
    assert.ok(config.size === 256 || config.size === 4096, `${config.size} bytes`);
    const bytes = config.readBytes(0, 64);
    for (let offset = 0; offset < 64; offset += 4) {
      // STATUS may change under our feet.
      if (offset === COMMAND) continue;
      const word = config.read32(offset);
      assert.equal(config.read16(offset), word & 0xffff);
      assert.equal(config.read16(offset + 2), word >>> 16);
      for (let i = 0; i < 4; i++) {
        assert.equal(config.read8(offset + i), (word >>> (8 * i)) & 0xff, `byte ${offset + i}`);
        assert.equal(bytes[offset + i], (word >>> (8 * i)) & 0xff, `byte ${offset + i} of the range`);
      }
    }
  });

  test("config accesses outside or across are errors", async (t) => {
    const { config } = (await open(t)).fn;
    throwsCode(() => config.read8(-1), "CONFIG_RANGE");
    throwsCode(() => config.read8(config.size), "CONFIG_RANGE");
    throwsCode(() => config.read32(config.size - 2), "CONFIG_RANGE");
    throwsCode(() => config.read16(1), "CONFIG_RANGE");
    throwsCode(() => config.write32(2, 0), "CONFIG_RANGE");
    throwsCode(() => config.write8(0x3c, 0x100), "CONFIG_RANGE");
    throwsCode(() => config.readBytes(config.size - 4, 8), "CONFIG_RANGE");
  });

  test("writes to config space arrive", async (t) => {
    const { config } = (await open(t)).fn;
    const interruptLine = 0x3c;
    const before = config.read8(interruptLine);
    config.write8(interruptLine, before ^ 0x5a);
    assert.equal(config.read8(interruptLine), before ^ 0x5a);
    config.writeBytes(interruptLine, Uint8Array.of(before));
    assert.equal(config.read8(interruptLine), before);
  });

  test("BARs agree with config space", async (t) => {
    const { fn } = await open(t);
    let upperHalf = false;
    for (const index of barIndexes) {
      const bar = fn.bar(index);
      assert.equal(bar.index, index);
      assert.equal(bar.size === 0, bar.kind === "none");
      const low = fn.config.read32(0x10 + 4 * index);
      if (upperHalf) assert.equal(bar.kind, "none", `BAR ${index} is the upper half of the one before`);
      upperHalf = bar.kind === "memory64";
      if (bar.kind === "none") continue;
      assert.ok(Number.isInteger(Math.log2(bar.size)), `BAR ${index} has ${bar.size} bytes`);
      assert.equal(bar.kind === "io", (low & 1) === 1);
      assert.equal(bar.kind === "memory64", (low & 7) === 4);
      if (bar.kind !== "io") assert.equal(bar.prefetchable, (low & 8) !== 0);
      let end = 0;
      for (const area of bar.mappable) {
        assert.ok(area.offset >= end && area.size > 0 && area.offset + area.size <= bar.size, "mappable areas ascend");
        end = area.offset + area.size;
      }
    }
    assert.throws(() => fn.bar(6 as BarIndex), RangeError);
    assert.throws(() => fn.bar(-1 as BarIndex), RangeError);
  });

  test("register offsets are checked, mapped or not", async (t) => {
    const { fn } = await open(t);
    for (const index of barIndexes) {
      const bar = fn.bar(index);
      if (bar.kind === "none") {
        throwsCode(() => bar.read8(0), "REGISTER_RANGE");
        throwsCode(() => bar.map(), "NOT_MAPPABLE");
        continue;
      }
      for (const registers of blocks(bar)) checkOffsets(registers);
      throwsCode(() => bar.readBytes(bar.size - 1, 2), "REGISTER_RANGE");
      throwsCode(() => bar.writeBytes(-1, new Uint8Array(1)), "REGISTER_RANGE");
      throwsCode(() => bar.registers({ offset: bar.size, size: 4 }), "REGISTER_RANGE", "NOT_MAPPABLE");
      throwsCode(() => bar.map({ offset: 0, size: bar.size + 4096 }), "NOT_MAPPABLE");
    }
  });

  test("a mapped register reads what the slow way reads", async (t) => {
    const { fn, constant } = await open(t);
    if (constant === undefined) return t.skip("no constant register");
    const bar = fn.bar(constant.bar);
    const slow = bar.read32(constant.offset);
    assert.equal(bar.registers().read32(constant.offset), slow);
    assert.equal(new DataView(bar.readBytes(constant.offset, 4).buffer).getUint32(0, true), slow);
    const area = bar.mappable.find(
      ({ offset, size }) => constant.offset >= offset && constant.offset + 4 <= offset + size,
    );
    if (area === undefined) return;
    using mapped = bar.map(area);
    assert.equal(mapped.size, area.size);
    assert.equal(mapped.read32(constant.offset - area.offset), slow);
    // A window that begins in the middle counts from its own start.
    const part = bar.registers({ offset: constant.offset, size: 4 });
    assert.equal(part.size, 4);
    assert.equal(part.read32(0), slow);
    throwsCode(() => part.read32(4), "REGISTER_RANGE");
  });

  test("a register written one way is read the other way", async (t) => {
    const { fn, scratch } = await open(t);
    if (scratch === undefined) return t.skip("no scratch register");
    const bar = fn.bar(scratch.bar);
    const registers = bar.registers();
    for (const pattern of [0x5aa5_c33c, 0xa55a_3cc3, 0]) {
      const value: number = (pattern & scratch.mask) >>> 0;
      registers.write32(scratch.offset, value);
      assert.equal((bar.read32(scratch.offset) & scratch.mask) >>> 0, value);
      const other: number = (~value & scratch.mask) >>> 0;
      bar.write32(scratch.offset, other);
      assert.equal((registers.read32(scratch.offset) & scratch.mask) >>> 0, other);
    }
  });

  test("a disposed window throws, other windows live on", async (t) => {
    const { fn, constant } = await open(t);
    if (constant === undefined || fn.bar(constant.bar).mappable.length === 0) return t.skip("nothing to map");
    const bar = fn.bar(constant.bar);
    const area = bar.mappable.find(({ offset, size }) => constant.offset >= offset && constant.offset < offset + size);
    if (area === undefined) return t.skip("the constant register cannot be mapped");
    const first = bar.map(area);
    using second = bar.map(area);
    const value = first.read32(constant.offset - area.offset);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    throwsCode(() => first.read32(0), "REGION_REVOKED");
    throwsCode(() => first.write32(0, 0), "REGION_REVOKED");
    assert.equal(second.read32(constant.offset - area.offset), value);
  });

  test("with memory decoding off a BAR access is an error, and works again afterwards", async (t) => {
    const { fn, constant } = await open(t);
    if (constant === undefined || fn.bar(constant.bar).kind === "io") return t.skip("no memory register");
    const bar = fn.bar(constant.bar);
    const registers = bar.registers();
    const value = registers.read32(constant.offset);
    const command = fn.config.read16(COMMAND);
    fn.config.write16(COMMAND, command & ~MEMORY_SPACE);
    throwsCode(() => registers.read32(constant.offset), "REGION_DISABLED");
    throwsCode(() => registers.write32(constant.offset, 0), "REGION_DISABLED");
    throwsCode(() => bar.read32(constant.offset), "REGION_DISABLED");
    throwsCode(() => bar.readBytes(constant.offset, 4), "REGION_DISABLED");
    fn.config.write8(COMMAND, (command | MEMORY_SPACE) & 0xff);
    assert.equal(registers.read32(constant.offset), value);
    assert.equal(bar.read32(constant.offset), value);
    // The same through a 32-bit write, which covers STATUS as well.
    fn.config.write32(COMMAND, command & ~MEMORY_SPACE);
    throwsCode(() => registers.read32(constant.offset), "REGION_DISABLED");
    fn.config.write32(COMMAND, command | MEMORY_SPACE);
    assert.equal(registers.read32(constant.offset), value);
  });

  test("in D3hot a BAR access is an error, and D0 brings it back", async (t) => {
    const { fn, constant } = await open(t);
    assert.equal(fn.power.state, fn.config.find(1) === undefined ? "unknown" : "D0");
    if (fn.config.find(1) === undefined) {
      await rejectsCode(fn.power.set("D3hot"), "NOT_SUPPORTED");
      return;
    }
    const states: string[] = [];
    using _ = fn.events.on("power", ({ state }) => states.push(state));
    const registers = constant === undefined ? undefined : fn.bar(constant.bar).registers();
    const value = constant === undefined ? undefined : registers?.read32(constant.offset);
    await fn.power.set("D3hot");
    assert.equal(fn.power.state, "D3hot");
    if (constant !== undefined) {
      throwsCode(() => registers?.read32(constant.offset), "REGION_DISABLED");
      throwsCode(() => fn.bar(constant.bar).read32(constant.offset), "REGION_DISABLED");
    }
    await fn.power.set("D0");
    assert.equal(fn.power.state, "D0");
    if (constant !== undefined) assert.equal(registers?.read32(constant.offset), value);
    assert.deepEqual(states, ["D3hot", "D0"]);
  });

  test("the ROM, where there is one, starts with its signature or reads as nothing", async (t) => {
    const { rom } = (await open(t)).fn;
    if (rom === undefined) return t.skip("no expansion ROM");
    const head = rom.read(0, 4);
    assert.equal(head.length, 4);
    throwsCode(() => rom.read(rom.size - 1, 2), "REGISTER_RANGE");
  });
}

/** The BAR itself and, where it can be had, a mapping. */
function blocks(bar: Bar): Registers[] {
  return [bar, bar.registers()];
}

function checkOffsets(registers: Registers): void {
  const { size } = registers;
  for (const offset of [-1, -4, size, size + 4, 0.5, Number.NaN, 2 ** 53]) {
    throwsCode(() => registers.read8(offset), "REGISTER_RANGE");
    throwsCode(() => registers.read32(offset), "REGISTER_RANGE");
    throwsCode(() => registers.write32(offset, 0), "REGISTER_RANGE");
    throwsCode(() => registers.read64(offset), "REGISTER_RANGE");
  }
  throwsCode(() => registers.read16(1), "REGISTER_RANGE");
  throwsCode(() => registers.read32(2), "REGISTER_RANGE");
  throwsCode(() => registers.write16(3, 0), "REGISTER_RANGE");
  throwsCode(() => registers.read64(4), "REGISTER_RANGE");
  throwsCode(() => registers.read32(size - 2), "REGISTER_RANGE");
  throwsCode(() => registers.write64(size - 4, 0n), "REGISTER_RANGE");
}

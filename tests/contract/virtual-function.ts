// The contract of devices in software, dual to that of PciFunction: what a device keeps through whatever its user does, seen
// from the user's side, so that it runs in process and over a socket. Nothing here knows what the device is for; the fixture
// says how to make it work and how to see that it does.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { Ring3Error } from "../../packages/ring3/src/binary/error.ts";
import { AdvancedFeatures } from "../../packages/ring3/src/pci/capabilities/advanced-features.ts";
import { PciExpress } from "../../packages/ring3/src/pci/capabilities/pci-express.ts";
import { PowerManagement } from "../../packages/ring3/src/pci/capabilities/power-management.ts";
import type { BarIndex, DmaBuffer, PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { Header } from "../../packages/ring3/src/pci/header.ts";
import { barIndexes } from "./fixture.ts";

export interface DeviceFixture {
  readonly fn: PciFunction;
  /**
   * Has the device work on memory: it writes to all of `buffer`, and not to anything else. Resolves when it is done, or once
   * it is sure that it never will be; it must not hang where DMA is off.
   */
  work(fn: PciFunction, buffer: DmaBuffer): Promise<void>;
  /** What `work` leaves in `buffer`. */
  worked(buffer: DmaBuffer): boolean;
  /** Opens the device again after `fn` was disposed, as the next user. */
  readonly reopen: () => Promise<PciFunction>;
  /** The device's own state, where the fixture can reach it. */
  readonly state?: {
    save(): Promise<Uint8Array>;
    restore(state: Uint8Array): Promise<void>;
  };
  /** Registers of 32 bits that tell power-on state from any other, and values that change them. */
  readonly registers?: readonly { readonly bar: BarIndex; readonly offset: number; readonly write?: number }[];
  /** Config space after opening, as hexadecimal dwords: fixed for a model version. */
  readonly golden?: readonly string[];
  /** Highest IOVA that the device reaches, plus one. */
  readonly below?: number;
}

export type OpenDevice = (t: TestContext) => Promise<DeviceFixture>;

const PAGE = 4096;

/** Declares the tests for the device that `open` opens, fresh each time. */
export function deviceContract(name: string, open: OpenDevice): void {
  describe(`device contract: ${name}`, { concurrency: false }, () => {
    test("config space is as it was when this model version was published", async (t) => {
      const { fn, golden } = await open(t);
      if (golden === undefined) return t.skip("the fixture has no golden map");
      assert.deepEqual(goldenDump(fn), golden);
    });

    test("it works, and again after a reset", async (t) => {
      const { fn, ...device } = await open(t);
      await works(fn, device);
      await fn.reset();
      await works(fn, device);
    });

    test("a reset brings back power-on state", async (t) => {
      const { fn, registers = [], ...device } = await open(t);
      const before = snapshot(fn, registers);
      await works(fn, device);
      scribble(fn, registers);
      await fn.reset();
      assert.deepEqual(snapshot(fn, registers), before);
    });

    test("the next user finds power-on state, whatever the last one did", async (t) => {
      const fixture = await open(t);
      const { fn, registers = [], reopen } = fixture;
      const before = snapshot(fn, registers);
      await works(fn, fixture);
      scribble(fn, registers);
      await fn[Symbol.asyncDispose]();
      const again = await reopen();
      assert.deepEqual(snapshot(again, registers), before);
      await works(again, fixture);
      await again[Symbol.asyncDispose]();
    });

    for (const way of ["bus master off", "D3hot", "FLR"] as const) {
      test(`${way} stops DMA`, async (t) => {
        const fixture = await open(t);
        const { fn } = fixture;
        const stop = stopper(fn, way);
        if (stop === undefined) return t.skip(`the function has no ${way}`);
        using buffer = allocate(fn, fixture);
        fn.busMaster = true;
        const working = settled(fixture.work(fn, buffer));
        stop();
        // What was under way is over, or stopped: from now on nothing moves.
        const bytes = Buffer.from(buffer.bytes);
        await working;
        if (way !== "bus master off") {
          // Registers do not answer in D3hot, and lost COMMAND in a reset: whatever waits there has failed by now.
          assert.equal(fn.busMaster, false);
        }
        assert.deepEqual(Buffer.from(buffer.bytes), bytes);
        if (way === "D3hot") await fn.power.set("D0");
        fn.config.write(Header.COMMAND, { IO: 1, MEMORY: 1 });
        await fn.reset();
        await works(fn, fixture);
      });
    }

    test("memory that is taken away at any moment is not touched any more", async (t) => {
      const fixture = await open(t);
      const { fn } = fixture;
      for (let turns = 0; turns < 6; turns++) {
        const range = fn.dma.arena.reserve(PAGE);
        const bytes = fn.dma.arena.bytes(range.offset, PAGE);
        const buffer = fn.dma.map(range, fixture.below === undefined ? {} : { below: fixture.below });
        fn.busMaster = true;
        const working = settled(fixture.work(fn, buffer));
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
        fn.dma.unmapAll();
        bytes.fill(0x5c);
        await working;
        assert.ok(
          bytes.every((byte) => byte === 0x5c),
          `written after it was unmapped, ${turns} turns after it began`,
        );
        range[Symbol.dispose]();
        await fn.reset();
      }
      await works(fn, fixture);
    });

    test("no access of any register, at any width, breaks it", async (t) => {
      const fixture = await open(t);
      const { fn } = fixture;
      for (const index of barIndexes) hostile(fn, index);
      await fn.reset();
      await works(fn, fixture);
      fn.busMaster = true;
      for (const index of barIndexes) hostile(fn, index);
      await fn.reset();
      await works(fn, fixture);
    });

    test("no value in any config register breaks it", async (t) => {
      const fixture = await open(t);
      const { fn } = fixture;
      const command = fn.config.readRaw(Header.COMMAND);
      for (const value of [0xffff_ffff, 0, 0xaaaa_aaaa, 0x5555_5555]) {
        for (let offset = 0; offset < fn.config.size; offset += 4) {
          fn.config.write32(offset, value);
          fn.config.read32(offset);
        }
      }
      if (fn.config.has(PowerManagement.PMCSR)) fn.config.write(PowerManagement.PMCSR, { POWER_STATE: 0 });
      fn.config.writeRaw(Header.COMMAND, command);
      await fn.reset();
      fn.config.writeRaw(Header.COMMAND, command);
      await works(fn, fixture);
    });

    test("saved state comes back, in another device too", async (t) => {
      const first = await open(t);
      const second = await open(t);
      if (first.state === undefined || second.state === undefined) return t.skip("the fixture cannot save");
      const { registers = [] } = first;
      for (const { bar, offset, write } of registers) if (write !== undefined) first.fn.bar(bar).write32(offset, write);
      first.fn.config.writeRaw(Header.INTERRUPT_LINE, 0x5a);
      const saved = await first.state.save();
      const values = snapshot(first.fn, registers);
      await second.state.restore(saved);
      assert.deepEqual(snapshot(second.fn, registers), values);
      // Clocks go on, so the bytes need not be the same: what they restore is.
      await first.state.restore(await second.state.save());
      assert.deepEqual(snapshot(first.fn, registers), values);
      await second.fn.reset();
      await works(second.fn, second);
      for (const wrong of [saved.subarray(0, saved.length - 1), new Uint8Array(saved.length), Uint8Array.of()]) {
        await assert.rejects(first.state.restore(wrong), Ring3Error);
      }
      await first.fn.reset();
      await works(first.fn, first);
    });
  });
}

/** Config space as dwords, without the zeros at the end. */
function goldenDump(fn: PciFunction): string[] {
  const dwords: string[] = [];
  for (let offset = 0; offset < fn.config.size; offset += 4) {
    dwords.push(fn.config.read32(offset).toString(16).padStart(8, "0"));
  }
  while (dwords.at(-1) === "00000000") dwords.pop();
  return dwords;
}

type Work = Pick<DeviceFixture, "work" | "worked" | "below">;

function allocate(fn: PciFunction, { below }: Work): DmaBuffer {
  return fn.dma.allocate(PAGE, below === undefined ? {} : { below });
}

async function works(fn: PciFunction, device: Work): Promise<void> {
  using buffer = allocate(fn, device);
  fn.busMaster = true;
  await device.work(fn, buffer);
  assert.ok(device.worked(buffer), "the device did its work");
  fn.busMaster = false;
}

async function settled(work: Promise<void>): Promise<void> {
  await work.then(
    () => undefined,
    () => undefined,
  );
}

/** Everything that may tell that somebody was there. */
function snapshot(fn: PciFunction, registers: NonNullable<DeviceFixture["registers"]>): unknown {
  const dwords = goldenDump(fn).map((word, at) => `${(4 * at).toString(16)}: ${word}`);
  return {
    config: dwords.filter((line) => !line.endsWith(" 00000000")),
    registers: registers.map(({ bar, offset }) => fn.bar(bar).read32(offset)),
    memory: barIndexes.flatMap((index) => {
      const bar = fn.bar(index);
      return bar.mappable.map(({ offset, size }) => hash(bar.readBytes(offset, Math.min(size, 4 * PAGE))));
    }),
  };
}

function hash(bytes: Uint8Array): number {
  let sum = 0x811c_9dc5;
  for (const byte of bytes) sum = Math.imul(sum ^ byte, 0x0100_0193);
  return sum >>> 0;
}

/** Leaves traces: in registers, in memory of BARs, in config space, on interrupt lines. */
function scribble(fn: PciFunction, registers: NonNullable<DeviceFixture["registers"]>): void {
  for (const { bar, offset, write } of registers) if (write !== undefined) fn.bar(bar).write32(offset, write);
  for (const index of barIndexes) {
    const bar = fn.bar(index);
    for (const { offset, size } of bar.mappable) {
      bar.writeBytes(offset, new Uint8Array(Math.min(size, PAGE)).fill(0xa5));
    }
  }
  if (fn.config.has(PciExpress.DEVICE_CONTROL)) fn.config.write(PciExpress.DEVICE_CONTROL, { ENABLE_NO_SNOOP: 0 });
  fn.config.write(Header.COMMAND, { SERR_ENABLE: 1, PARITY_ERROR_RESPONSE: 1 });
}

function stopper(fn: PciFunction, way: "bus master off" | "D3hot" | "FLR"): (() => void) | undefined {
  const { config } = fn;
  if (way === "bus master off") return () => (fn.busMaster = false);
  if (way === "D3hot") {
    if (!config.has(PowerManagement.PMCSR)) return undefined;
    return () => {
      fn.busMaster = false;
      void fn.power.set("D3hot");
    };
  }
  if (config.has(PciExpress.DEVICE_CAPABILITIES)) {
    if (config.read(PciExpress.DEVICE_CAPABILITIES).FUNCTION_LEVEL_RESET_CAPABILITY === 1) {
      return () => config.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 });
    }
  }
  if (!config.has(AdvancedFeatures.CONTROL)) return undefined;
  return () => config.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 1 });
}

const patterns = [0xffff_ffff, 0, 0x8000_0001, 0x5a5a_5a5a] as const;

/** Writes and reads each width at many offsets: all of the first page and a half, then where powers of two and the end lie. */
function hostile(fn: PciFunction, index: BarIndex): void {
  const bar = fn.bar(index);
  if (bar.kind === "none") return;
  const offsets = new Set<number>();
  for (let at = 0; at < Math.min(bar.size, 6144); at++) offsets.add(at);
  for (let at = 8192; at < bar.size; at *= 2) for (const near of [-8, -4, 0, 4, 8]) offsets.add(at + near);
  for (let at = Math.max(0, bar.size - 64); at < bar.size; at++) offsets.add(at);
  let round = 0;
  for (const at of offsets) {
    const value = patterns[round++ % patterns.length] ?? 0;
    try {
      bar.write8(at, value & 0xff);
      bar.read8(at);
      if (at % 2 === 0 && at + 2 <= bar.size) bar.write16(at, value & 0xffff);
      if (at % 2 === 0 && at + 2 <= bar.size) bar.read16(at);
      if (at % 4 === 0 && at + 4 <= bar.size) bar.write32(at, value);
      if (at % 4 === 0 && at + 4 <= bar.size) bar.read32(at);
      if (at % 8 === 0 && at + 8 <= bar.size && bar.kind !== "io") bar.write64(at, BigInt(value) * 0x1_0000_0001n);
      if (at % 8 === 0 && at + 8 <= bar.size && bar.kind !== "io") bar.read64(at);
      if (at + 7 <= bar.size) bar.writeBytes(at, new Uint8Array(7).fill(value & 0xff));
      if (at + 7 <= bar.size) bar.readBytes(at, 7);
    } catch (error) {
      // A server may refuse what its device does not take; anything else is a bug.
      if (!(error instanceof Ring3Error)) throw error;
    }
  }
}

// The part of the contract about bus mastering, reset, events, handles and the end of a function.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import { type OpenFixture, rejectsCode, throwsCode } from "./fixture.ts";

const COMMAND = 0x04;
const BUS_MASTER = 4;

export function lifetimeContract(open: OpenFixture): void {
  test("bus master is off at open and follows the property", async (t) => {
    const { fn } = await open(t);
    assert.equal(fn.busMaster, false);
    fn.busMaster = true;
    assert.equal(fn.busMaster, true);
    assert.equal(fn.config.read16(COMMAND) & BUS_MASTER, BUS_MASTER);
    fn.busMaster = false;
    assert.equal(fn.config.read16(COMMAND) & BUS_MASTER, 0);
    fn.config.write16(COMMAND, fn.config.read16(COMMAND) | BUS_MASTER);
    assert.equal(fn.busMaster, true);
  });

  test("reset brings the function back, with bus master and interrupts off", async (t) => {
    const { fn, constant } = await open(t);
    if (fn.resetMethods.length === 0) {
      await rejectsCode(fn.reset(), "NOT_SUPPORTED");
      return;
    }
    const registers = constant === undefined ? undefined : fn.bar(constant.bar).registers();
    const value = constant === undefined ? undefined : registers?.read32(constant.offset);
    const { msix, msi } = fn.interrupts.available;
    const [interrupt] = msix > 0 ? fn.interrupts.msix(1) : msi > 0 ? fn.interrupts.msi(1) : [];
    const waiting = interrupt === undefined ? undefined : rejectsCode(interrupt.next(), "INTERRUPT_CLOSED");
    using buffer = fn.dma.allocate(4096);
    buffer.words[0] = 7;
    fn.busMaster = true;
    const told: string[] = [];
    using _ = fn.events.on("reset", ({ method }) => told.push(method));
    const method = await fn.reset();
    assert.ok(method === "unknown" || fn.resetMethods.includes(method), method);
    assert.deepEqual(told, [method]);
    assert.equal(fn.busMaster, false);
    assert.equal(fn.interrupts.active, "none");
    await waiting;
    assert.equal(fn.config.read16(0), fn.identity.vendorId);
    if (constant !== undefined) {
      assert.equal(registers?.read32(constant.offset), value, "the window works as before");
      assert.equal(fn.bar(constant.bar).read32(constant.offset), value);
    }
    assert.equal(buffer.words[0], 7, "DMA memory stays");
    await fn.reset();
  });

  test("events reach listeners and iterators, and iterators end with the function", async (t) => {
    const { fn } = await open(t);
    const iterator = fn.events[Symbol.asyncIterator]();
    const first = iterator.next();
    if (fn.resetMethods.length > 0) {
      await fn.reset();
      const { value } = await first;
      assert.equal(value?.type, "reset");
    }
    await fn[Symbol.asyncDispose]();
    for (;;) if ((await iterator.next()).done === true) break;
  });

  test("a handle can be cloned", async (t) => {
    const { fn } = await open(t);
    const handle = fn.handle();
    const copy = structuredClone(handle);
    assert.deepEqual(copy.identity, fn.identity);
  });

  test("disposal may be repeated, and afterwards every access is an error", async (t) => {
    const { fn, constant } = await open(t);
    const { config, dma, interrupts, events } = fn;
    const bar = constant === undefined ? undefined : fn.bar(constant.bar);
    const registers = bar?.registers();
    const area = bar?.mappable[0];
    const window = area === undefined ? undefined : bar?.map(area);
    const buffer = dma.allocate(4096);
    const { msix, msi } = interrupts.available;
    const [interrupt] = msix > 0 ? interrupts.msix(1) : msi > 0 ? interrupts.msi(1) : [];
    const waiting = interrupt === undefined ? undefined : rejectsCode(interrupt.next(), "INTERRUPT_CLOSED");
    assert.equal(fn.gone.aborted, false);
    await Promise.all([fn[Symbol.asyncDispose](), fn[Symbol.asyncDispose]()]);
    await fn[Symbol.asyncDispose]();
    await waiting;
    assert.equal(fn.gone.aborted, true);
    assert.ok(isRing3Error(fn.gone.reason, "FUNCTION_CLOSED"));
    throwsCode(() => config.read16(0), "FUNCTION_CLOSED");
    throwsCode(() => config.write16(COMMAND, 0), "FUNCTION_CLOSED");
    throwsCode(() => fn.busMaster, "FUNCTION_CLOSED");
    throwsCode(() => dma.allocate(4096), "FUNCTION_CLOSED");
    throwsCode(() => interrupts.msix(1), "FUNCTION_CLOSED");
    throwsCode(() => buffer.bytes, "DMA_UNMAPPED");
    await rejectsCode(fn.reset(), "FUNCTION_CLOSED");
    await rejectsCode(fn.power.set("D0"), "FUNCTION_CLOSED");
    if (constant !== undefined) {
      throwsCode(() => bar?.read32(constant.offset), "FUNCTION_CLOSED", "REGION_REVOKED");
      throwsCode(() => registers?.read32(constant.offset), "REGION_REVOKED", "FUNCTION_CLOSED");
      throwsCode(() => bar?.map(), "FUNCTION_CLOSED");
    }
    throwsCode(() => window?.read32(0) ?? config.read8(0), "REGION_REVOKED", "FUNCTION_CLOSED");
    window?.[Symbol.dispose]();
    buffer[Symbol.dispose]();
    events.on("error", () => undefined)[Symbol.dispose]();
  });
}

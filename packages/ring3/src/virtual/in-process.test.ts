// A function in process keeps the whole contract of PciFunction, the devices behind it theirs; then what it adds.
// seconds: 1
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { rejectsCode, throwsCode } from "../../../../tests/contract/fixture.ts";
import { pciFunctionContract } from "../../../../tests/contract/pci-function.ts";
import { deviceContract } from "../../../../tests/contract/virtual-function.ts";
import { SAMPLE_CONSTANT, Sample, SampleDevice } from "../../../../tests/fakes/sample-device.ts";
import { EduDevice } from "../devices/edu/index.ts";
import { EduDriver } from "../drivers/edu/index.ts";
import { Arena } from "../memory/arena.ts";
import { ArenaWindow } from "../memory/window.ts";
import { ResizableBar } from "../pci/capabilities/resizable-bar.ts";
import type { PciFunction } from "../pci/function.ts";
import { Header, Header0 } from "../pci/header.ts";
import { aer } from "./capabilities/advanced-error-reporting.ts";
import { rebar } from "./capabilities/resizable-bar.ts";
import { inProcess, msi, pcie, VirtualFunction } from "./index.ts";

async function copy(fn: PciFunction, source: number, target: number, size: number): Promise<void> {
  const bar = fn.bar(0);
  bar.write64(Sample.SOURCE, BigInt(source));
  bar.write64(Sample.TARGET, BigInt(target));
  bar.write32(Sample.SIZE, size);
  bar.write32(Sample.COPY, 1);
}

pciFunctionContract("in process", async (t) => {
  const fn = inProcess(new SampleDevice());
  t.after(() => fn[Symbol.asyncDispose]());
  return {
    fn,
    constant: { bar: 0, offset: Sample.CONSTANT },
    scratch: { bar: 0, offset: Sample.SCRATCH, mask: 0xffff_ffff },
    copy: (source, target, size) => copy(fn, source, target, size),
  };
});

pciFunctionContract("in process, registers in plain memory", async (t) => {
  const fn = inProcess(new SampleDevice());
  t.after(() => fn[Symbol.asyncDispose]());
  return { fn, constant: { bar: 0, offset: Sample.MEMORY }, scratch: { bar: 0, offset: 0x1ffc, mask: 0xffff_ffff } };
});

deviceContract("sample device in process", async (t) => {
  const device = new SampleDevice();
  const fn = inProcess(device);
  t.after(() => device[Symbol.dispose]());
  return {
    fn,
    async work(user, buffer) {
      using source = user.dma.allocate(4096);
      source.bytes.fill(0x77);
      await new Promise((resolve) => setImmediate(resolve));
      await copy(user, source.iova, buffer.iova, 4096);
    },
    worked: ({ bytes }) => bytes.every((byte) => byte === 0x77),
    reopen: async () => inProcess(device),
    registers: [
      { bar: 0, offset: Sample.SCRATCH, write: 0x1234 },
      { bar: 0, offset: Sample.COPY },
    ],
    state: { save: async () => device.save(), restore: async (state) => device.restore(state) },
  };
});

for (const completion of ["poll", "intx", "msi"] as const) {
  test(`edu by ${completion}: the driver of the hardware runs over the device in software`, async () => {
    await using fn = inProcess(new EduDevice());
    await using edu = await EduDriver.start(fn, { completion });
    assert.deepEqual(await Promise.all([3, 0, 12].map((n) => edu.factorial(n))), [6, 1, 479_001_600]);
    await edu.store(7, Uint8Array.of(1, 2, 3));
    assert.deepEqual(await edu.load(7, 3), Uint8Array.of(1, 2, 3));
    await edu.reset();
    assert.equal(await edu.factorial(4), 24);
  });
}

describe("in process", () => {
  test("identity, address, and one user at a time", async () => {
    using device = new SampleDevice();
    const fn = inProcess(device, { address: "slot 3" });
    assert.equal(fn.identity.address, "slot 3");
    assert.equal(fn.identity.backend, "in-process");
    assert.equal(fn.identity.modelVersion, 1);
    throwsCode(() => inProcess(device), "FUNCTION_BUSY");
    await fn[Symbol.asyncDispose]();
    await inProcess(device)[Symbol.asyncDispose]();
  });

  test("interrupts of the device arrive, and the line fires until its cause is gone", async () => {
    await using fn = inProcess(new SampleDevice());
    const bar = fn.bar(0);
    fn.busMaster = true;
    const [, second] = fn.interrupts.msix(2);
    assert.ok(second !== undefined);
    const waiting = second.next();
    bar.write32(Sample.RAISE, 1);
    assert.equal(second.poll(), 1);
    bar.write32(Sample.RAISE, 1);
    assert.equal(await waiting, 1);
    fn.interrupts.disable();
    const line = fn.interrupts.intx();
    bar.write32(Sample.RAISE, 0);
    assert.equal(await line.next(), 1);
    line.unmask();
    assert.equal(await line.next(), 1, "still up");
    bar.write32(Sample.LOWER, 0);
    line.unmask();
    assert.equal(line.poll(), 0);
    fn.interrupts.disable();
    throwsCode(() => line.unmask(), "INTERRUPT_CLOSED");
  });

  test("without bus mastering no DMA and no message leaves the device", async () => {
    const device = new SampleDevice();
    await using fn = inProcess(device);
    using buffer = fn.dma.allocate(4096);
    const [interrupt] = fn.interrupts.msi(1);
    buffer.words[0] = 5;
    await copy(fn, buffer.iova, buffer.iova + 64, 4);
    assert.equal(fn.bar(0).read32(Sample.COPY), 1);
    fn.bar(0).write32(Sample.RAISE, 0);
    assert.equal(interrupt?.poll(), 0);
    fn.busMaster = true;
    await copy(fn, buffer.iova, buffer.iova + 64, 4);
    assert.equal(fn.bar(0).read32(Sample.COPY), 0);
    assert.equal(buffer.words[16], 5);
    assert.equal(device.memory.find(buffer.iova, 4096, "read")?.arenaOffset, buffer.arenaOffset);
  });

  test("windows follow decoding and power, and come back", async () => {
    await using fn = inProcess(new SampleDevice());
    const window = fn.bar(0).registers({ offset: Sample.MEMORY, size: 0x1000 });
    window.write32(0, 7);
    fn.config.write(Header.COMMAND, { MEMORY: 0 });
    throwsCode(() => window.read32(0), "REGION_DISABLED");
    throwsCode(() => fn.bar(0).map({ offset: Sample.MEMORY, size: 64 }), "REGION_DISABLED");
    fn.config.write(Header.COMMAND, { MEMORY: 1 });
    assert.equal(window.read32(0), 7);
    await fn.power.set("D3hot");
    throwsCode(() => window.write32(0, 0), "REGION_DISABLED");
    await fn.power.set("D0");
    assert.equal(window.read32(0), 0, "memory is lost with everything else");
  });

  test("removal is asked for, then taken", async () => {
    for (const patience of ["grace", "surprise"] as const) {
      const device = new SampleDevice();
      const fn = inProcess(device, { removalGraceMs: 5 });
      const told: string[] = [];
      fn.events.on("removal-requested", ({ graceMs }) => told.push(`asked ${graceMs}`));
      const gone = new Promise<string>((resolve) => fn.events.on("removed", ({ reason }) => resolve(reason)));
      const [interrupt] = fn.interrupts.msix(1);
      const waiting = rejectsCode(interrupt?.next() ?? Promise.reject(), "FUNCTION_REMOVED");
      const window = fn.bar(0).map({ offset: Sample.MEMORY, size: 64 });
      const alive = setInterval(() => undefined, 1000);
      if (patience === "grace") {
        device.requestRemoval();
        device.requestRemoval();
        assert.deepEqual(told, ["asked 5"]);
      } else device.remove("pulled out");
      assert.match(await gone, patience === "grace" ? /requested/ : /pulled out/);
      clearInterval(alive);
      await waiting;
      throwsCode(() => window.read32(0), "REGION_REVOKED");
      throwsCode(() => fn.config.read16(0), "FUNCTION_REMOVED");
      throwsCode(() => fn.bar(0).read32(0), "FUNCTION_REMOVED");
      assert.equal(device.memory.count, 0);
      await fn[Symbol.asyncDispose]();
    }
  });

  test("an error is told, and so is a reset by somebody else, after which registers answer again", async () => {
    const device = new SampleDevice({ capabilities: [pcie(), aer()] });
    await using fn = inProcess(device);
    const told: string[] = [];
    fn.events.on("error", ({ description }) => told.push(description));
    fn.events.on("recovered", () => told.push("recovered"));
    fn.config.write(Header.COMMAND, { SERR_ENABLE: 1 });
    device.injectError({ error: "DATA_LINK_PROTOCOL_ERROR" });
    assert.match(told.shift() ?? "", /DATA_LINK_PROTOCOL_ERROR \(fatal\)/);
    const registers = fn.bar(0).registers();
    device.reset("conventional");
    assert.deepEqual(told, ["recovered"]);
    assert.equal(registers.read32(Sample.CONSTANT), SAMPLE_CONSTANT);
  });

  test("power back to D0 gives a kernel's user its registers and interrupts back", async () => {
    await using fn = inProcess(new SampleDevice());
    fn.busMaster = true;
    fn.config.writeRaw(Header0.BAR0, 0xe000_0000);
    const base = fn.config.readRaw(Header0.BAR0);
    const [interrupt] = fn.interrupts.msix(1);
    await fn.power.set("D3hot");
    await fn.power.set("D3hot");
    await fn.power.set("D0");
    assert.equal(fn.config.readRaw(Header0.BAR0), base);
    assert.equal(fn.busMaster, true);
    fn.bar(0).write32(Sample.RAISE, 0);
    assert.equal(await interrupt?.next(), 1);
    await rejectsCode(fn.power.enterLowPower(), "NOT_SUPPORTED");
  });

  test("a resized BAR revokes its windows; new ones show its memory", async () => {
    const megabyte = 2 ** 20;
    const device = new SampleDevice({
      bars: { 0: { size: megabyte, memory: true } },
      capabilities: [pcie(), rebar({ bars: [{ bar: 0, sizes: [megabyte, 2 * megabyte] }] })],
    });
    await using fn = inProcess(device);
    const before = fn.bar(0).registers();
    before.write32(16, 7);
    fn.config.write(ResizableBar.CONTROL_0, { BAR_SIZE: 1 });
    throwsCode(() => before.read32(16), "REGION_REVOKED");
    assert.deepEqual(fn.bar(0).mappable, [{ offset: 0, size: 2 * megabyte }]);
    assert.equal(fn.bar(0).registers().read32(16), 7);
    assert.equal(fn.bar(0).read32(2 * megabyte - 4), 0);
  });

  test("a worker sees windows and buffers by the handle", async () => {
    await using fn = inProcess(new SampleDevice());
    fn.bar(0).registers({ offset: Sample.MEMORY, size: 0x1000 }).write32(8, 41);
    using buffer = fn.dma.allocate(4096);
    buffer.words[0] = 1;
    const handle = structuredClone(fn.handle());
    const arena = Arena.attach(handle.arena);
    const [window] = handle.windows;
    const [mapping] = handle.buffers;
    assert.ok(window !== undefined && mapping !== undefined);
    assert.equal(ArenaWindow.attach(arena, window.window).read32(8), 41);
    assert.equal(arena.words(mapping.arenaOffset, 1)[0], 1);
    assert.equal(mapping.iova, buffer.iova);
    arena.detach();
  });

  test("a device with doorbells in memory is looked at while somebody waits", async () => {
    class Bell extends VirtualFunction {
      protected override poll(): number {
        const words = this.bars[0]?.areas[0]?.range.words;
        if (words === undefined || words[0] === 0) return 0;
        words[0] = 0;
        this.interrupts.raise(0);
        return 1;
      }
    }
    const device = new Bell({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      bars: { 0: { size: 4096, memory: true } },
      capabilities: [msi()],
    });
    await using fn = inProcess(device);
    fn.busMaster = true;
    const [interrupt] = fn.interrupts.msi(1);
    const doorbells = fn.bar(0).registers();
    for (let round = 0; round < 3; round++) {
      const waiting = interrupt?.next({ timeoutMs: 10_000 });
      if (round === 2) await new Promise((resolve) => setTimeout(resolve, 30));
      doorbells.write32(0, 1);
      assert.equal(await waiting, 1);
    }
  });
});

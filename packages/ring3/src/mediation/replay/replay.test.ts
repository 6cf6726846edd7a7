// A driver is recorded against a device in process and runs again from the recording, where no device is.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryBacking } from "../../devices/block-backing.ts";
import { EduDevice } from "../../devices/edu/index.ts";
import { NvmeDevice } from "../../devices/nvme/index.ts";
import { EduDriver } from "../../drivers/edu/index.ts";
import { NvmeDriver, type NvmeOptions } from "../../drivers/nvme/index.ts";
import { knownRegisters } from "../../known-registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { inProcess } from "../../virtual/in-process.ts";
import type { TraceEvent } from "../trace/event.ts";
import { encodeTrace, parseTrace, type Trace } from "../trace/json-lines.ts";
import { traced } from "../trace/traced.ts";
import { departureText, ReplayDevice } from "./device.ts";
import type { ReplayOrder } from "./player.ts";

/** Records what `drive` does to `fn`, which is closed afterwards, and takes the recording through its text form. */
async function record(inner: PciFunction, drive: (fn: PciFunction) => Promise<void>): Promise<Trace> {
  const events: TraceEvent[] = [];
  const registers = knownRegisters(inner);
  const fn = traced(inner, { write: (event) => void events.push(event) }, { registers, memory: true });
  await drive(fn);
  await fn[Symbol.asyncDispose]();
  return parseTrace(encodeTrace({ header: { trace: 1, started: "2026-11-29T00:00:00.000Z" }, events }));
}

const newNvme = (): PciFunction => inProcess(new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }] }));
const pattern = Uint8Array.from({ length: 8192 }, (_, i) => (i * 11) & 0xff);

async function useDisk(fn: PciFunction, options: NvmeOptions = {}): Promise<Uint8Array> {
  await using nvme = await NvmeDriver.start(fn, {
    timeoutMs: 500,
    adminTimeoutMs: 500,
    abortTimeoutMs: 100,
    ...options,
  });
  const disk = nvme.namespace(1);
  await disk.write(4n, pattern);
  await disk.flush();
  return await disk.read(4n, 16);
}

for (const order of ["strict", "state"] as const satisfies readonly ReplayOrder[]) {
  for (const completion of ["polled", "interrupt", "adaptive"] as const) {
    test(`NVMe, ${order}, completions noticed ${completion}: the same driver gets the same data where no disk is`, async () => {
      const trace = await record(newNvme(), async (fn) => void (await useDisk(fn, { completion })));
      const device = new ReplayDevice(trace, { order });
      for (let client = 0; client < 2; client++) {
        await using fn = inProcess(device);
        assert.deepEqual(await useDisk(fn, { completion }), pattern);
        assert.equal(device.result.departure, undefined);
        assert.equal(device.result.missing, undefined);
      }
    });
  }
}

test("edu: interrupts, and DMA both ways", async () => {
  const drive = async (fn: PciFunction): Promise<number> => {
    await using edu = await EduDriver.start(fn);
    return await edu.factorial(6);
  };
  const trace = await record(inProcess(new EduDevice()), async (fn) => void (await drive(fn)));
  const device = new ReplayDevice(trace);
  await using fn = inProcess(device);
  assert.equal(await drive(fn), 720);
  assert.equal(device.result.departure, undefined);
});

test("a driver that writes something else to a register is told where, what was expected and what came", async () => {
  const trace = await record(newNvme(), async (fn) => void (await useDisk(fn)));
  const device = new ReplayDevice(trace);
  await using fn = inProcess(device);
  await assert.rejects(NvmeDriver.start(fn, { queueDepth: 16, adminTimeoutMs: 200, abortTimeoutMs: 50 }));
  const { departure } = device.result;
  assert.ok(departure !== undefined);
  assert.match(
    departureText(departure),
    /at access \d+ of the recording the driver departs: expected was mapping \d+ at 0x/,
  );
});

test("a driver that sends another command is told by the memory that it wrote", async () => {
  const trace = await record(newNvme(), async (fn) => void (await useDisk(fn)));
  const told: string[] = [];
  const device = new ReplayDevice(trace, { onDeparture: (departure) => void told.push(departureText(departure)) });
  await using fn = inProcess(device);
  await using nvme = await NvmeDriver.start(fn, { timeoutMs: 500, abortTimeoutMs: 100, shutdownTimeoutMs: 100 });
  // Block 5 instead of 4: the doorbell has the same value.
  await assert.rejects(nvme.namespace(1).write(5n, pattern));
  assert.match(
    told.join(),
    /expected was mapping \d+ at 0x[0-9a-f]+: 04.*; what came was mapping \d+ at 0x[0-9a-f]+: 05/,
  );
});

test("registers: polls may be more or fewer, independent writes may change places, others may not", async () => {
  const trace = await record(newNvme(), async (fn) => {
    const bar = fn.bar(0);
    bar.read32(0x1c);
    bar.write32(0x24, 0x001f_001f);
    bar.write32(0x28, 0x1000);
    bar.read32(0x1c);
    bar.write32(0x14, 0x0046_0000);
  });
  const drive = async (order: ReplayOrder, act: (bar: ReturnType<PciFunction["bar"]>) => void) => {
    const device = new ReplayDevice(trace, { order });
    await using fn = inProcess(device);
    act(fn.bar(0));
    return device.result;
  };
  const swapped = await drive("state", (bar) => {
    for (let i = 0; i < 5; i++) bar.read32(0x1c);
    bar.write32(0x28, 0x1000);
    bar.write32(0x24, 0x001f_001f);
    bar.write32(0x14, 0x0046_0000);
  });
  assert.deepEqual([swapped.departure, swapped.missing], [undefined, undefined]);
  const strict = await drive("strict", (bar) => {
    bar.read32(0x1c);
    bar.write32(0x28, 0x1000);
  });
  assert.deepEqual(strict.departure, {
    access: 2,
    expected: "write bar0 AQA = 0x001f001f",
    came: "write bar0 ASQ_LOW = 0x00001000",
  });
  const wrong = await drive("state", (bar) => bar.write32(0x14, 0x0046_0001));
  assert.deepEqual(wrong.departure, {
    access: 5,
    expected: "write bar0 CC = 0x00460000",
    came: "write bar0 CC = 0x00460001",
  });
  const short = await drive("state", (bar) => void bar.read32(0x1c));
  assert.equal(short.missing, "write bar0 AQA = 0x001f001f");
});

test("what cannot be replayed is refused", () => {
  const header = { trace: 1, started: "2026-11-29T00:00:00.000Z" };
  assert.throws(() => new ReplayDevice({ header, events: [] }), { code: "REPLAY_INVALID" });
});

test("what a driver does not look at does not hold up the device, and it finds what it would have found", async () => {
  const trace = await record(inProcess(new EduDevice()), async (fn) => {
    const bar = fn.bar(0);
    const [interrupt] = fn.interrupts.msi(1);
    fn.busMaster = true;
    bar.write32(0x20, 0x80);
    bar.read32(0x20);
    bar.write32(0x08, 5);
    bar.read32(0x20);
    await interrupt?.next();
    bar.read32(0x24);
    bar.write32(0x64, 1);
    bar.read32(0x24);
  });
  const device = new ReplayDevice(trace);
  await using fn = inProcess(device);
  const bar = fn.bar(0);
  const [interrupt] = fn.interrupts.msi(1);
  fn.busMaster = true;
  // Idle before the first access, and no look at STATUS.
  await new Promise((resolve) => setImmediate(resolve));
  bar.write32(0x20, 0x80);
  bar.write32(0x08, 5);
  assert.equal(await interrupt?.next({ timeoutMs: 5000 }), 1);
  assert.equal(bar.read32(0x20) & 0x80, 0x80);
  assert.equal(bar.read32(0x24), 1);
  bar.write32(0x64, 1);
  assert.equal(bar.read32(0x24), 0);
  assert.deepEqual([device.result.departure, device.result.missing], [undefined, undefined]);
});

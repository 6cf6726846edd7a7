// What is recorded of a driver at work, on a device in process: names, order, memory, the end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryBacking } from "../../devices/block-backing.ts";
import { EduDevice } from "../../devices/edu/index.ts";
import { NvmeDevice } from "../../devices/nvme/index.ts";
import { EduDriver } from "../../drivers/edu/index.ts";
import { NvmeDriver } from "../../drivers/nvme/index.ts";
import { knownRegisters } from "../../known-registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { isAccess, type TraceEvent } from "./event.ts";
import { eventText } from "./text.ts";
import { type TraceOptions, traced } from "./traced.ts";

function recorded(fn: PciFunction, options: TraceOptions = {}): { fn: PciFunction; events: TraceEvent[] } {
  const events: TraceEvent[] = [];
  const registers = knownRegisters(fn);
  return { fn: traced(fn, { write: (event) => void events.push(event) }, { registers, ...options }), events };
}

function newNvme(): PciFunction {
  return inProcess(new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }] }));
}

test("the start of an NVMe controller reads as the specification tells it", async () => {
  const { fn, events } = recorded(newNvme());
  const nvme = await NvmeDriver.start(fn);
  await nvme[Symbol.asyncDispose]();
  await fn[Symbol.asyncDispose]();
  const lines = events.filter((event) => event.type === "bar").map((event) => eventText(event, false));
  const enabled = lines.findIndex((line) => line.startsWith("write bar0 CC = 0x00460001"));
  assert.deepEqual(lines.slice(enabled - 6, enabled + 2), [
    "write bar0 AQA = 0x001f001f {ASQS 0x1f, ACQS 0x1f}",
    "write bar0 ASQ_LOW = 0x00000000",
    "write bar0 ASQ_HIGH = 0x00000001",
    "write bar0 ACQ_LOW = 0x00001000",
    "write bar0 ACQ_HIGH = 0x00000001",
    "write bar0 CC = 0x00460000 {IOSQES 0x6, IOCQES 0x4}",
    "write bar0 CC = 0x00460001 {EN 0x1, IOSQES 0x6, IOCQES 0x4}",
    "read  bar0 CSTS = 0x00000001 {RDY 0x1}",
  ]);
  assert.ok(lines.includes("write bar0 SQ0TDBL = 0x00000001"));
  assert.equal(events[0]?.type, "open");
  assert.equal(events.at(-1)?.type, "close");
  assert.equal(
    events.filter(({ type }) => type === "map").length,
    events.filter(({ type }) => type === "unmap").length,
  );
  const commands = events.filter((event) => event.type === "config").map((event) => eventText(event, false));
  assert.deepEqual(commands.slice(0, 2), [
    "read  config COMMAND = 0x0003 {IO 0x1, MEMORY 0x1}",
    "write config COMMAND = 0x0007 {IO 0x1, MEMORY 0x1, BUS_MASTER 0x1}",
  ]);
});

for (const completion of ["polled", "interrupt", "adaptive"] as const) {
  test(`memory is recorded by who wrote it, completions noticed ${completion}`, async () => {
    const { fn, events } = recorded(newNvme(), { memory: true });
    await using nvme = await NvmeDriver.start(fn, { completion });
    const pattern = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7) | 1);
    const before = events.length;
    await nvme.namespace(1).write(8n, pattern);
    assert.deepEqual(await nvme.namespace(1).read(8n, 8), pattern);
    const written = events.slice(before).filter((event) => event.type === "memory");
    const whole = written.filter(({ bytes }) => bytes.length > 1000);
    assert.deepEqual(
      whole.map(({ by }) => by),
      ["driver"],
      "the same memory is used for what is read, and the device writes there what is there",
    );
    assert.ok(
      written.some(({ by, bytes }) => by === "device" && bytes.length <= 16),
      "completions",
    );
    await fn[Symbol.asyncDispose]();
  });
}

test("edu: interrupts and transfers, each in its place", async () => {
  const { fn, events } = recorded(inProcess(new EduDevice()), { memory: true });
  {
    await using edu = await EduDriver.start(fn);
    assert.equal(await edu.factorial(5), 120);
  }
  await fn[Symbol.asyncDispose]();
  const kinds = events.flatMap((event) => {
    if (isAccess(event)) return event.type === "bar" ? [`${event.op} ${event.decoded?.register}`] : [];
    return event.type === "interrupt" ? [`interrupt ${event.kind}`] : [];
  });
  const at = kinds.indexOf("write FACTORIAL");
  const tail = kinds.slice(at, at + 5);
  assert.ok(tail.includes("interrupt msi") || tail.includes("read STATUS"), tail.join(", "));
});

test("a BAR that is named as passthrough is mapped and not seen", async () => {
  const device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }], mappableDoorbells: true });
  const { fn, events } = recorded(inProcess(device), { passthrough: [0] });
  assert.ok(fn.bar(0).mappable.length > 0);
  fn.bar(0).registers().read32(8);
  assert.equal(events.filter(({ type }) => type === "bar").length, 0);
  await fn[Symbol.asyncDispose]();
});

test("accesses that fail are recorded with their error", async () => {
  const { fn, events } = recorded(newNvme());
  assert.throws(() => fn.bar(0).read32(2), { code: "REGISTER_RANGE" });
  fn.config.write16(4, 0);
  assert.throws(() => fn.bar(0).write64(0, 1n), { code: "REGION_DISABLED" });
  const failed = events.filter((event) => isAccess(event) && event.error !== undefined);
  assert.deepEqual(
    failed.map((event) => eventText(event, false)),
    [
      "read  bar0 CAP_LOW[2] failed: REGISTER_RANGE",
      "write bar0 CAP_LOW+CAP_HIGH = 0x0000000000000001 {MQES 0x1} failed: REGION_DISABLED",
    ],
  );
  await fn[Symbol.asyncDispose]();
});

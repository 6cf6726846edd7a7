// The NVMe driver on QEMU's controller over the kernel's VFIO is recorded, and runs again from the recording where no device
// is; a driver that departs is told. Then the controller itself, with faults between it and the driver.
// timeout: 300
// kernels: any
// seconds: 9
import assert from "node:assert/strict";
import { test } from "node:test";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { knownCompletions, knownRegisters } from "../../../packages/ring3/src/known-registers.ts";
import { faulty } from "../../../packages/ring3/src/mediation/faults/index.ts";
import { departureText, ReplayDevice } from "../../../packages/ring3/src/mediation/replay/index.ts";
import {
  encodeTrace,
  parseTrace,
  type Trace,
  type TraceEvent,
  traced,
} from "../../../packages/ring3/src/mediation/trace/index.ts";
import type { PciFunction } from "../../../packages/ring3/src/pci/function.ts";
import { inProcess } from "../../../packages/ring3/src/virtual/in-process.ts";
import { FUNCTIONS } from "../machine.ts";

const { address } = FUNCTIONS.nvme;
const FIRST = 3000n;
const payload = Uint8Array.from({ length: 4096 }, (_, i) => (i * 13) & 0xff);

async function useDisk(fn: PciFunction): Promise<{ model: string; read: Uint8Array }> {
  await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
  const disk = nvme.namespace(1);
  await disk.write(FIRST, payload);
  await disk.flush();
  return { model: nvme.controller.MN, read: await disk.read(FIRST, 8) };
}

async function record(): Promise<Trace> {
  const events: TraceEvent[] = [];
  await using inner = await open(address);
  await using fn = traced(
    inner,
    { write: (event) => void events.push(event) },
    { registers: knownRegisters(inner), memory: true },
  );
  assert.deepEqual((await useDisk(fn)).read, payload);
  return parseTrace(encodeTrace({ header: { trace: 1, started: new Date().toISOString() }, events }));
}

test("recorded on QEMU's controller, replayed where there is none", async () => {
  const trace = await record();
  const device = new ReplayDevice(trace);
  {
    await using fn = inProcess(device);
    const { model, read } = await useDisk(fn);
    assert.match(model, /QEMU NVMe/);
    assert.deepEqual(read, payload);
    assert.deepEqual([device.result.departure, device.result.missing], [undefined, undefined]);
  }
  await using fn = inProcess(device);
  await using nvme = await NvmeDriver.start(fn, {
    completion: "interrupt",
    timeoutMs: 2000,
    abortTimeoutMs: 500,
    shutdownTimeoutMs: 500,
  });
  await assert.rejects(nvme.namespace(1).read(FIRST, 8));
  assert.ok(device.result.departure !== undefined);
  assert.match(
    departureText(device.result.departure),
    /at access \d+ .* expected was mapping \d+ at 0x.*what came was mapping/,
  );
});

test("faults between QEMU's controller and the driver are survived", async () => {
  const plan = {
    faults: [
      { kind: "lost-interrupt", vector: 1, at: 3, times: 2 },
      { kind: "bad-completion", field: "identifier", queue: 1, at: 12 },
      { kind: "stuck-bits", where: { register: "CSTS" }, set: 2, at: 8, times: 1 },
    ],
  } as const;
  const struck: string[] = [];
  await using inner = await open(address);
  await using fn = faulty(inner, plan, {
    registers: knownRegisters(inner),
    completions: knownCompletions(inner),
    onInjected: ({ kind }) => void struck.push(kind),
  });
  await using nvme = await NvmeDriver.start(fn, { completion: "interrupt", timeoutMs: 1000, abortTimeoutMs: 500 });
  const disk = nvme.namespace(1);
  const written = new Map<bigint, number>();
  for (let i = 0; i < 12; i++) {
    const block = FIRST + BigInt(i);
    try {
      await disk.write(block, new Uint8Array(512).fill(i + 1));
      written.set(block, i + 1);
    } catch {
      // An error is an answer; the block may hold either.
    }
  }
  for (const [block, value] of written)
    assert.ok(
      (await disk.read(block, 1)).every((byte) => byte === value),
      `block ${block}`,
    );
  assert.ok(written.size >= 8 && struck.includes("bad-completion") && struck.includes("lost-interrupt"), struck.join());
});

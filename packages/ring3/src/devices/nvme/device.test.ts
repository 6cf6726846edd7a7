// The controller under its own driver, against a plain array; its state moved elsewhere; its map of registers.
// seconds: 1
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { HeldBacking } from "../../../../../tests/fakes/held-backing.ts";
import { NvmeHost, turns } from "../../../../../tests/fakes/nvme-host.ts";
import { NvmeDriver, type NvmeOptions } from "../../drivers/nvme/index.ts";
import { goldenMap } from "../../virtual/golden.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { memoryBacking, NvmeDevice, type NvmeDeviceOptions, nullBacking } from "./index.ts";

const MIB = 2 ** 20;

async function driven(
  body: (nvme: NvmeDriver, device: NvmeDevice) => Promise<void>,
  options: Partial<NvmeDeviceOptions> = {},
  driver: NvmeOptions = {},
): Promise<void> {
  const device = new NvmeDevice({
    namespaces: [{ backing: memoryBacking(MIB) }, { backing: memoryBacking(MIB), blockSize: 4096 }],
    ...options,
  });
  const faults: string[] = [];
  device.events.on("fault", ({ description }) => faults.push(description));
  await using fn = inProcess(device);
  {
    await using nvme = await NvmeDriver.start(fn, driver);
    await body(nvme, device);
  }
  assert.deepEqual(faults, []);
}

const configurations: readonly (readonly [string, Partial<NvmeDeviceOptions>, NvmeOptions])[] = [
  ["polled", {}, { completion: "polled" }],
  ["MSI-X", {}, { interrupts: "msix", completion: "interrupt", ioQueues: 3 }],
  ["MSI", {}, { interrupts: "msi", completion: "interrupt" }],
  ["INTx", {}, { interrupts: "intx", completion: "interrupt" }],
  ["mapped doorbells", { mappableDoorbells: true }, { ioQueues: 2 }],
  ["wide doorbells", { doorbellStride: 4 }, {}],
  ["SGLs", {}, { dataPointers: "sgl" }],
  ["few entries", { maxQueueEntries: 4, maxTransferBytes: 8192 }, {}],
  ["a disk that takes its time", { namespaces: slowNamespaces() }, { ioQueues: 2 }],
];

function slowNamespaces(): NvmeDeviceOptions["namespaces"] {
  return [512, 4096].map((blockSize) => {
    const bytes = memoryBacking(MIB);
    const later = <T>(act: () => T): Promise<T> => new Promise((resolve) => setImmediate(() => resolve(act())));
    return {
      blockSize: blockSize as 512 | 4096,
      backing: {
        sizeBytes: MIB,
        read: (offset, target, cancellation) =>
          later(() => (cancellation?.aborted === true ? undefined : bytes.read(offset, target))) as Promise<void>,
        write(offset, source) {
          const copy = source.slice();
          return later(() => bytes.write(offset, copy)) as Promise<void>;
        },
        flush: () => later(() => undefined),
        discard: (offset, size) => later(() => bytes.discard?.(offset, size)) as Promise<void>,
      },
    };
  });
}

type Operation =
  | { readonly kind: "read" | "zeroes" | "deallocate" | "verify"; readonly first: number; readonly count: number }
  | { readonly kind: "write" | "compare"; readonly first: number; readonly count: number; readonly seed: number };

for (const [name, options, driver] of configurations) {
  test(`${name}: any sequence of commands does what it would do to an array`, () =>
    driven(
      async (nvme) => {
        for (const namespace of nvme.namespaces) {
          const { blockSize } = namespace;
          const total = Number(namespace.blocks);
          const model = new Uint8Array(MIB);
          // Memory keeps its content from run to run, so the array does too.
          const place = fc
            .tuple(fc.nat(total - 1), fc.integer({ min: 1, max: Math.min(total, Math.ceil(40_000 / blockSize)) }))
            .map(([first, count]) => ({ first, count: Math.min(count, total - first) }));
          const operation = fc.oneof(
            fc.record({
              kind: fc.constantFrom("read" as const, "zeroes" as const, "deallocate" as const, "verify" as const),
              place,
            }),
            fc.record({ kind: fc.constantFrom("write" as const, "compare" as const), place, seed: fc.nat(255) }),
          );
          await fc.assert(
            fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
              for (const { place: where, ...rest } of operations) {
                await apply(nvme, namespace.id, model, { ...where, ...rest }, blockSize);
              }
            }),
            { numRuns: 8 },
          );
          await namespace.flush();
          assert.deepEqual(await namespace.read(0n, total), model);
        }
      },
      options,
      driver,
    ));
}

async function apply(
  nvme: NvmeDriver,
  id: number,
  model: Uint8Array,
  operation: Operation,
  blockSize: number,
): Promise<void> {
  const namespace = nvme.namespace(id);
  const { first, count } = operation;
  const [from, to] = [first * blockSize, (first + count) * blockSize];
  switch (operation.kind) {
    case "read":
      assert.ok(Buffer.from(await namespace.read(first, count)).equals(model.subarray(from, to)));
      break;
    case "write": {
      const bytes = new Uint8Array(to - from).map((_, i) => i * 7 + operation.seed);
      model.set(bytes, from);
      await namespace.write(first, bytes);
      break;
    }
    case "compare": {
      const bytes = model.slice(from, to);
      await namespace.compare(first, bytes);
      bytes[operation.seed % bytes.length] = (bytes[operation.seed % bytes.length] as number) + 1;
      await assert.rejects(namespace.compare(first, bytes), /COMPARE_FAILURE/);
      break;
    }
    case "zeroes":
      model.fill(0, from, to);
      await namespace.writeZeroes(first, count);
      break;
    case "deallocate":
      model.fill(0, from, to);
      await namespace.deallocate([{ first, count }]);
      break;
    case "verify":
      await namespace.verify(first, count);
  }
}

test("the driver's other calls: identifiers, logs, features, events, reset", () =>
  driven(async (nvme, device) => {
    assert.equal(nvme.queues.limit, 16);
    const [first, second] = [await nvme.identifiers(1), await nvme.identifiers(2)];
    assert.deepEqual(
      first.map(({ kind }) => kind),
      [2, 3, 4],
    );
    assert.notDeepEqual(first, second);
    await assert.rejects(nvme.features.setFeature(0x06, 1), /INVALID_FIELD/);
    assert.equal((await nvme.errorLog()).length, 1);
    assert.equal((await nvme.firmwareLog()).AFI, 1);
    const noticed = new Promise((resolve) => nvme.events.on("asynchronous-event", resolve));
    device.setNamespace(5, { backing: memoryBacking(8192) });
    assert.deepEqual(await noticed, { type: 2, information: 0, logPage: 4 });
    await nvme.refreshNamespaces();
    assert.equal(nvme.namespace(5).blocks, 16n);
    device.removeNamespace(5);
    await assert.rejects(nvme.namespace(5).read(0n, 1), /INVALID_NAMESPACE/);
    await nvme.namespace(1).write(3n, new Uint8Array(512).fill(3));
    await nvme.reset();
    assert.equal((await nvme.namespace(1).read(3n, 1))[0], 3);
  }));

test("resets under load lose nothing", () =>
  driven(
    async (nvme) => {
      const namespace = nvme.namespace(1);
      let failed = 0;
      const workers = Array.from({ length: 8 }, async (_, worker) => {
        for (let round = 0; round < 30; round++) {
          const at = worker * 64 + (round % 64);
          const bytes = new Uint8Array(512).fill(worker * 30 + round);
          await namespace.write(at, bytes);
          const found = await namespace.read(at, 1);
          if (!found.every((byte) => byte === bytes[0])) failed++;
        }
      });
      for (let i = 0; i < 5; i++) {
        await turns(20);
        await nvme.reset();
      }
      await Promise.all(workers);
      assert.equal(failed, 0);
    },
    { namespaces: slowNamespaces() },
  ));

// --- State --------------------------------------------------------------------------------------------------------------

for (const move of ["in the middle of work", "after suspending"] as const) {
  test(`state moves to another controller ${move}; each command completes once`, async () => {
    const disk = new HeldBacking(MIB);
    for (let i = 0; i < MIB; i++) disk.bytes[i] = i >>> 9;
    const options: NvmeDeviceOptions = { namespaces: [{ backing: disk }], serialNumber: "moved" };
    const device = new NvmeDevice(options);
    await using fn = inProcess(device);
    const host = new NvmeHost(fn);
    host.enable();
    await host.ok({ opcode: 0x09, cdw10: 0x01, cdw11: 0x0102_0303 });
    await host.createPair(1, 8);
    host.post({ opcode: 0x0c });
    host.ring();
    const data = fn.dma.allocate(8192);
    const read = host.post({ opcode: 0x02, nsid: 1, prp1: data.iova, cdw10: 9 }, 1);
    const flush = host.post({ opcode: 0x00, nsid: 1 }, 1);
    host.ring(1);
    if (move === "after suspending") {
      const suspended = device.suspend();
      await turns();
      disk.holding = false;
      disk.release();
      await suspended;
      assert.deepEqual(disk.done, ["read", "flush", "flush"], "what was taken is done, and durable");
    }
    const unseen = host.post({ opcode: 0x02, nsid: 1, prp1: data.iova + 4096, cdw10: 8 }, 1);
    const state = device.save();
    // A source that dies: what was under way ends there without a trace.
    device.config.write(4, 2, 2);
    disk.release();
    await turns();
    assert.equal(data.bytes[0], move === "after suspending" ? 9 : 0);

    const other = new NvmeDevice(options);
    disk.holding = false;
    const seen: number[] = [];
    other.connect({ name: "the other side" });
    for (const map of device.memory.maps())
      other.memory.map(map.iova, map.size, map.permission, { ...(map.bytes && { bytes: map.bytes }) });
    other.restore(state);
    other.barWrite32(0, 0x1008, 3);
    await turns();
    for (let done = host.reap(1); done !== undefined; done = host.reap(1)) {
      assert.equal(done.status, 0);
      seen.push(done.identifier);
    }
    assert.deepEqual(seen, [read, flush, unseen]);
    assert.deepEqual([data.bytes[0], data.bytes[4096]], [9, 8]);
    assert.equal(other.barRead32(0, 0x1c), 1);
    // The event request moved too.
    other.temperature = 400;
    await turns();
    assert.equal(host.reap()?.dw0, undefined, "health events were not asked for");
    other.barWrite32(0, 0x1000 + 8 * 40, 1);
    assert.equal(host.reap()?.dw0, 0x0001_0000);
  });
}

test("a state of another disk, or none, is refused", () => {
  const device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(MIB) }] });
  const state = device.save();
  const other = new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 * MIB) }] });
  assert.throws(() => other.restore(state), /STATE_MISMATCH.*1: 2048 x 512.*1: 4096 x 512/);
  assert.throws(() => other.restore(state.subarray(0, state.length - 5)), /STATE_INVALID/);
  const same = new NvmeDevice({ namespaces: [{ backing: memoryBacking(MIB) }] });
  same.restore(state);
  assert.deepEqual(same.save(), state);
});

test("damaged states are refused or taken, never a crash", () => {
  const options: NvmeDeviceOptions = { namespaces: [{ backing: memoryBacking(MIB) }] };
  const state = new NvmeDevice(options).save();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(state.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      (changes) => {
        const damaged = state.slice();
        for (const [at, value] of changes) damaged[at] = value;
        try {
          new NvmeDevice(options).restore(damaged);
        } catch (error) {
          assert.match(String(error), /STATE_/);
        }
      },
    ),
    { numRuns: 100 },
  );
});

// --- What it looks like ---------------------------------------------------------------------------------------------

test("version 1 looks to drivers as it always did", () => {
  const golden = readFileSync(new URL("./golden-1.txt", import.meta.url), "utf8");
  assert.equal(goldenMap(new NvmeDevice({ namespaces: [{ backing: memoryBacking(4096) }] }).declaration), golden);
});

test("options that make no sense are refused", () => {
  const backing = memoryBacking(MIB);
  for (const [options, code] of [
    [{ ioQueues: 65 }, /NVME_OPTION.*ioQueues/],
    [{ maxQueueEntries: 1 }, /NVME_OPTION/],
    [{ maxTransferBytes: 12_000 }, /NVME_OPTION.*power of two/],
    [{ serialNumber: "x".repeat(21) }, /NVME_OPTION/],
    [{ namespaces: [{ backing: memoryBacking(511) }] }, /BACKING_INVALID.*truncate/],
    [{ namespaces: [{ backing: nullBacking(Number.NaN) }] }, /BACKING_INVALID/],
    [{ namespaces: [{ backing, blockSize: 1024 as 512 }] }, /NVME_OPTION/],
  ] as const) {
    assert.throws(() => new NvmeDevice({ namespaces: [{ backing }], ...options }), code);
  }
});

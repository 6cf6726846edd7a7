// Admin commands byte by byte: what each returns, and which status each mistake gets (NVMe base 2.0, section 5).
import assert from "node:assert/strict";
import { test } from "node:test";
import { NvmeHost, turns } from "../../../../../tests/fakes/nvme-host.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { memoryBacking, NvmeDevice, type NvmeDeviceOptions } from "./index.ts";

async function enabled(
  body: (host: NvmeHost, device: NvmeDevice) => Promise<void>,
  options: Partial<NvmeDeviceOptions> = {},
  entries = 16,
): Promise<void> {
  const device = new NvmeDevice({
    namespaces: [{ backing: memoryBacking(2 ** 20) }, { backing: memoryBacking(2 ** 20), blockSize: 4096 }],
    ...options,
  });
  const faults: string[] = [];
  device.events.on("fault", ({ description }) => faults.push(description));
  await using fn = inProcess(device);
  const host = new NvmeHost(fn);
  host.enable(entries);
  assert.equal(host.csts, 1);
  await body(host, device);
  assert.deepEqual(
    faults.filter((fault) => !fault.startsWith("DMA_FAULT")),
    [],
  );
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const text = (bytes: Uint8Array, at: number, size: number): string =>
  String.fromCharCode(...bytes.subarray(at, at + size)).trimEnd();

test("registers say what the specification gives", async () => {
  const device = new NvmeDevice({ namespaces: [], maxQueueEntries: 256, doorbellStride: 2 });
  await using fn = inProcess(device);
  const bar = fn.bar(0);
  // MQES 255, CQR, TO 15 s; DSTRD 2, NSSRS, command sets NVM and "all", MPSMAX 64 KiB, CRMS.
  assert.equal(bar.read32(0), 0x1e01_00ff);
  assert.equal(bar.read32(4), 0x0840_0832);
  assert.equal(bar.read64(0), 0x0840_0832_1e01_00ffn);
  assert.equal(bar.read32(8), 0x0002_0000);
  assert.equal(bar.read32(0x14), 0);
  assert.equal(bar.read32(0x1c), 0);
  assert.equal(bar.read16(2), 0x1e01, "narrower reads are lanes");
  bar.write32(0x28, 0x1234_5fff);
  assert.equal(bar.read32(0x28), 0x1234_5000, "the low bits of ASQ are reserved");
  bar.write32(0x0c, 0x8000_0001);
  assert.equal(bar.read32(0x10), 0x8000_0001);
  bar.write32(0x10, 1);
  assert.equal(bar.read32(0x0c), 0x8000_0000);
  assert.equal(bar.size, 0x4000);
});

test("identify: controller, namespaces, lists, descriptors", () =>
  enabled(
    async (host, device) => {
      const controller = await host.page({ opcode: 0x06, cdw10: 1 });
      assert.equal(view(controller).getUint16(0, true), 0x1234);
      assert.equal(text(controller, 4, 20), "serial 9");
      assert.equal(text(controller, 24, 40), "ring3 NVMe");
      assert.equal(controller[77], 7, "MDTS: 128 pages");
      assert.equal(view(controller).getUint32(80, true), 0x0002_0000);
      assert.deepEqual([...controller.subarray(512, 514)], [0x66, 0x44]);
      assert.equal(view(controller).getUint16(520, true), 0xdd, "ONCS without copy and uncorrectable");
      assert.equal(view(controller).getUint16(256, true), 0x100, "OACS: doorbell buffer config alone");
      assert.match(
        text(controller, 768, 80).replaceAll("\0", ""),
        /^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f-]{36}$/,
      );

      const namespace = await host.page({ opcode: 0x06, nsid: 2, cdw10: 0 });
      assert.equal(view(namespace).getBigUint64(0, true), 256n);
      assert.equal(view(namespace).getUint32(128, true), 12 << 16);
      const list = await host.page({ opcode: 0x06, nsid: 1, cdw10: 2 });
      assert.deepEqual([view(list).getUint32(0, true), view(list).getUint32(4, true)], [2, 0]);
      const descriptors = await host.page({ opcode: 0x06, nsid: 1, cdw10: 3 });
      assert.deepEqual([...descriptors.subarray(0, 2)], [2, 16]);
      assert.deepEqual([...descriptors.subarray(20, 22)], [3, 16]);
      assert.deepEqual([...descriptors.subarray(40, 46)], [4, 1, 0, 0, 0, 0]);
      // An inactive namespace is all zeros; one that cannot be is refused.
      assert.ok((await host.page({ opcode: 0x06, nsid: 77, cdw10: 0 })).every((byte) => byte === 0));
      assert.equal(await host.status({ opcode: 0x06, nsid: 257, cdw10: 0 }), 0x00b);
      assert.equal(await host.status({ opcode: 0x06, nsid: 0xffff_ffff, cdw10: 0 }), 0x00b);
      assert.equal(await host.status({ opcode: 0x06, nsid: 0xffff_ffff, cdw10: 2 }), 0x00b);
      assert.equal(await host.status({ opcode: 0x06, nsid: 77, cdw10: 3 }), 0x00b);
      assert.equal(await host.status({ opcode: 0x06, cdw10: 0x20 }), 0x002);
      assert.equal((await host.page({ opcode: 0x06, nsid: 1, cdw10: 8 }))[14], 1, "ready");
      assert.equal((await host.page({ opcode: 0x06, cdw10: 0x1c }))[0], 1, "NVM alone");
      assert.ok(
        (await host.page({ opcode: 0x06, cdw10: 6 })).every((byte) => byte === 0),
        "no limits",
      );
      assert.equal(await host.status({ opcode: 0x06, cdw10: 6, cdw11: 2 * 2 ** 24 }), 0x002, "zoned is not there");
      device.removeNamespace(1);
      const after = await host.page({ opcode: 0x06, nsid: 0, cdw10: 7 });
      assert.deepEqual([view(after).getUint32(0, true), view(after).getUint32(4, true)], [2, 0]);
    },
    { serialNumber: "serial 9" },
  ));

test("what is not offered is an invalid opcode", () =>
  enabled(async (host) => {
    for (const opcode of [0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x80, 0x81, 0x82, 0x84, 0xc0]) {
      const { field } = await host.execute({ opcode });
      assert.equal(field & 0x47ff, 0x4001, `${opcode.toString(16)}: invalid opcode, do not retry`);
    }
    assert.equal(await host.status({ opcode: 0x06, flags: 0x40, cdw10: 1 }), 0x002, "no SGL in admin commands");
    assert.equal(await host.status({ opcode: 0x06, flags: 0x01, cdw10: 1 }), 0x002, "nothing is fused");
  }));

test("queues: every mistake has its status", () =>
  enabled(
    async (host) => {
      const memory = host.fn.dma.allocate(4096 * 4);
      const cq = { opcode: 0x05, prp1: memory.iova, cdw11: 1 };
      const sq = { opcode: 0x01, prp1: memory.iova };
      const size = (entries: number, id: number): number => ((entries - 1) << 16) | id;
      assert.equal(await host.status({ ...cq, cdw10: size(8, 0) }), 0x101);
      assert.equal(await host.status({ ...cq, cdw10: size(8, 5) }), 0x101, "four queues are there");
      assert.equal(await host.status({ ...cq, cdw10: size(1, 1) }), 0x102);
      assert.equal(await host.status({ ...cq, cdw10: size(65, 1) }), 0x102);
      assert.equal(await host.status({ ...cq, cdw10: size(8, 1), cdw11: 0 }), 0x002, "must be contiguous");
      assert.equal(await host.status({ ...cq, cdw10: size(8, 1), prp1: memory.iova + 64 }), 0x013);
      assert.equal(
        await host.status({ ...cq, cdw10: size(8, 1), cdw11: 3 | (1 << 16) }),
        0x108,
        "the line is one vector",
      );
      assert.equal(await host.status({ ...cq, cdw10: size(8, 1) }), 0);
      assert.equal(await host.status({ ...cq, cdw10: size(8, 1) }), 0x101, "in use");
      assert.equal(await host.status({ ...sq, cdw10: size(8, 1), cdw11: 1 }), 0x101, "not the admin queue");
      assert.equal(await host.status({ ...sq, cdw10: size(8, 1), cdw11: 1 | (9 << 16) }), 0x101);
      assert.equal(await host.status({ ...sq, cdw10: size(8, 1), cdw11: 1 | (2 << 16) }), 0x100, "not created");
      assert.equal(await host.status({ ...sq, cdw10: size(1, 1), cdw11: 1 | (1 << 16) }), 0x102);
      assert.equal(await host.status({ ...sq, cdw10: size(8, 1), cdw11: 1 << 16 }), 0x002);
      assert.equal(await host.status({ ...sq, cdw10: size(8, 1), cdw11: 1 | (1 << 16) }), 0);
      assert.equal(await host.status({ ...sq, cdw10: size(8, 2), cdw11: 1 | (1 << 16) }), 0, "two share one");
      assert.equal(await host.status({ opcode: 0x04, cdw10: 1 }), 0x10c, "still in use");
      assert.equal(await host.status({ opcode: 0x00, cdw10: 3 }), 0x101);
      assert.equal(await host.status({ opcode: 0x00, cdw10: 0 }), 0x101);
      assert.equal(await host.status({ opcode: 0x00, cdw10: 1 }), 0);
      assert.equal(await host.status({ opcode: 0x00, cdw10: 2 }), 0);
      assert.equal(await host.status({ opcode: 0x04, cdw10: 1 }), 0);
      assert.equal(await host.status({ opcode: 0x04, cdw10: 1 }), 0x101);
      // Entry sizes that are not set: CC without IOSQES and IOCQES.
      host.fn.bar(0).write32(0x14, 1);
      assert.equal(await host.status({ ...cq, cdw10: size(8, 1) }), 0x102);
    },
    { ioQueues: 4, maxQueueEntries: 64 },
  ));

test("features: values, defaults, capabilities, and what is refused", () =>
  enabled(async (host) => {
    const get = (fid: number, select = 0, extra = {}) =>
      host.execute({ opcode: 0x0a, cdw10: fid | (select << 8), ...extra });
    const set = (fid: number, value: number, extra = {}) =>
      host.execute({ opcode: 0x09, cdw10: fid, cdw11: value, ...extra });
    assert.equal((await set(0x07, 0x0003_0003)).dw0, 0x003f_003f, "64 queues of each kind");
    assert.equal((await set(0x07, 0xffff_0003)).status, 0x002);
    assert.equal((await get(0x07)).dw0, 0x003f_003f);
    await host.createPair(1);
    assert.equal((await set(0x07, 0x0003_0003)).status, 0x00c, "too late");
    assert.equal((await set(0x01, 0xffff_ffff)).status, 0);
    assert.equal((await get(0x01)).dw0, 0xffff_ff07);
    assert.equal((await get(0x01, 1)).dw0, 7);
    assert.equal((await get(0x01, 3)).dw0, 4, "changeable, neither saveable nor of a namespace");
    assert.equal((await set(0x02, 1)).status, 0x002, "one power state");
    assert.equal((await set(0x02, 0x20)).status, 0);
    assert.equal((await get(0x04)).dw0, 343);
    assert.equal((await get(0x04, 0, { cdw11: 1 << 20 })).dw0, 0);
    assert.equal((await get(0x04, 0, { cdw11: 3 << 16 })).status, 0x002, "no such sensor");
    assert.equal((await set(0x05, 0x1_0000, { nsid: 1 })).status, 0x002, "DULBE is not offered");
    assert.equal((await set(0x05, 9, { nsid: 1 })).status, 0);
    assert.equal((await get(0x05, 0, { nsid: 9 })).status, 0x00b);
    assert.equal((await get(0x05, 3)).dw0, 6);
    assert.equal((await set(0x06, 1)).status, 0x002, "no cache over memory");
    assert.equal((await set(0x08, 0x0304)).status, 0);
    assert.equal((await get(0x08)).dw0, 0x0304);
    assert.equal((await set(0x09, 0x1_0002)).status, 0);
    assert.equal((await get(0x09, 0, { cdw11: 2 })).dw0, 0x1_0002);
    assert.equal((await get(0x09, 0, { cdw11: 3 })).dw0, 3);
    assert.equal((await get(0x09, 0, { cdw11: 65 })).status, 0x002);
    assert.equal((await set(0x0b, 0xffff_ffff)).status, 0);
    assert.equal((await get(0x0b)).dw0, 0x1ff);
    assert.equal((await set(0x0f, 1)).status, 0x002, "no keep alive");
    assert.equal((await set(0x01, 0, { cdw10: 0x8000_0001 })).status, 0x10d, "nothing can be saved");
    assert.equal((await set(0x01, 0, { nsid: 1 })).status, 0x10f);
    assert.equal((await set(0x01, 0, { nsid: 0xffff_ffff })).status, 0);
    assert.equal((await set(0x19, 1)).status, 0x12b);
    const memory = host.fn.dma.allocate(4096);
    view(memory.bytes).setBigUint64(0, 1_700_000_000_000n, true);
    assert.equal((await set(0x0e, 0, { prp1: memory.iova })).status, 0);
    memory.bytes.fill(0);
    assert.equal((await get(0x0e, 0, { prp1: memory.iova })).status, 0);
    const stamp = view(memory.bytes).getBigUint64(0, true);
    assert.equal(stamp >> 48n, 2n, "set by the host");
    assert.ok((stamp & (2n ** 48n - 1n)) - 1_700_000_000_000n < 60_000n);
  }));

test("a volatile write cache is a feature where there is one", () =>
  enabled(
    async (host) => {
      assert.equal((await host.page({ opcode: 0x06, cdw10: 1 }))[525], 7);
      assert.equal(await host.ok({ opcode: 0x0a, cdw10: 0x06 }), 1);
      await host.ok({ opcode: 0x09, cdw10: 0x06, cdw11: 0 });
      assert.equal(await host.ok({ opcode: 0x0a, cdw10: 0x06 }), 0);
    },
    { writeCache: true },
  ));

test("log pages: errors, health, firmware, effects; offsets and sizes", () =>
  enabled(async (host) => {
    const log = (page: number, extra = {}) => host.page({ opcode: 0x02, cdw10: page | (1023 << 16), ...extra });
    await host.execute({ opcode: 0xc0, nsid: 5 });
    await host.execute({ opcode: 0x0d, nsid: 6 });
    const errors = await log(0x01);
    assert.equal(view(errors).getBigUint64(0, true), 2n, "the newest first");
    assert.equal(view(errors).getUint16(12, true) >>> 1, 0x6001, "invalid opcode, do not retry, more");
    assert.equal(view(errors).getUint32(24, true), 6);
    assert.equal(view(errors).getBigUint64(64, true), 1n);
    assert.equal(view(errors).getBigUint64(128, true), 0n);
    const shifted = await log(0x01, { cdw12: 64 });
    assert.equal(view(shifted).getBigUint64(0, true), 1n, "from an offset");
    const health = await log(0x02, { nsid: 0xffff_ffff });
    assert.equal(view(health).getUint16(1, true), 308);
    assert.equal(view(health).getBigUint64(176, true), 2n);
    assert.equal((await log(0x03))[0], 1);
    assert.equal(text(await log(0x03), 8, 8), "1.0");
    const effects = await log(0x05);
    assert.equal(view(effects).getUint32(4 * 0x06, true), 1);
    assert.equal(view(effects).getUint32(4 * 0x80, true), 0);
    assert.equal(view(effects).getUint32(1024 + 4, true), 3, "write changes blocks");
    assert.equal(view(await log(0x12)).getUint32(4 * 0x0e, true), 0x0020_0001);
    assert.equal(view(await log(0x00)).getUint32(4 * 5, true), 1);
    assert.equal(await host.status({ opcode: 0x02, cdw10: 0x7f }), 0x109);
    assert.equal(await host.status({ opcode: 0x02, cdw10: 0x02, nsid: 1 }), 0x002, "not per namespace");
    assert.equal(await host.status({ opcode: 0x02, cdw10: 0x02, cdw12: 3 }), 0x002);
    assert.equal(await host.status({ opcode: 0x02, cdw10: 0x02, cdw12: 516 }), 0x002);
    assert.equal(await host.status({ opcode: 0x02, cdw10: 0x02, cdw11: 0xffff }), 0x002, "more than a command moves");
  }));

test("asynchronous events wait for a request, and silence their kind until the page is read", () =>
  enabled(async (host, device) => {
    await host.ok({ opcode: 0x09, cdw10: 0x0b, cdw11: 0x1ff });
    const first = host.post({ opcode: 0x0c });
    host.ring();
    await turns();
    assert.equal(host.reap(), undefined);
    device.temperature = 350;
    const event = await host.completion();
    assert.deepEqual([event.identifier, event.dw0], [first, 0x0002_0101]);
    device.temperature = 300;
    device.temperature = 351;
    device.setNamespace(3, { backing: memoryBacking(4096) });
    host.post({ opcode: 0x0c });
    host.ring();
    assert.equal((await host.completion()).dw0, 0x0004_0002, "another kind comes");
    host.post({ opcode: 0x0c });
    host.ring();
    await turns();
    assert.equal(host.reap(), undefined, "the health event is silent until its page is read");
    const page = host.fn.dma.allocate(4096);
    host.post({ opcode: 0x02, cdw10: 0x02 | (127 << 16), prp1: page.iova });
    host.ring();
    const both = [await host.completion(), await host.completion()];
    assert.deepEqual(
      both.map(({ dw0 }) => dw0).sort((a, b) => a - b),
      [0, 0x0002_0101],
    );
    const changed = await host.page({ opcode: 0x02, cdw10: 0x04 | (1023 << 16) });
    assert.equal(view(changed).getUint32(0, true), 3);
    assert.equal(view(await host.page({ opcode: 0x02, cdw10: 0x04 | (1023 << 16) })).getUint32(0, true), 0);
  }));

test("at most eight event requests; abort gives one back", () =>
  enabled(async (host) => {
    const posted = Array.from({ length: 8 }, () => host.post({ opcode: 0x0c }));
    host.ring();
    await turns();
    assert.equal(host.reap(), undefined);
    assert.equal(await host.status({ opcode: 0x0c }), 0x105);
    host.post({ opcode: 0x08, cdw10: (posted[3] as number) << 16 });
    host.ring();
    const answers = [await host.completion(), await host.completion()];
    assert.deepEqual(
      answers.map(({ identifier, status, dw0 }) => (identifier === posted[3] ? ["aborted", status] : ["abort", dw0])),
      [
        ["aborted", 0x007],
        ["abort", 0],
      ],
    );
    assert.equal(await host.ok({ opcode: 0x08, cdw10: 0x7777_0000 }), 1, "no such command");
    assert.equal(await host.status({ opcode: 0x08, cdw10: 9 }), 0x002, "no such queue");
  }));

test("doorbells that make no sense are reported and change nothing", () =>
  enabled(async (host) => {
    await host.createPair(1, 4);
    const bar = host.fn.bar(0);
    const ask = async (): Promise<number> => {
      host.post({ opcode: 0x0c });
      host.ring();
      const { dw0 } = await host.completion();
      const page = host.fn.dma.allocate(4096);
      await host.ok({ opcode: 0x02, cdw10: 0x01 | (15 << 16), prp1: page.iova });
      return dw0;
    };
    bar.write32(0x1000 + 8 * 9, 1);
    assert.equal(await ask(), 0x0001_0000, "no such queue");
    bar.write32(0x1000 + 8, 4);
    assert.equal(await ask(), 0x0001_0100, "beyond the queue");
    bar.write32(0x1000 + 12, 2);
    assert.equal(await ask(), 0x0001_0100, "nothing to take");
    assert.equal(await host.status({ opcode: 0x00, nsid: 1 }, 1), 0, "the queue works");
  }));

test("errors of the admin queue's memory, or of its registers, are fatal until a reset", async () => {
  const device = new NvmeDevice({ namespaces: [] });
  await using fn = inProcess(device);
  const host = new NvmeHost(fn);
  host.enable();
  fn.bar(0).write32(0x14, 0);
  assert.equal(host.csts, 0);
  // One entry is no queue.
  fn.bar(0).write32(0x24, 0x000f_0000);
  fn.bar(0).write32(0x14, 0x0046_0001);
  assert.equal(host.csts, 2);
  fn.bar(0).write32(0x14, 0);
  assert.equal(host.csts, 0);
  for (const cc of [5 << 7, 1 << 11, 1 << 4]) {
    host.enable(16, cc);
    assert.equal(host.csts & 2, 2, "pages, arbitration, command set");
    fn.bar(0).write32(0x14, 0);
  }
  host.enable(16, 6 << 4);
  assert.equal(host.csts, 1, "all command sets");
  fn.bar(0).write32(0x14, 0);
  // A submission queue that nobody mapped.
  fn.bar(0).write32(0x2c, 0x7f);
  fn.bar(0).write32(0x24, 0x000f_000f);
  fn.bar(0).write32(0x14, 0x0046_0001);
  assert.equal(host.csts, 1);
  fn.bar(0).write32(0x1000, 1);
  assert.equal(host.csts, 3, "ready, fatal");
  fn.bar(0).write32(0x1000, 2);
  await fn.reset();
  assert.equal(host.csts, 0);
  assert.equal(fn.bar(0).read32(0x24), 0);
  host.enable();
  assert.equal(await host.status({ opcode: 0x0a, cdw10: 1 }), 0);
});

test("the subsystem reset says that it happened", () =>
  enabled(async (host) => {
    const bar = host.fn.bar(0);
    bar.write32(0x20, 0x1234_5678);
    assert.equal(host.csts, 1);
    bar.write32(0x20, 0x4e56_4d65);
    assert.equal(host.csts, 0x10);
    assert.equal(bar.read32(0x28), 0);
    bar.write32(0x1c, 0x10);
    assert.equal(host.csts, 0);
  }));

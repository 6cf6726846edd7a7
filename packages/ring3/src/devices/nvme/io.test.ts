// I/O commands: data by PRPs and SGLs, every status of a mistake, what happens while the backing is at work, interrupts.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HeldBacking } from "../../../../../tests/fakes/held-backing.ts";
import { NvmeHost, type RawCommand, turns } from "../../../../../tests/fakes/nvme-host.ts";
import type { DmaBuffer } from "../../pci/function.ts";
import { type InProcessFunction, inProcess } from "../../virtual/in-process.ts";
import { memoryBacking, NvmeDevice, type NvmeDeviceOptions, nullBacking } from "./index.ts";

const READ = 0x02;
const WRITE = 0x01;
const MIB = 2 ** 20;

interface Scene {
  readonly host: NvmeHost;
  readonly fn: InProcessFunction;
  readonly device: NvmeDevice;
  readonly content: Uint8Array;
}

/** A controller with one I/O queue over 1 MiB of memory, and whatever `options` say. */
async function running(body: (scene: Scene) => Promise<void>, options: Partial<NvmeDeviceOptions> = {}): Promise<void> {
  const content = new Uint8Array(MIB);
  for (let i = 0; i < content.length; i++) content[i] = (i >>> 9) + (i & 0xff);
  const device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(content) }], ...options });
  await using fn = inProcess(device);
  const host = new NvmeHost(fn);
  host.enable();
  await host.createPair(1, 64);
  await body({ host, fn, device, content });
}

const sgl = (kind: number, address: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(address), true);
  view.setUint32(8, length, true);
  view.setUint8(15, kind);
  return bytes;
};
const prpList = (buffer: DmaBuffer, at: number, entries: readonly number[]): void => {
  const view = new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset, buffer.bytes.length);
  for (const [i, entry] of entries.entries()) view.setBigUint64(at + 8 * i, BigInt(entry), true);
};
const blocks = (count: number): { cdw12: number } => ({ cdw12: count - 1 });

test("PRPs: inside a page, two pages, a list, a list over two pages", () =>
  running(async ({ host, fn, content }) => {
    const data = fn.dma.allocate(MIB);
    const list = fn.dma.allocate(8192);
    const read = (command: Partial<RawCommand>): Promise<number> =>
      host.status({ opcode: READ, nsid: 1, ...command }, 1);
    assert.equal(await read({ prp1: data.iova + 512, ...blocks(3), cdw10: 5 }), 0);
    assert.deepEqual(data.bytes.slice(512, 512 + 1536), content.slice(5 * 512, 8 * 512));
    data.bytes.fill(0);
    assert.equal(await read({ prp1: data.iova + 2048, prp2: data.iova + 65536, ...blocks(12) }), 0);
    assert.deepEqual(data.bytes.slice(2048, 4096), content.slice(0, 2048));
    assert.deepEqual(data.bytes.slice(65536, 65536 + 4096), content.slice(2048, 6144));
    // Pages in reverse order, by a list that starts just before a page's end and goes on in the next.
    const pages = Array.from({ length: 20 }, (_, i) => data.iova + (40 - i) * 4096);
    const [first, ...rest] = pages as [number, ...number[]];
    prpList(list, 4096 - 24, [...rest.slice(0, 2), list.iova + 4096]);
    prpList(list, 4096, rest.slice(2));
    assert.equal(await read({ prp1: first, prp2: list.iova + 4096 - 24, ...blocks(160) }), 0);
    for (const [i, page] of pages.entries()) {
      const at = page - data.iova;
      assert.deepEqual(data.bytes.slice(at, at + 4096), content.slice(i * 4096, (i + 1) * 4096), `page ${i}`);
    }
  }));

test("PRPs that are wrong", () =>
  running(async ({ host, fn }) => {
    const data = fn.dma.allocate(MIB);
    const list = fn.dma.allocate(4096);
    const read = (command: Partial<RawCommand>): Promise<number> =>
      host.status({ opcode: READ, nsid: 1, ...command }, 1);
    assert.equal(await read({ prp1: data.iova + 2, ...blocks(1) }), 0x013);
    assert.equal(await read({ prp1: data.iova, prp2: data.iova + 4096 + 512, ...blocks(16) }), 0x013);
    assert.equal(await read({ prp1: data.iova, prp2: list.iova + 4, ...blocks(32) }), 0x013);
    prpList(list, 0, [data.iova + 4096, data.iova + 8192 + 4]);
    assert.equal(await read({ prp1: data.iova, prp2: list.iova, ...blocks(32) }), 0x013);
    assert.equal(await read({ prp1: 2 ** 45, ...blocks(1) }), 0x004);
    assert.equal(await read({ prp1: data.iova, prp2: 2 ** 45, ...blocks(32) }), 0x004, "the list itself");
    assert.equal(await read({ prp1: 2 ** 63, ...blocks(1) }), 0x004);
    prpList(list, 4088, [list.iova + 4088]);
    assert.equal(await read({ prp1: data.iova, prp2: list.iova + 4088, ...blocks(32) }), 0x013, "points to itself");
    using writeOnly = fn.dma.allocate(4096, { permission: "write" });
    using readOnly = fn.dma.allocate(4096, { permission: "read" });
    assert.equal(await read({ prp1: readOnly.iova, ...blocks(1) }), 0x004);
    assert.equal(await read({ prp1: writeOnly.iova, ...blocks(1) }), 0);
    assert.equal(await host.status({ opcode: WRITE, nsid: 1, prp1: writeOnly.iova }, 1), 0x004);
  }));

test("SGLs: one block, segments, bit buckets, and lists that are wrong", () =>
  running(async ({ host, fn, content }) => {
    const data = fn.dma.allocate(65536);
    const list = fn.dma.allocate(8192);
    const read = (pointer: Uint8Array, count: number, command: Partial<RawCommand> = {}): Promise<number> =>
      host.status({ opcode: READ, nsid: 1, flags: 0x40, pointer, ...blocks(count), ...command }, 1);
    const put = (at: number, ...descriptors: Uint8Array[]): void => {
      for (const [i, bytes] of descriptors.entries()) list.bytes.set(bytes, at + 16 * i);
    };
    assert.equal(await read(sgl(0, data.iova + 3, 1024), 2), 0, "any alignment");
    assert.deepEqual(data.bytes.slice(3, 1027), content.slice(0, 1024));
    // A segment, then a last segment; 100 bytes into a bucket.
    put(0, sgl(0, data.iova + 10_000, 512), sgl(0x10, 0, 100), sgl(0x30, list.iova + 4096, 32));
    put(4096, sgl(0, data.iova + 20_000, 0), sgl(0, data.iova + 30_000, 9999));
    assert.equal(await read(sgl(0x20, list.iova, 48), 2), 0);
    assert.deepEqual(data.bytes.slice(10_000, 10_512), content.slice(0, 512));
    assert.deepEqual(data.bytes.slice(30_000, 30_412), content.slice(612, 1024));
    assert.equal(data.bytes[30_412], 0, "no more than the command transfers");
    assert.equal(await read(sgl(0, data.iova, 511), 1), 0x00f);
    assert.equal(await read(sgl(0x40, data.iova, 512), 1), 0x011, "keyed");
    assert.equal(await read(sgl(0x01, data.iova, 512), 1), 0x011, "an offset");
    assert.equal(await read(sgl(0x30, list.iova, 0), 1), 0x00d);
    assert.equal(await read(sgl(0x30, list.iova, 24), 1), 0x00d);
    put(0, sgl(0, data.iova, 512));
    assert.equal(await read(sgl(0x20, list.iova, 16), 1), 0x00d, "a segment that is not the last ends with the next");
    put(0, sgl(0x30, list.iova, 16), sgl(0, data.iova, 512));
    assert.equal(await read(sgl(0x20, list.iova, 32), 1), 0x00d, "a segment before the end");
    put(0, sgl(0x20, list.iova, 16));
    assert.equal(await read(sgl(0x20, list.iova, 16), 1), 0x00e, "a circle");
    assert.equal(await read(sgl(0x30, list.iova, 0xffff_fff0), 1), 0x00e);
    assert.equal(await read(sgl(0x30, 2 ** 45, 32), 1), 0x004);
    assert.equal(await read(sgl(0, data.iova, 512), 1, { flags: 0xc0 }), 0x002, "a reserved kind of pointer");
    put(0, sgl(0x10, 0, 512), sgl(0, data.iova + 40_000, 512));
    assert.equal(await read(sgl(0x30, list.iova, 32), 1, { opcode: WRITE }), 0, "a bucket gives no data");
    assert.deepEqual(content.slice(0, 512), data.bytes.slice(40_000, 40_512));
  }));

test("commands that are wrong", () =>
  running(
    async ({ host, fn }) => {
      const data = fn.dma.allocate(MIB);
      const status = (command: RawCommand): Promise<number> => host.status({ prp1: data.iova, ...command }, 1);
      assert.equal(await status({ opcode: READ, nsid: 0 }), 0x00b);
      assert.equal(await status({ opcode: READ, nsid: 9 }), 0x00b);
      assert.equal(await status({ opcode: READ, nsid: 0xffff_ffff }), 0x00b);
      assert.equal(await status({ opcode: READ, nsid: 1, cdw10: 2048 }), 0x080);
      assert.equal(await status({ opcode: READ, nsid: 1, cdw10: 2047, ...blocks(2) }), 0x080);
      assert.equal(await status({ opcode: READ, nsid: 1, cdw11: 1 }), 0x080);
      assert.equal(await status({ opcode: READ, nsid: 1, cdw10: 0xffff_ffff, cdw11: 0xffff_ffff }), 0x080);
      assert.equal(await status({ opcode: READ, nsid: 1, ...blocks(17) }), 0x002, "MDTS is 8 KiB");
      assert.equal(await status({ opcode: 0x04, nsid: 1 }), 0x001, "write uncorrectable");
      assert.equal(await status({ opcode: 0x19, nsid: 1 }), 0x001, "copy");
      assert.equal(await status({ opcode: READ, nsid: 1, flags: 1 }), 0x002, "fused");
      assert.equal(await status({ opcode: WRITE, nsid: 2 }), 0x020, "write protected");
      assert.equal(await status({ opcode: 0x08, nsid: 2 }), 0x020);
      assert.equal(await status({ opcode: READ, nsid: 2 }), 0);
      assert.equal(await status({ opcode: 0x00, nsid: 7 }), 0x00b);
      assert.equal(await status({ opcode: 0x00, nsid: 0xffff_ffff }), 0, "flush of all");
      data.bytes.fill(0);
      new DataView(data.bytes.buffer, data.bytes.byteOffset).setUint32(4, 3000, true);
      assert.equal(await status({ opcode: 0x09, nsid: 1, cdw11: 4 }), 0x080);
      const page = await host.page({ opcode: 0x06, nsid: 2 });
      assert.equal(page[99], 1, "NSATTR");
    },
    {
      maxTransferBytes: 8192,
      namespaces: [{ backing: memoryBacking(MIB) }, { backing: memoryBacking(MIB), readOnly: true }],
    },
  ));

test("compare, write zeroes, deallocate, verify; 4096-byte blocks", () =>
  running(
    async ({ host, fn }) => {
      const data = fn.dma.allocate(16_384);
      const run = (command: RawCommand): Promise<number> => host.status({ nsid: 1, prp1: data.iova, ...command }, 1);
      data.bytes.fill(0x5a);
      assert.equal(await run({ opcode: WRITE, cdw10: 3 }), 0);
      assert.equal(await run({ opcode: 0x05, cdw10: 3 }), 0);
      data.bytes[4095] = 1;
      assert.equal(await run({ opcode: 0x05, cdw10: 3 }), 0x285);
      assert.equal(await run({ opcode: 0x08, cdw10: 3 }), 0);
      data.bytes.fill(0);
      assert.equal(await run({ opcode: 0x05, cdw10: 3 }), 0);
      assert.equal(await run({ opcode: 0x0c, cdw10: 0, ...blocks(256) }), 0);
      assert.equal(await run({ opcode: 0x0c, cdw10: 255, ...blocks(2) }), 0x080);
      data.bytes.fill(0x77, 0, 4096);
      assert.equal(await run({ opcode: WRITE, cdw10: 255 }), 0);
      // Two ranges: nothing at 0, one block at 255.
      data.bytes.fill(0, 0, 32);
      data.bytes.set([1, 0, 0, 0, 255], 20);
      assert.equal(await run({ opcode: 0x09, cdw10: 1, cdw11: 4 }), 0);
      data.bytes.fill(0);
      assert.equal(await run({ opcode: 0x05, cdw10: 255 }), 0);
    },
    { namespaces: [{ backing: memoryBacking(MIB), blockSize: 4096 }] },
  ));

test("null keeps nothing, yet checks where data would go", () =>
  running(
    async ({ host, fn, device }) => {
      const data = fn.dma.allocate(4096);
      data.bytes.fill(9);
      assert.equal(await host.status({ opcode: READ, nsid: 1, prp1: data.iova, ...blocks(8) }, 1), 0);
      assert.equal(data.bytes[0], 9);
      assert.equal(await host.status({ opcode: READ, nsid: 1, prp1: 2 ** 40 }, 1), 0x004);
      assert.deepEqual(device.statistics, {
        readCommands: 2,
        writeCommands: 0,
        bytesRead: 4608,
        bytesWritten: 0,
        errors: 1,
      });
    },
    { namespaces: [{ backing: nullBacking(2 ** 50) }] },
  ));

test("queues wrap, and a full completion queue holds commands back", () =>
  running(async ({ host, fn }) => {
    const data = fn.dma.allocate(4096);
    await host.createPair(2, 4);
    // Only the completion queue is never acknowledged: three fit.
    let completed = 0;
    for (let i = 0; i < 3; i++) host.post({ opcode: READ, nsid: 1, prp1: data.iova }, 2);
    host.ring(2);
    while (host.reap(2) !== undefined) completed++;
    assert.equal(completed, 3);
    for (let i = 0; i < 3; i++) host.post({ opcode: READ, nsid: 1, prp1: data.iova }, 2);
    host.ring(2);
    await turns();
    assert.equal(host.reap(2), undefined, "no room for a fourth");
    host.acknowledge(2);
    await turns();
    while (host.reap(2) !== undefined) completed++;
    assert.equal(completed, 6);
    host.acknowledge(2);
    for (let i = 0; i < 200; i++) assert.equal(await host.status({ opcode: READ, nsid: 1, prp1: data.iova }, 2), 0);
  }));

test("every queue size: the phase turns at the end", () =>
  fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 200 }),
      fc.integer({ min: 2, max: 200 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 }),
      (submission, completion, bursts) =>
        running(async ({ host, fn }) => {
          const data = fn.dma.allocate(4096);
          const queue = { ...host.newQueue(Math.max(submission, completion)) };
          const size = (entries: number): number => ((entries - 1) << 16) | 2;
          await host.ok({ opcode: 0x05, prp1: queue.completion.iova, cdw10: size(completion), cdw11: 1 });
          await host.ok({ opcode: 0x01, prp1: queue.submission.iova, cdw10: size(submission), cdw11: 1 | (2 << 16) });
          const words = queue.submission.words;
          const answers = queue.completion.words;
          let tail = 0;
          let head = 0;
          let phase = 1;
          let identifier = 0;
          for (const burst of bursts) {
            const count = Math.min(burst, submission - 1, completion - 1);
            for (let i = 0; i < count; i++) {
              words.fill(0, tail * 16, tail * 16 + 16);
              words[tail * 16] = READ | ((identifier + i) << 16);
              words[tail * 16 + 1] = 1;
              words[tail * 16 + 6] = data.iova % 2 ** 32;
              words[tail * 16 + 7] = Math.floor(data.iova / 2 ** 32);
              tail = (tail + 1) % submission;
            }
            fn.bar(0).write32(0x1010, tail);
            for (let i = 0; i < count; i++) {
              const last = answers[head * 4 + 3] as number;
              assert.equal(last, ((phase << 16) | (identifier + i)) >>> 0);
              if (++head === completion) {
                head = 0;
                phase ^= 1;
              }
            }
            assert.equal(answers[((head + completion - 1) % completion) * 4 + 2], ((2 << 16) | tail) >>> 0);
            identifier += count;
            fn.bar(0).write32(0x1014, head);
          }
        }),
    ),
    { numRuns: 25 },
  ));

test("a page size of 16 KiB changes what a PRP names", () =>
  running(async ({ fn, device, content }) => {
    await fn.reset();
    const host = new NvmeHost(fn);
    // Queues and PRPs are aligned to 16 KiB.
    host.enable(256, 2 << 7);
    assert.equal(host.csts, 1);
    const data = fn.dma.allocate(65536, { alignment: 2 ** 21 });
    const queue = { submission: data.iova, completion: data.iova + 16_384 };
    assert.equal(await host.status({ opcode: 0x05, prp1: data.iova + 4096, cdw10: (7 << 16) | 1, cdw11: 1 }), 0x013);
    assert.equal(await host.status({ opcode: 0x05, prp1: queue.completion, cdw10: (7 << 16) | 1, cdw11: 1 }), 0);
    assert.equal(await host.status({ opcode: 0x01, prp1: queue.submission, cdw10: (7 << 16) | 1, cdw11: 0x1_0001 }), 0);
    data.words[0] = READ;
    data.words[1] = 1;
    data.words[6] = (data.iova + 32_768) % 2 ** 32;
    data.words[7] = Math.floor(data.iova / 2 ** 32);
    data.words[12] = 31;
    fn.bar(0).write32(0x1008, 1);
    assert.equal((data.words[4096 + 3] as number) >>> 16, 1);
    assert.deepEqual(data.bytes.slice(32_768, 49_152), content.slice(0, 16_384));
    assert.equal(device.statistics.bytesRead, 16_384);
  }));

// --- While the backing is at work -----------------------------------------------------------------------------------

async function holding(
  body: (scene: Scene & { readonly disk: HeldBacking; readonly data: DmaBuffer }) => Promise<void>,
): Promise<void> {
  const disk = new HeldBacking(MIB);
  for (let i = 0; i < MIB; i++) disk.bytes[i] = i >>> 9;
  await running(
    async (scene) => {
      const data = scene.fn.dma.allocate(65536);
      await body({ ...scene, disk, data });
      disk.holding = false;
      disk.release();
      await turns();
    },
    { namespaces: [{ backing: disk }] },
  );
}

test("completions come in the order in which the backing ends", () =>
  holding(async ({ host, disk, data }) => {
    const first = host.post({ opcode: READ, nsid: 1, prp1: data.iova, cdw10: 7 }, 1);
    const second = host.post({ opcode: 0x00, nsid: 1 }, 1);
    host.ring(1);
    await turns();
    assert.equal(host.reap(1), undefined);
    assert.deepEqual(
      disk.held.map(({ kind }) => kind),
      ["read", "flush"],
    );
    disk.held.reverse();
    disk.release(1);
    assert.equal((await host.completion(1)).identifier, second);
    disk.release(1);
    const done = await host.completion(1);
    assert.deepEqual([done.identifier, done.status, done.sqHead], [first, 0, 2]);
    assert.equal(data.bytes[511], 7);
  }));

test("force unit access, and a cache that is off, flush before the write is reported", () =>
  holding(async ({ host, disk, data }) => {
    disk.holding = false;
    await host.ok({ opcode: WRITE, nsid: 1, prp1: data.iova }, 1);
    assert.deepEqual(disk.done.splice(0), ["write"]);
    await host.ok({ opcode: WRITE, nsid: 1, prp1: data.iova, cdw12: 0x4000_0000 }, 1);
    assert.deepEqual(disk.done.splice(0), ["write", "flush"]);
    await host.ok({ opcode: 0x09, cdw10: 6, cdw11: 0 });
    await host.ok({ opcode: WRITE, nsid: 1, prp1: data.iova }, 1);
    await host.ok({ opcode: 0x08, nsid: 1 }, 1);
    await host.ok({ opcode: 0x08, nsid: 1, cdw12: 1 << 25 }, 1);
    assert.deepEqual(disk.done.splice(0), ["write", "flush", "zero", "flush", "discard", "flush"]);
  }));

test("what the backing says reaches the host as the right status", () =>
  holding(async ({ host, disk, data }) => {
    for (const [opcode, errno, status] of [
      [WRITE, "ENOSPC", 0x081],
      [WRITE, "EDQUOT", 0x081],
      [WRITE, "EIO", 0x280],
      [WRITE, "EROFS", 0x020],
      [READ, "EIO", 0x281],
      [0x00, "EIO", 0x280],
      [0x05, "EIO", 0x281],
      [0x08, "ENOSPC", 0x081],
    ] as const) {
      host.post({ opcode, nsid: 1, prp1: data.iova }, 1);
      host.ring(1);
      disk.fail(errno);
      assert.equal((await host.completion(1)).status, status, `${opcode} ${errno}`);
    }
  }));

test("a read is aborted and leaves memory alone; a write under way is not", () =>
  holding(async ({ host, disk, data }) => {
    const read = host.post({ opcode: READ, nsid: 1, prp1: data.iova, cdw10: 9 }, 1);
    const write = host.post({ opcode: WRITE, nsid: 1, prp1: data.iova + 4096, cdw10: 20 }, 1);
    host.ring(1);
    assert.equal(await host.ok({ opcode: 0x08, cdw10: 1 | (read << 16) }), 0);
    const aborted = await host.completion(1);
    assert.deepEqual([aborted.identifier, aborted.status], [read, 0x007]);
    assert.equal(await host.ok({ opcode: 0x08, cdw10: 1 | (write << 16) }), 1, "not aborted");
    disk.release();
    assert.equal((await host.completion(1)).identifier, write);
    await turns();
    assert.equal(host.reap(1), undefined);
    assert.equal(data.bytes[0], 0, "nothing of the aborted read arrived");
  }));

test("deleting a queue aborts its reads and waits for its writes", () =>
  holding(async ({ host, disk, data }) => {
    const read = host.post({ opcode: READ, nsid: 1, prp1: data.iova }, 1);
    const write = host.post({ opcode: WRITE, nsid: 1, prp1: data.iova }, 1);
    host.ring(1);
    const deletion = host.post({ opcode: 0x00, cdw10: 1 });
    host.ring();
    const aborted = await host.completion(1);
    assert.deepEqual([aborted.identifier, aborted.status], [read, 0x008]);
    await turns();
    assert.equal(host.reap(), undefined, "the write is still under way");
    assert.equal(await host.status({ opcode: 0x00, cdw10: 1 }), 0x101, "only once");
    disk.release();
    assert.equal((await host.completion(1)).identifier, write);
    assert.equal((await host.completion()).identifier, deletion);
    assert.equal(await host.status({ opcode: 0x04, cdw10: 1 }), 0);
  }));

for (const kind of ["controller", "function", "subsystem"] as const) {
  test(`a ${kind} reset in flight: nothing completes late, nothing is written late, ready when all is quiet`, () =>
    holding(async ({ host, fn, disk, data }) => {
      host.post({ opcode: READ, nsid: 1, prp1: data.iova, cdw10: 9 }, 1);
      host.post({ opcode: WRITE, nsid: 1, prp1: data.iova + 4096, cdw10: 20 }, 1);
      host.ring(1);
      const bar = fn.bar(0);
      const completions = host.queues.get(1)?.completion.words ?? assert.fail();
      if (kind === "controller") bar.write32(0x14, 0x0046_0000);
      else if (kind === "function") await fn.reset();
      else bar.write32(0x20, 0x4e56_4d65);
      assert.equal(host.csts & 1, kind === "controller" ? 1 : 0, "RDY falls when the backing is done");
      if (kind !== "controller") {
        host.enable();
        assert.equal(host.csts & 3, 0, "and rises no sooner");
      }
      disk.release(1);
      await turns();
      assert.equal(host.csts & 1, kind === "controller" ? 1 : 0);
      disk.release(1);
      await turns();
      assert.equal(host.csts & 1, kind === "controller" ? 0 : 1);
      assert.ok(
        completions.every((word) => word === 0),
        "nothing completed",
      );
      assert.equal(data.bytes[0], 0, "nothing was written");
      disk.holding = false;
      if (kind === "controller") host.enable();
      assert.equal(host.csts & 1, 1);
      await host.createPair(1);
      await host.ok({ opcode: READ, nsid: 1, prp1: data.iova, cdw10: 9 }, 1);
      assert.equal(data.bytes[0], 9);
    }));
}

test("memory unmapped under a read ends it as a failed transfer, and stays untouched", () =>
  holding(async ({ host, fn, disk }) => {
    const buffer = fn.dma.allocate(4096);
    const { bytes } = buffer;
    host.post({ opcode: READ, nsid: 1, prp1: buffer.iova, cdw10: 9 }, 1);
    host.ring(1);
    buffer[Symbol.dispose]();
    assert.equal((await host.completion(1)).status, 0x004);
    disk.release();
    await turns();
    assert.equal(bytes[0], 0);
    assert.equal(host.reap(1), undefined);
  }));

test("a shutdown flushes before it says that it is complete", () =>
  holding(async ({ host, fn, disk }) => {
    fn.bar(0).write32(0x14, 0x0046_4001);
    assert.equal(host.csts, 5, "ready, occurring");
    assert.deepEqual(
      disk.held.map(({ kind }) => kind),
      ["flush"],
    );
    disk.release();
    await turns();
    assert.equal(host.csts, 9, "complete");
    fn.bar(0).write32(0x14, 0);
    assert.equal(host.csts, 0);
  }));

test("bus mastering off holds everything; on again, commands under way are done anew", () =>
  holding(async ({ host, fn, disk, data }) => {
    const read = host.post({ opcode: READ, nsid: 1, prp1: data.iova, cdw10: 9 }, 1);
    host.ring(1);
    fn.busMaster = false;
    disk.release();
    await turns();
    assert.equal(data.bytes[0], 0);
    host.post({ opcode: READ, nsid: 1, prp1: data.iova + 4096, cdw10: 8 }, 1);
    host.ring(1);
    await turns();
    assert.equal(disk.held.length, 0, "nothing is fetched");
    disk.holding = false;
    fn.busMaster = true;
    assert.equal((await host.completion(1)).identifier, read);
    assert.equal((await host.completion(1)).status, 0);
    assert.deepEqual([data.bytes[0], data.bytes[4096]], [9, 8]);
  }));

// --- Interrupts -----------------------------------------------------------------------------------------------------

test("MSI-X: one message for each batch, on the queue's own vector", () =>
  running(async ({ host, fn }) => {
    const vectors = fn.interrupts.msix(3);
    await host.createPair(2, 16, 2);
    await turns();
    for (const vector of vectors) vector.poll();
    for (let i = 0; i < 5; i++) host.post({ opcode: 0x00, nsid: 1 }, 2);
    host.ring(2);
    await turns();
    assert.deepEqual(
      vectors.map((vector) => vector.poll()),
      [0, 0, 1],
    );
    // Queue 1 was created without an interrupt.
    host.post({ opcode: 0x00, nsid: 1 }, 1);
    host.ring(1);
    await turns();
    assert.deepEqual(
      vectors.map((vector) => vector.poll()),
      [0, 0, 0],
    );
  }));

test("MSI: masked by INTMS, sent at INTMC while entries are left", () =>
  running(async ({ host, fn }) => {
    const vectors = fn.interrupts.msi(4);
    await host.createPair(2, 16, 3);
    assert.equal(await host.status({ opcode: 0x05, prp1: 4096, cdw10: (7 << 16) | 3, cdw11: 3 | (4 << 16) }), 0x108);
    fn.bar(0).write32(0x0c, 8);
    host.post({ opcode: 0x00, nsid: 1 }, 2);
    host.ring(2);
    await turns();
    assert.equal(vectors[3]?.poll(), 0);
    fn.bar(0).write32(0x10, 8);
    await turns();
    assert.equal(vectors[3]?.poll(), 1);
    assert.equal((await host.completion(2)).status, 0);
    fn.bar(0).write32(0x0c, 8);
    await host.ok({ opcode: 0x00, nsid: 1 }, 2);
    fn.bar(0).write32(0x10, 8);
    await turns();
    assert.equal(vectors[3]?.poll(), 0, "the host has seen everything");
  }));

test("INTx: up while entries are left, down when they are taken, masked by INTMS", () =>
  running(async ({ host, fn, device }) => {
    const line = fn.interrupts.intx();
    await host.createPair(2, 16, 0);
    const up = (): boolean => device.interrupts.asserted;
    assert.equal(up(), false);
    host.post({ opcode: 0x00, nsid: 1 }, 2);
    host.post({ opcode: 0x00, nsid: 1 }, 2);
    host.ring(2);
    assert.equal(up(), true);
    host.reap(2);
    host.acknowledge(2);
    assert.equal(up(), true, "one is left");
    fn.bar(0).write32(0x0c, 1);
    assert.equal(up(), false);
    fn.bar(0).write32(0x10, 1);
    assert.equal(up(), true);
    await turns();
    assert.ok(line.poll() > 0);
    host.reap(2);
    host.acknowledge(2);
    assert.equal(up(), false);
  }));

// --- Shadow doorbells -------------------------------------------------------------------------------------------------

test("shadow doorbells: told by memory, rung only where the event index asks for it", () =>
  running(async ({ host, fn }) => {
    const shadow = fn.dma.allocate(4096);
    const events = fn.dma.allocate(4096);
    assert.equal(await host.status({ opcode: 0x7c, prp1: shadow.iova + 4, prp2: events.iova }), 0x002);
    assert.equal(await host.status({ opcode: 0x7c, prp1: 2 ** 40, prp2: events.iova }), 0x004);
    await host.ok({ opcode: 0x7c, prp1: shadow.iova, prp2: events.iova });
    const data = fn.dma.allocate(4096);
    let rings = 0;
    for (let i = 0; i < 300; i++) {
      const before = shadow.words[2] as number;
      for (let n = 0; n <= i % 3; n++) host.post({ opcode: READ, nsid: 1, prp1: data.iova }, 1);
      const tail = (before + 1 + (i % 3)) % 64;
      shadow.words[2] = tail;
      const event = events.words[2] as number;
      if (((tail - event - 1) & 0xffff) < ((tail - before) & 0xffff)) {
        rings++;
        host.ring(1);
      }
      for (let n = 0; n <= i % 3; n++) assert.notEqual(host.reap(1), undefined, `round ${i}`);
      shadow.words[3] = host.queues.get(1)?.head ?? 0;
    }
    assert.equal(rings, 300, "an idle queue is rung each time");
    await host.ok({ opcode: 0x0a, cdw10: 1 });
  }));

// Virtio functions, in process and served on a socket: the contracts of functions and of devices, by registers alone.
import assert from "node:assert/strict";
import test from "node:test";
import { pciFunctionContract } from "../../../../../tests/contract/pci-function.ts";
import { ServedFunction } from "../../../../../tests/contract/served-function.ts";
import { deviceContract } from "../../../../../tests/contract/virtual-function.ts";
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import { connect } from "../../vfio-user/client.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { memoryBacking } from "../block-backing.ts";
import { VirtioBlock, VirtioNet } from "./index.ts";

const PATTERN = 0x6b;
/** Offsets in the common configuration and of the notification, in the one BAR. */
const at = {
  FEATURE_SELECT: 0x08,
  FEATURE: 0x0c,
  STATUS: 0x14,
  SELECT: 0x16,
  SIZE: 0x18,
  ENABLE: 0x1c,
  AREAS: 0x20,
  NOTIFY: 0x3000,
};
/** In the page that the driver gives: rings, then what a request needs. */
const inPage = { DESCRIPTORS: 0, AVAIL: 0x100, USED: 0x200, HEADER: 0x400, STATUS: 0x500 };

const create = `new device.VirtioBlock({ backing: device.memoryBacking(new Uint8Array(65536).fill(${PATTERN})) })`;

function disk(): VirtioBlock {
  const backing = memoryBacking(1 << 16);
  backing.contents.fill(PATTERN);
  return new VirtioBlock({ backing });
}

/** Reads eight sectors into `buffer`, with a queue of its own; gives up after some turns. */
async function readInto(fn: PciFunction, buffer: DmaBuffer): Promise<void> {
  const bar = fn.bar(0);
  bar.write8(at.STATUS, 0);
  bar.write8(at.STATUS, 3);
  bar.write32(at.FEATURE_SELECT, 1);
  bar.write32(at.FEATURE, 1);
  bar.write8(at.STATUS, 11);
  using page = fn.dma.allocate(4096);
  const view = new DataView(page.bytes.buffer, page.bytes.byteOffset, 4096);
  bar.write16(at.SELECT, 0);
  bar.write16(at.SIZE, 8);
  for (const [i, area] of [inPage.DESCRIPTORS, inPage.AVAIL, inPage.USED].entries()) {
    bar.write32(at.AREAS + 8 * i, (page.iova + area) % 2 ** 32);
    bar.write32(at.AREAS + 8 * i + 4, Math.floor((page.iova + area) / 2 ** 32));
  }
  for (const [i, [iova, size, flags]] of [
    [page.iova + inPage.HEADER, 16, 1],
    [buffer.iova, 4096, 3],
    [page.iova + inPage.STATUS, 1, 2],
  ].entries() as Iterable<[number, [number, number, number]]>) {
    view.setBigUint64(16 * i, BigInt(iova), true);
    view.setUint32(16 * i + 8, size, true);
    view.setUint16(16 * i + 12, flags, true);
    view.setUint16(16 * i + 14, i + 1, true);
  }
  view.setUint16(inPage.AVAIL + 2, 1, true);
  bar.write16(at.ENABLE, 1);
  bar.write8(at.STATUS, 15);
  bar.write16(at.NOTIFY, 0);
  for (let turn = 0; turn < 4 && view.getUint16(inPage.USED + 2, true) === 0; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  bar.write8(at.STATUS, 0);
}

pciFunctionContract("virtio-blk in process", async (t) => {
  const fn = inProcess(disk());
  t.after(() => fn[Symbol.asyncDispose]());
  return { fn, constant: { bar: 0, offset: 0x2000 }, scratch: { bar: 0, offset: 0x08, mask: 0xffff_ffff } };
});

pciFunctionContract("virtio-net in process", async (t) => {
  const fn = inProcess(new VirtioNet({ mac: "52:54:00:00:00:01" }));
  t.after(() => fn[Symbol.asyncDispose]());
  return { fn, constant: { bar: 0, offset: 0x2000 }, scratch: { bar: 0, offset: 0x08, mask: 0xffff_ffff } };
});

deviceContract("virtio-blk in process", async (t) => {
  const device = disk();
  const fn = inProcess(device);
  t.after(() => device[Symbol.dispose]());
  return {
    fn,
    work: readInto,
    worked: ({ bytes }) => bytes.every((byte) => byte === PATTERN),
    reopen: async () => inProcess(device),
    registers: [
      { bar: 0, offset: 0x00, write: 1 },
      { bar: 0, offset: 0x08, write: 1 },
      { bar: 0, offset: 0x0c, write: 1 },
      { bar: 0, offset: 0x14 },
      { bar: 0, offset: 0x18, write: 0xffff_0008 },
      { bar: 0, offset: 0x20, write: 0x1000 },
      { bar: 0, offset: 0x2020 },
    ],
    state: { save: async () => device.save(), restore: async (state) => device.restore(state) },
  };
});

test("virtio-blk over vfio-user: works, again after a reset, and for the next user", async () => {
  await using served = await ServedFunction.start({ module: new URL("./index.ts", import.meta.url), create });
  for (let user = 0; user < 2; user++) {
    await using fn = await connect(served.path);
    for (let round = 0; round < 2; round++) {
      using buffer = fn.dma.allocate(4096);
      fn.busMaster = true;
      await readInto(fn, buffer);
      assert.ok(buffer.bytes.every((byte) => byte === PATTERN));
      await fn.reset();
    }
  }
});

// What lies between the controller and guest memory: maps that are reached by messages only, ranges over several maps, the
// log of written pages, maps that come and go, doorbells in memory.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeldBacking } from "../../../../../tests/fakes/held-backing.ts";
import { turns } from "../../../../../tests/fakes/nvme-host.ts";
import type { MapBacking } from "../../virtual/index.ts";
import { memoryBacking, NvmeDevice, type NvmeDeviceOptions } from "./index.ts";

const MIB = 2 ** 20;
const BASE = 0x1_0000_0000;
const DOORBELL = { adminTail: 0x1000, adminHead: 0x1004, tail: 0x1008, head: 0x100c } as const;

/** A host whose memory is one array at 4 GiB; how the device reaches it is the test's choice. */
class BareHost {
  readonly device: NvmeDevice;
  readonly ram: Uint8Array = new Uint8Array(2 * MIB);
  readonly words: Uint32Array = new Uint32Array(this.ram.buffer);
  messages = 0;
  #tail = 0;

  constructor(device: NvmeDevice) {
    this.device = device;
    device.connect({ name: "a bare host" });
    device.config.write(4, 2, 6);
  }

  /** A part of memory as the device may see it. */
  backing(kind: "bytes" | "messages", offset: number, size: number): MapBacking {
    if (kind === "bytes") return { bytes: this.ram.subarray(offset, offset + size) };
    return {
      transfer: {
        read: (at, target) => {
          this.messages++;
          target.set(this.ram.subarray(offset + at, offset + at + target.length));
        },
        write: (at, source) => {
          this.messages++;
          this.ram.set(source, offset + at);
        },
      },
    };
  }

  map(kind: "bytes" | "messages", offset: number, size: number): void {
    this.device.memory.map(BASE + offset, size, "read-write", this.backing(kind, offset, size));
  }

  /** Admin queues at 0 and 4096, I/O queue 1 (16 entries) at 8192 and 12288. */
  start(): void {
    const { device } = this;
    device.barWrite32(0, 0x24, 0x000f_000f);
    device.barWrite32(0, 0x28, 0);
    device.barWrite32(0, 0x2c, 1);
    device.barWrite32(0, 0x30, 4096);
    device.barWrite32(0, 0x34, 1);
    device.barWrite32(0, 0x14, 0x0046_0001);
    this.command(0, 0, [0x05, 0, 12_288, 1], [(15 << 16) | 1, 3]);
    this.command(0, 1, [0x01, 0, 8192, 1], [(15 << 16) | 1, 0x1_0001]);
    device.barWrite32(0, DOORBELL.adminTail, 2);
    device.runPoll();
    assert.deepEqual([this.status(4096, 0), this.status(4096, 1)], [0, 0]);
  }

  command(queue: number, slot: number, [opcode, nsid, low, high]: readonly number[], tail: readonly number[]): void {
    const at = queue / 4 + slot * 16;
    this.words.fill(0, at, at + 16);
    this.words.set([opcode as number, nsid as number], at);
    this.words.set([low as number, high as number], at + 6);
    this.words.set(tail, at + 10);
  }

  status(queue: number, slot: number): number {
    return ((this.words[queue / 4 + slot * 4 + 3] as number) >>> 17) & 0x7ff;
  }

  /** One command in the I/O queue, at once; PRP2 is the page after the next. */
  io(opcode: number, offset: number, lba: number, blocks: number, prp2 = 0): number {
    const slot = this.#tail;
    this.command(8192, slot, [opcode, 1, offset, 1], [lba, 0, blocks - 1]);
    if (prp2 > 0) this.words.set([prp2, 1], 2048 + slot * 16 + 8);
    this.#tail = (slot + 1) % 16;
    this.words[3072 + slot * 4 + 3] = 0xdead_0000;
    this.device.barWrite32(0, DOORBELL.tail, this.#tail);
    this.device.barWrite32(0, DOORBELL.head, this.#tail);
    this.device.runPoll();
    return this.status(12_288, slot);
  }
}

function bare(options: Partial<NvmeDeviceOptions> = {}): { host: BareHost; device: NvmeDevice; content: Uint8Array } {
  const content = new Uint8Array(MIB);
  for (let i = 0; i < MIB; i++) content[i] = (i >>> 9) + i;
  const device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(content) }], ...options });
  return { host: new BareHost(device), device, content };
}

test("memory without a file descriptor: everything goes by messages", () => {
  const { host, content } = bare();
  host.map("messages", 0, 2 * MIB);
  host.start();
  assert.equal(host.io(2, MIB, 3, 8), 0);
  assert.deepEqual(host.ram.slice(MIB, MIB + 4096), content.slice(1536, 1536 + 4096));
  host.ram.fill(0x33, MIB, MIB + 512);
  assert.equal(host.io(1, MIB, 9, 1), 0);
  assert.ok(content.subarray(9 * 512, 10 * 512).every((byte) => byte === 0x33));
  for (let i = 0; i < 40; i++) assert.equal(host.io(2, MIB, i, 1), 0);
  assert.ok(host.messages > 100);
});

test("a queue and a page that lie in two maps", () => {
  for (const second of ["bytes", "messages"] as const) {
    const { host, content } = bare();
    // The I/O submission queue of 1 KiB and the data page each begin in one map and end in the next.
    host.map("bytes", 0, 8192 + 512);
    host.map(second, 8192 + 512, MIB - 8192);
    host.map("bytes", MIB + 512, MIB - 512);
    host.start();
    for (let i = 0; i < 40; i++) assert.equal(host.io(2, MIB, 5, 8), 0);
    assert.deepEqual(host.ram.slice(MIB, MIB + 4096), content.slice(2560, 2560 + 4096));
    assert.equal(host.io(2, 2 * MIB - 256, 5, 1), 0x004, "beyond the end");
  }
});

for (const kind of ["memory", "another disk"] as const) {
  test(`written pages are logged, and no others (${kind})`, () => {
    const disk = new HeldBacking(MIB);
    disk.holding = false;
    const { host, device } = bare(kind === "memory" ? {} : { namespaces: [{ backing: disk }] });
    host.map("bytes", 0, 2 * MIB);
    host.start();
    device.memory.dirty.start();
    assert.equal(host.io(2, MIB + 8192 - 512, 5, 8, MIB + 65_536), 0);
    assert.equal(host.io(2, MIB + 2 * 65_536, 5, 8), 0);
    assert.equal(host.io(1, MIB + 4 * 65_536, 5, 8), 0);
    const bitmap = new Uint8Array(64);
    device.memory.dirty.report(BASE, 2 * MIB, 4096, bitmap);
    const pages = Array.from({ length: 512 }, (_, i) => i).filter(
      (i) => ((bitmap[i >>> 3] as number) & (1 << (i & 7))) !== 0,
    );
    assert.deepEqual(pages, [3, 257, 272, 288], "the completion queue, and where the reads went");
  });
}

test("memory that is mapped anew is used anew; memory that is gone is fatal for a queue", () => {
  const { host, device } = bare();
  host.map("bytes", 0, 65_536);
  host.map("bytes", MIB, MIB);
  host.start();
  assert.equal(host.io(2, MIB, 5, 8), 0);
  device.memory.unmap(BASE, 65_536);
  host.map("messages", 0, 65_536);
  assert.equal(host.io(2, MIB, 5, 8), 0);
  device.memory.unmap(BASE + MIB, MIB);
  assert.equal(host.io(2, MIB, 5, 8), 0x004);
  assert.equal(device.barRead32(0, 0x1c), 1);
  device.memory.unmapAll();
  host.io(2, MIB, 5, 8);
  assert.equal(device.barRead32(0, 0x1c), 3);
});

test("doorbells in memory: polled, with a full queue, a value that makes no sense, and the line", () => {
  const { host, device } = bare({ mappableDoorbells: true });
  host.map("bytes", 0, 2 * MIB);
  assert.equal(device.polled, true);
  host.start();
  device.barWrite32(0, DOORBELL.adminHead, 2);
  assert.equal(host.io(2, MIB, 5, 8), 0);
  // Fifteen entries fit; the sixteenth command waits until the head moves.
  for (let i = 1; i < 16; i++) host.command(8192, i, [2, 1, MIB, 1], [i, 0, 0]);
  device.barWrite32(0, DOORBELL.tail, 0);
  assert.equal(device.runPoll(), 15);
  host.command(8192, 0, [2, 1, MIB, 1], [0, 0, 0]);
  device.barWrite32(0, DOORBELL.tail, 1);
  assert.equal(device.runPoll(), 0, "no room");
  assert.equal(device.interrupts.asserted, true);
  device.barWrite32(0, DOORBELL.head, 0);
  assert.equal(device.runPoll(), 1);
  device.barWrite32(0, DOORBELL.head, 1);
  device.runPoll();
  assert.equal(device.interrupts.asserted, false, "everything was taken");
  device.barWrite32(0, DOORBELL.tail, 0xffff);
  for (let i = 0; i < 5; i++) assert.equal(device.runPoll(), 0);
  host.command(0, 2, [0x0c, 0, 0, 0], []);
  host.command(0, 3, [0x0c, 0, 0, 0], []);
  device.barWrite32(0, DOORBELL.adminTail, 4);
  device.runPoll();
  assert.equal(host.words[1024 + 2 * 4], 0x0001_0100);
  assert.equal(host.words[1024 + 3 * 4], 0, "told once");
  // A controller reset leaves no old doorbell behind.
  device.barWrite32(0, 0x14, 0);
  assert.equal(device.barRead32(0, DOORBELL.tail), 0);
});

test("shadow doorbells drive the line too", () => {
  const { host, device } = bare();
  host.map("bytes", 0, 2 * MIB);
  host.start();
  device.barWrite32(0, DOORBELL.adminHead, 2);
  host.command(0, 2, [0x7c, 0, 16_384, 1], []);
  host.words.set([20_480, 1], 2 * 16 + 8);
  device.barWrite32(0, DOORBELL.adminTail, 3);
  device.barWrite32(0, DOORBELL.adminHead, 3);
  const shadow = host.words.subarray(4096, 5120);
  const events = host.words.subarray(5120, 6144);
  let tail = 0;
  for (let i = 0; i < 50; i++) {
    host.command(8192, tail, [0x00, 1, 0, 0], []);
    tail = (tail + 1) % 16;
    shadow[2] = tail;
    device.barWrite32(0, DOORBELL.tail, tail);
    assert.equal(device.interrupts.asserted, true, `round ${i}`);
    assert.equal(events[3], (tail + 15) % 16, "asks to be told");
    shadow[3] = tail;
    device.barWrite32(0, DOORBELL.head, tail);
    assert.equal(device.interrupts.asserted, false, `round ${i}`);
  }
});

test("a client that vanishes and comes back to kept state finds each command completed once", async () => {
  const disk = new HeldBacking(MIB);
  disk.bytes.fill(5, 0, 512);
  const device = new NvmeDevice({ namespaces: [{ backing: disk }] });
  const host = new BareHost(device);
  host.map("bytes", 0, 2 * MIB);
  host.start();
  host.io(2, MIB, 0, 1);
  assert.equal(disk.held.length, 1);
  device.disconnect({ keepState: true });
  disk.holding = false;
  disk.release();
  await turns();
  assert.equal(host.ram[MIB], 0);
  device.connect({ name: "the same again" });
  host.map("bytes", 0, 2 * MIB);
  device.config.write(4, 2, 6);
  await turns();
  assert.equal(host.ram[MIB], 5);
  assert.equal(host.status(12_288, 0), 0);
  assert.equal(host.words[3072 + 3], 0x0001_0000);
});

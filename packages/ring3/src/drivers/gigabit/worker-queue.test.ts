// Queues for workers over a controller whose registers are memory: who owns one, what a reset of the device does to it, and that
// its memory outlives the driver for as long as somebody has it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeFunction } from "../../../../../tests/fakes/fake-function.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import type { NetDevice, NetQueueHandle } from "../net/device.ts";
import { attachNetQueue, openNetDevice } from "../net/open.ts";
import { Packets } from "../net/packets.ts";
import type { QueuePlace } from "./queue-place.ts";

const BAR_BYTES = 0x2_0000;
const RESET = 0x0400_0000;

/** An igb that does nothing by itself but to end resets, to have a link, and to answer for its PHY. */
class MemoryIgb {
  readonly fn: FakeFunction = new FakeFunction({
    vendorId: 0x8086,
    deviceId: 0x10c9,
    bars: { 0: { size: BAR_BYTES, memory: { offset: 0, size: BAR_BYTES } } },
  });
  readonly clock: VirtualClock = new VirtualClock();

  constructor() {
    const { words } = this.fn.bar(0).memory as { readonly words: Uint32Array };
    const after = this.clock.after.bind(this.clock);
    // Whatever the driver waits for has happened by then.
    this.clock.after = (delayMs, callback) => {
      words[0] = (words[0] as number) & ~RESET;
      words[8 / 4] = 0x83;
      words[0x20 / 4] = (words[0x20 / 4] as number) | 0x1000_0000;
      return after(delayMs, callback);
    };
    words[8 / 4] = 0x83;
  }

  start(): Promise<NetDevice> {
    return openNetDevice(this.fn, { ringEntries: 16, clock: this.clock, interrupts: "none", receiveMode: "polled" });
  }

  register(offset: number): number {
    return this.fn.bar(0).read32(offset);
  }

  /** Reports a frame of 60 bytes in descriptor `index` of a queue. */
  receive(handle: NetQueueHandle, index: number): void {
    const { place } = handle as NetQueueHandle & { readonly place: QueuePlace };
    const descriptors = this.fn.dma.arena.words(place.receive, place.entries * 4);
    descriptors[index * 4 + 3] = 60;
    descriptors[index * 4 + 2] = 3;
  }
}

test("one thread at a time; what comes goes to whoever has the queue; the next goes on where it was left", async () => {
  const igb = new MemoryIgb();
  await using device = await igb.start();
  await using worker = await device.openWorkerQueue({ buffers: 48 });
  assert.equal(worker.index, 1);
  const handle = worker.handle();
  const first = await attachNetQueue(handle);
  assert.ok(worker.owned);
  await assert.rejects(attachNetQueue(handle), { code: "NET_QUEUE_OWNED" });
  using packets = new Packets(first.pool.arena, 8);
  assert.equal(first.rxBurst(packets), 0, "filled at the first burst");
  assert.equal(first.pool.free, 32);
  assert.equal(igb.register(0x2918), 15);
  igb.receive(handle, 0);
  assert.equal(first.rxBurst(packets), 1);
  assert.equal(first.txBurst(packets, 1), 1);
  assert.equal(igb.register(0x3918), 1);
  assert.deepEqual([first.statistics().rx_packets, first.statistics().tx_packets], [1, 1]);
  first[Symbol.dispose]();
  assert.equal(worker.owned, false);
  assert.throws(() => first.rxBurst(packets), { code: "NET_CLOSED" });
  using second = await attachNetQueue(handle);
  using others = new Packets(second.pool.arena, 8);
  igb.receive(handle, 1);
  assert.equal(second.rxBurst(others), 1);
});

test("a reset of the device finds the worker outside, and the worker fills the queue anew", async () => {
  const igb = new MemoryIgb();
  await using device = await igb.start();
  await using worker = await device.openWorkerQueue({ buffers: 48 });
  const handle = worker.handle();
  using queue = await attachNetQueue(handle);
  using packets = new Packets(queue.pool.arena, 8);
  queue.rxBurst(packets);
  igb.receive(handle, 0);
  assert.equal(queue.rxBurst(packets), 1);
  queue.txBurst(packets, 1);
  const resetting = device.reset();
  igb.receive(handle, 1);
  assert.equal(queue.rxBurst(packets), 0, "nothing while the device is being reset");
  await resetting;
  assert.equal(igb.register(0x2918), 0);
  assert.equal(queue.rxBurst(packets), 0);
  assert.equal(queue.pool.free, 32, "what was received and sent before is given back");
  assert.equal(igb.register(0x2918), 15);
  igb.receive(handle, 0);
  assert.equal(queue.rxBurst(packets), 1);
});

test("the end of the driver is told at the next burst; the memory stays until the worker lets go", async () => {
  const igb = new MemoryIgb();
  const device = await igb.start();
  const before = igb.fn.dma.mappedBytes;
  const { freeBytes } = igb.fn.dma.arena;
  const worker = await device.openWorkerQueue({ buffers: 48 });
  const queue = await attachNetQueue(worker.handle());
  using packets = new Packets(queue.pool.arena, 8);
  queue.rxBurst(packets);
  await worker[Symbol.asyncDispose]();
  assert.equal(igb.fn.dma.mappedBytes, before, "the device does not reach it any more");
  assert.throws(() => queue.rxBurst(packets), { code: "FUNCTION_REMOVED" });
  assert.ok(igb.fn.dma.arena.freeBytes < freeBytes);
  queue[Symbol.dispose]();
  while (igb.fn.dma.arena.freeBytes < freeBytes) await new Promise(setImmediate);
  await using again = await device.openWorkerQueue();
  assert.equal(again.index, 1);
  await device[Symbol.asyncDispose]();
  assert.equal(igb.fn.dma.mappedBytes, 0);
  await assert.rejects(device.openWorkerQueue(), { code: "NET_CLOSED" });
});

test("a controller has only so many queues", async () => {
  const igb = new MemoryIgb();
  await using device = await igb.start();
  const workers = [];
  for (let i = 1; i < 16; i++) workers.push(await device.openWorkerQueue({ buffers: 20 }));
  await assert.rejects(device.openWorkerQueue(), { code: "NET_NO_QUEUE" });
  // Registers of queues from 4 on lie elsewhere.
  assert.notEqual(igb.register(0xc000 + 0x40 * 15 + 8), 0);
  for (const worker of workers) await worker[Symbol.asyncDispose]();
});

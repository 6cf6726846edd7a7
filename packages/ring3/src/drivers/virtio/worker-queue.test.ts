// Queues for workers over a device whose registers are memory: who owns one, what a reset of the device does to it, which of the
// device's pairs it is, and that its memory outlives the driver for as long as somebody has it.
// seconds: 2
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { MappedVirtioNet } from "../../../../../tests/fakes/mapped-virtio-net.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { EthernetSwitch, VirtioNet, type VirtioNetOptions } from "../../devices/virtio/index.ts";
import { inProcess } from "../../virtual/index.ts";
import type { NetQueue, NetQueueHandle } from "../net/device.ts";
import { attachNetQueue } from "../net/open.ts";
import { PACKET_WORDS, Packets, PacketWord } from "../net/packets.ts";
import { QUEUE_WORDS, QueueWord } from "../net/queue-state.ts";
import { VirtioNetDriver, type VirtioNetDriverOptions } from "./net-driver.ts";
import type { VirtioQueuePlace } from "./queue-place.ts";

const WORKER = new URL("../../../../../tests/fakes/net-echo-worker.ts", import.meta.url);
const SMALL: VirtioNetDriverOptions = { interrupts: "none", ringEntries: 16 };

/** A device at a port of `wires` that workers can use, with its driver. */
async function nic(
  wires: EthernetSwitch,
  name: string,
  options: VirtioNetDriverOptions = SMALL,
  device: Partial<VirtioNetOptions> = {},
): Promise<{ readonly driver: VirtioNetDriver; readonly mapped: MappedVirtioNet } & AsyncDisposable> {
  const mapped = new MappedVirtioNet({ link: wires.port(name), queuePairs: 4, ...device });
  const driver = await VirtioNetDriver.start(mapped.fn, options);
  return {
    driver,
    mapped,
    [Symbol.asyncDispose]: async () => {
      await driver[Symbol.asyncDispose]();
      await mapped[Symbol.asyncDispose]();
    },
  };
}

/** UDP of flow `flow` from one station to another, `mark` in its data. */
function datagram(to: Uint8Array, from: Uint8Array, flow: number, mark: number): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set([...to, ...from, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
  frame.set([0, flow, 0, 7, 0, 26, 0, 0, mark >>> 8, mark], 34);
  return frame;
}

/** Lets the devices do what they can. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve));
}

/** Sends a frame over a queue. */
function send(queue: NetQueue, packets: Packets, frame: Uint8Array): void {
  assert.equal(queue.pool.takeAll(packets, 1), 1);
  queue.pool.bytes.set(frame, packets.words[PacketWord.PLACE]);
  packets.words[PacketWord.LENGTH] = frame.length;
  assert.equal(queue.txBurst(packets, 1), 1);
}

/** The marks of what has come over a queue. */
function marks(queue: NetQueue, packets: Packets): number[] {
  const count = queue.rxBurst(packets);
  const found = Array.from({ length: count }, (_, i) => {
    const place = packets.words[i * PACKET_WORDS + PacketWord.PLACE] as number;
    return ((queue.pool.bytes[place + 42] as number) << 8) | (queue.pool.bytes[place + 43] as number);
  });
  queue.pool.giveAll(packets, count);
  return found;
}

function first(driver: VirtioNetDriver): NetQueue {
  return driver.queues[0] as NetQueue;
}

for (const packed of [true, false]) {
  const options = { ...SMALL, packed };
  const name = packed ? "packed" : "split";

  test(`${name}: one thread at a time; a flow comes back on the queue that it left by`, async () => {
    const wires = new EthernetSwitch();
    await using a = await nic(wires, "a", options);
    await using b = await nic(wires, "b", options);
    await using worker = await b.driver.openWorkerQueue({ buffers: 64 });
    assert.deepEqual([worker.index, b.driver.operation.resets], [1, 0], "the device had the rings from its start");
    assert.equal(b.driver.capabilities.receiveSteering, true);
    const handle = worker.handle();
    assert.equal(handle.kind, "virtio-net");
    const queue = await attachNetQueue(handle);
    assert.ok(worker.owned);
    await assert.rejects(attachNetQueue(handle), { code: "NET_QUEUE_OWNED" });
    await assert.rejects(attachNetQueue({ ...handle, kind: "another" }), { code: "NET_INVALID" });
    using packets = new Packets(queue.pool.arena, 8);
    using own = new Packets(b.driver.pool.arena, 8);
    using theirs = new Packets(a.driver.pool.arena, 8);
    assert.ok(queue.ready, "there is something to do: it has to be filled");
    assert.equal(queue.rxBurst(packets), 0, "filled at the first burst");
    assert.equal(queue.pool.free, 48);
    // The device learns from what is sent which queue a flow belongs to.
    for (const flow of [1, 2, 3]) send(queue, packets, datagram(a.driver.mac, b.driver.mac, flow, 0));
    await settle();
    assert.deepEqual(marks(first(a.driver), theirs), [0, 0, 0]);
    for (const flow of [1, 2, 3]) send(first(a.driver), theirs, datagram(b.driver.mac, a.driver.mac, flow, flow));
    await settle();
    assert.ok(queue.ready);
    assert.deepEqual(marks(queue, packets), [1, 2, 3]);
    assert.deepEqual(marks(first(b.driver), own), []);
    assert.deepEqual([queue.statistics().rx_packets, queue.statistics().tx_packets], [3, 3]);
    queue[Symbol.dispose]();
    assert.equal(worker.owned, false);
    assert.throws(() => queue.rxBurst(packets), { code: "NET_CLOSED" });
    using second = await attachNetQueue(handle);
    using others = new Packets(second.pool.arena, 8);
    send(first(a.driver), theirs, datagram(b.driver.mac, a.driver.mac, 2, 9));
    await settle();
    assert.deepEqual(marks(second, others), [9]);
  });

  test(`${name}: a reset waits for a worker that is in a burst, and the worker fills its queue anew`, async () => {
    const wires = new EthernetSwitch();
    const clock = new VirtualClock();
    await using a = await nic(wires, "a", options);
    await using b = await nic(wires, "b", { ...options, clock });
    await using worker = await b.driver.openWorkerQueue({ buffers: 64 });
    using queue = await attachNetQueue(worker.handle());
    using packets = new Packets(queue.pool.arena, 8);
    using theirs = new Packets(a.driver.pool.arena, 8);
    queue.rxBurst(packets);
    send(queue, packets, datagram(a.driver.mac, b.driver.mac, 1, 0));
    await settle();
    const { place } = worker.handle() as NetQueueHandle & { readonly place: VirtioQueuePlace };
    const words = new Int32Array(queue.pool.arena.buffer, place.state, QUEUE_WORDS);
    Atomics.store(words, QueueWord.BUSY, 1);
    const resetting = b.driver.reset();
    await settle();
    assert.notEqual(b.mapped.status, 0, "not reset while the worker is inside");
    Atomics.store(words, QueueWord.BUSY, 0);
    assert.equal(queue.rxBurst(packets), 0, "nothing from now on");
    assert.equal(queue.txBurst(packets, 1), 0);
    await resetting;
    assert.equal(queue.rxBurst(packets), 0);
    assert.equal(queue.pool.free, 48, "what was received and sent before is given back");
    send(queue, packets, datagram(a.driver.mac, b.driver.mac, 1, 0));
    await settle();
    send(first(a.driver), theirs, datagram(b.driver.mac, a.driver.mac, 1, 5));
    await settle();
    assert.deepEqual(marks(queue, packets), [5]);
    // A worker that never comes out is taken for dead.
    Atomics.store(words, QueueWord.BUSY, 1);
    await b.driver.reset();
    assert.equal(b.driver.operation.resets, 2);
    Atomics.store(words, QueueWord.BUSY, 0);
  });

  test(`${name}: a device that breaks the rules in a worker's rings is reset; the worker goes on`, async () => {
    const wires = new EthernetSwitch();
    await using a = await nic(wires, "a", options);
    await using b = await nic(wires, "b", { ...options, clock: new VirtualClock() });
    await using worker = await b.driver.openWorkerQueue({ buffers: 64 });
    using queue = await attachNetQueue(worker.handle());
    using packets = new Packets(queue.pool.arena, 8);
    using theirs = new Packets(a.driver.pool.arena, 8);
    queue.rxBurst(packets);
    send(queue, packets, datagram(a.driver.mac, b.driver.mac, 1, 0));
    await settle();
    const { place } = worker.handle() as NetQueueHandle & { readonly place: VirtioQueuePlace };
    const told = new Promise<{ reason: string }>((resolve) => b.driver.events.on("reset", resolve));
    // Whatever follows in the ring to be sent on, this is no buffer of it.
    const lie = packed ? new Uint8Array(16 * 16).fill(0xff) : Uint8Array.of(0, 0, 0xff, 0x7f);
    b.mapped.device.memory.write(place.transmit.iova + (packed ? 0 : usedOffset(place.transmit.size)), lie);
    queue.txPending();
    assert.match((await told).reason, /queue 1: the device (gave back|says)/);
    assert.equal(queue.rxBurst(packets), 0);
    send(queue, packets, datagram(a.driver.mac, b.driver.mac, 1, 0));
    await settle();
    send(first(a.driver), theirs, datagram(b.driver.mac, a.driver.mac, 1, 6));
    await settle();
    assert.deepEqual(marks(queue, packets), [6]);
  });
}

/** Where the used ring begins: descriptors, the available ring with its event, and on to the next cache line. */
function usedOffset(size: number): number {
  return Math.ceil((16 * size + 6 + 2 * size) / 64) * 64;
}

test("the end of a queue is told at its next burst; its memory stays until the worker lets go", async () => {
  const wires = new EthernetSwitch();
  await using b = await nic(wires, "b", { ...SMALL, packed: true });
  const { fn } = b.mapped;
  const before = fn.dma.arena.freeBytes;
  const worker = await b.driver.openWorkerQueue({ buffers: 64 });
  const queue = await attachNetQueue(worker.handle());
  using packets = new Packets(queue.pool.arena, 8);
  queue.rxBurst(packets);
  const reasons: string[] = [];
  b.driver.events.on("reset", ({ reason }) => reasons.push(reason));
  await worker[Symbol.asyncDispose]();
  assert.deepEqual(reasons, ["a worker's queue was closed"], "the device lets go of buffers in a reset only");
  assert.throws(() => queue.rxBurst(packets), { code: "FUNCTION_REMOVED" });
  assert.ok(fn.dma.arena.freeBytes < before);
  queue[Symbol.dispose]();
  while (fn.dma.arena.freeBytes < before) await settle();
  await using again = await b.driver.openWorkerQueue();
  assert.equal(again.index, 1);
  await b.driver[Symbol.asyncDispose]();
  await assert.rejects(b.driver.openWorkerQueue(), { code: "NET_CLOSED" });
});

test("the device goes away: the worker hears it at its next burst, and may have been in one", async () => {
  const wires = new EthernetSwitch();
  await using b = await nic(wires, "b", SMALL);
  const worker = await b.driver.openWorkerQueue({ buffers: 64 });
  const queue = await attachNetQueue(worker.handle());
  using packets = new Packets(queue.pool.arena, 8);
  queue.rxBurst(packets);
  const told = new Promise<{ code: string }>((resolve) => b.driver.events.on("removed", resolve));
  b.mapped.device.remove("unplugged");
  assert.equal((await told).code, "FUNCTION_REMOVED");
  assert.throws(() => queue.rxBurst(packets), { code: "FUNCTION_REMOVED" });
  assert.throws(() => queue.txBurst(packets, 1), { code: "FUNCTION_REMOVED" });
  queue[Symbol.dispose]();
});

test("a device has only so many pairs; what it got no rings for takes a reset, and the first so many are used", async () => {
  const wires = new EthernetSwitch();
  await using a = await nic(wires, "a", SMALL, { queuePairs: 1 });
  await assert.rejects(a.driver.openWorkerQueue(), { code: "NET_NO_QUEUE" });
  await using b = await nic(wires, "b", SMALL, { queuePairs: 10 });
  const workers = [];
  for (let i = 1; i < 10; i++) workers.push(await b.driver.openWorkerQueue({ buffers: 20 }));
  assert.equal(b.driver.operation.resets, 2, "for the ninth and the tenth");
  await assert.rejects(b.driver.openWorkerQueue(), { code: "NET_NO_QUEUE" });
  // With the second gone, the last of them is the device's pair before.
  await workers[1]?.[Symbol.asyncDispose]();
  const last = workers.at(-1);
  using queue = await attachNetQueue(last?.handle() as NetQueueHandle);
  using packets = new Packets(queue.pool.arena, 8);
  using theirs = new Packets(a.driver.pool.arena, 8);
  assert.equal(queue.index, 9);
  queue.rxBurst(packets);
  send(queue, packets, datagram(a.driver.mac, b.driver.mac, 1, 0));
  await settle();
  send(first(a.driver), theirs, datagram(b.driver.mac, a.driver.mac, 1, 3));
  await settle();
  assert.deepEqual(marks(queue, packets), [3]);
  assert.equal((await b.driver.openWorkerQueue({ buffers: 20 })).index, 2);
});

test("without mapped registers there are no queues for workers", async () => {
  await using fn = inProcess(new VirtioNet({ link: new EthernetSwitch().port("a"), queuePairs: 2 }));
  await using driver = await VirtioNetDriver.start(fn, SMALL);
  await assert.rejects(driver.openWorkerQueue(), { code: "NOT_SUPPORTED" });
  assert.ok(driver.operation.emitted, "loops are emitted all the same");
});

test("another thread echoes while the device is reset again and again", async () => {
  const wires = new EthernetSwitch();
  await using a = await nic(wires, "a", { ...SMALL, ringEntries: 64 }, { queuePairs: 1 });
  await using b = await nic(wires, "b", { ...SMALL, ringEntries: 64 });
  const queue = await b.driver.openWorkerQueue({ buffers: 256 });
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(WORKER, { workerData: { handle: queue.handle(), stop } });
  await once(worker, "message");
  const finished = once(worker, "message");
  using packets = new Packets(a.driver.pool.arena, 32);
  const echoed: number[] = [];
  let mark = 0;
  /** Sends on some flows until `count` more have come back: what is steered to queue 0 of b is lost, as is what a reset takes. */
  const echo = async (count: number): Promise<void> => {
    for (const goal = echoed.length + count; echoed.length < goal; ) {
      send(first(a.driver), packets, datagram(b.driver.mac, a.driver.mac, mark % 16, mark & 0xffff));
      mark++;
      await new Promise((resolve) => setImmediate(resolve));
      echoed.push(...marks(first(a.driver), packets));
    }
  };
  await echo(20);
  for (let resets = 0; resets < 3; resets++) {
    const resetting = b.driver.reset();
    for (let i = 0; i < 10; i++) {
      send(first(a.driver), packets, datagram(b.driver.mac, a.driver.mac, i, mark++ & 0xffff));
      echoed.push(...marks(first(a.driver), packets));
    }
    await resetting;
    await echo(20);
  }
  assert.equal(new Set(echoed).size, echoed.length, "none came twice");
  assert.ok(echoed.every((value) => value < mark));
  Atomics.store(stop, 0, 1);
  const [report] = (await finished) as [{ free: number; buffers: number; ended: unknown; tx_errors: number }];
  assert.deepEqual({ ended: report.ended, tx_errors: report.tx_errors }, { ended: undefined, tx_errors: 0 });
  assert.equal(report.free, report.buffers - 64, "all buffers but those that the receive ring holds");
  await queue[Symbol.asyncDispose]();
  await worker.terminate();
});

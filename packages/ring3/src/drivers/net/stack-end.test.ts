// The end of a device under its stack: pulled out, or closed by the program. Whoever waits hears it at once, and so does
// whoever comes later, until the stack is closed.
import assert from "node:assert/strict";
import test from "node:test";
import { FakeGigabit } from "../../../../../tests/fakes/fake-gigabit.ts";
import { EthernetSwitch, VirtioNet } from "../../devices/virtio/index.ts";
import { inProcess } from "../../virtual/index.ts";
import { VirtioNetDriver } from "../virtio/net-driver.ts";
import type { NetDevice } from "./device.ts";
import { openNetDevice } from "./open.ts";
import { PacketPool } from "./packet-pool.ts";
import { Stack } from "./stack.ts";
import type { StackOptions } from "./stack-options.ts";

interface Scene extends AsyncDisposable {
  readonly device: NetDevice;
  pullOut(): void;
}

/** A virtio network device on a cable where nobody else is. */
async function virtio(pool: "own pool" | "shared pool" = "own pool"): Promise<Scene> {
  const virtual = new VirtioNet({ link: new EthernetSwitch().port("alone") });
  const fn = inProcess(virtual);
  const shared = pool === "own pool" ? undefined : PacketPool.create(fn.dma.arena, { buffers: 1024 });
  const device = await VirtioNetDriver.start(fn, shared === undefined ? {} : { pool: shared });
  return {
    device,
    pullOut: () => virtual.remove("pulled out"),
    [Symbol.asyncDispose]: async () => {
      await device[Symbol.asyncDispose]();
      await fn[Symbol.asyncDispose]();
      if (shared === undefined) return;
      assert.equal(shared.free, shared.buffers, "every buffer came back");
      shared[Symbol.dispose]();
    },
  };
}

async function igb(): Promise<Scene> {
  const fake = new FakeGigabit("igb");
  const device = await openNetDevice(fake.fn, { ringEntries: 16 });
  return {
    device,
    pullOut: () => fake.fn.remove("pulled out"),
    [Symbol.asyncDispose]: async () => {
      await device[Symbol.asyncDispose]();
      await fake.fn[Symbol.asyncDispose]();
    },
  };
}

const ADDRESS: StackOptions = { address: "192.0.2.1/24" };
/** Longer than any test: only the device's end is an answer. */
const PATIENT = { timeoutMs: 3_600_000 };
const REMOVED = { code: "FUNCTION_REMOVED" };

const SCENES = {
  "virtio-net": virtio,
  "virtio-net whose pool is the program's": () => virtio("shared pool"),
  igb,
};

for (const [name, open] of Object.entries(SCENES)) {
  test(`${name} is pulled out: everybody who waits hears it, and whoever calls in the same moment or later`, async () => {
    await using scene = await open();
    const stack = await Stack.start(scene.device, ADDRESS);
    const endpoint = stack.udp.bind(7);
    const iterated = stack.udp.bind(8);
    // Two that wait for a neighbour, one whose neighbour is the same, and frames that nobody waits for.
    const waiting = [
      assert.rejects(stack.ping("192.0.2.2", PATIENT), REMOVED),
      assert.rejects(stack.ping("192.0.2.3", { ...PATIENT, payloadBytes: 5000 }), REMOVED),
      assert.rejects(stack.ping("192.0.2.2", PATIENT), REMOVED),
      assert.rejects(endpoint.receive(), REMOVED),
      assert.rejects(endpoint.receive(), REMOVED),
      assert.rejects(async () => {
        for await (const _ of iterated) assert.fail("nothing came");
      }, REMOVED),
    ];
    assert.ok(endpoint.send(Uint8Array.of(1), "192.0.2.4", 9));
    scene.pullOut();
    // Before anybody had a turn.
    assert.throws(() => endpoint.send(Uint8Array.of(1), "192.0.2.4", 9), REMOVED);
    await assert.rejects(stack.ping("192.0.2.2", PATIENT), REMOVED);
    await Promise.all(waiting);

    assert.equal((stack.failure as { code?: string } | undefined)?.code, "FUNCTION_REMOVED");
    await assert.rejects(endpoint.receive(), REMOVED);
    assert.throws(() => stack.udp.bind(9), REMOVED);
    assert.throws(() => stack.configure("192.0.2.9/24"), REMOVED);
    assert.throws(() => stack.poll(), REMOVED);
    await assert.rejects(stack.join("239.1.2.3"), REMOVED);
    await assert.rejects(stack.leave("239.1.2.3"), REMOVED);
    await stack[Symbol.asyncDispose]();
    await assert.rejects(endpoint.receive(), REMOVED);
  });
}

test("a start that waits for a lease ends with its device", async () => {
  await using scene = await virtio();
  const starting = assert.rejects(Stack.start(scene.device, { dhcp: PATIENT }), REMOVED);
  scene.pullOut();
  await starting;
});

test("a stack that the program drives hears of the end without being called", async () => {
  await using scene = await virtio();
  await using stack = await Stack.start(scene.device, { ...ADDRESS, drive: false });
  const waiting = assert.rejects(stack.ping("192.0.2.2", PATIENT), REMOVED);
  scene.pullOut();
  await waiting;
});

test("a device that the program closes under its stack is the end as well; one that was closed after it is none", async () => {
  await using scene = await virtio();
  const stack = await Stack.start(scene.device, ADDRESS);
  const closed = await Stack.start(scene.device, { drive: false });
  await closed[Symbol.asyncDispose]();
  const waiting = assert.rejects(stack.ping("192.0.2.2", PATIENT), { code: "NET_CLOSED", message: /the driver of/ });
  await scene.device[Symbol.asyncDispose]();
  await waiting;
  await assert.rejects(stack.ping("192.0.2.2"), { code: "NET_CLOSED", message: /the driver of/ });
  await stack[Symbol.asyncDispose]();
  assert.equal(closed.failure, undefined);
  await assert.rejects(closed.ping("192.0.2.2"), { code: "NET_CLOSED", message: /the stack was closed/ });
});

test("what came before the end is still to be had", async () => {
  const wires = new EthernetSwitch();
  const virtual = new VirtioNet({ link: wires.port("a") });
  await using left = inProcess(virtual);
  await using right = inProcess(new VirtioNet({ link: wires.port("b") }));
  await using a = await VirtioNetDriver.start(left);
  await using b = await VirtioNetDriver.start(right);
  await using receiver = await Stack.start(a, ADDRESS);
  await using sender = await Stack.start(b, { address: "192.0.2.2/24" });
  const endpoint = receiver.udp.bind(7);
  sender.udp.bind(0).send(Uint8Array.of(1, 2, 3), "192.0.2.1", 7);
  while (endpoint.statistics.received === 0) await new Promise((resolve) => setImmediate(resolve));
  virtual.remove("pulled out");
  assert.deepEqual((await endpoint.receive())?.data, Uint8Array.of(1, 2, 3));
  await assert.rejects(endpoint.receive(), REMOVED);
});

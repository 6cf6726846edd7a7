import assert from "node:assert/strict";
import test from "node:test";
import { EthernetSwitch, VirtioNet, type VirtioNetOptions } from "../../devices/virtio/index.ts";
import { inProcess } from "../../virtual/index.ts";
import { PacketPool } from "../net/packet-pool.ts";
import { Stack } from "../net/stack.ts";
import { VirtioNetDriver, type VirtioNetDriverOptions } from "./net-driver.ts";

/** A device on a port of `wires`, and its driver. */
async function nic(
  wires: EthernetSwitch,
  name: string,
  options: VirtioNetDriverOptions = {},
  device: Partial<VirtioNetOptions> = {},
): Promise<{ driver: VirtioNetDriver; device: VirtioNet; pool: PacketPool } & AsyncDisposable> {
  const virtual = new VirtioNet({ link: wires.port(name), ...device });
  const fn = inProcess(virtual);
  const pool = PacketPool.create(fn.dma.arena, { buffers: 2048 });
  const driver = await VirtioNetDriver.start(fn, { pool, ...options });
  return {
    driver,
    pool,
    device: virtual,
    [Symbol.asyncDispose]: async () => {
      await driver[Symbol.asyncDispose]();
      await fn[Symbol.asyncDispose]();
    },
  };
}

const WAYS: VirtioNetDriverOptions[] = [
  { packed: true, interrupts: "msix" },
  { packed: false, interrupts: "msix" },
  { packed: true, interrupts: "intx", receiveMode: "interrupt" },
  { packed: false, interrupts: "intx" },
  { packed: true, interrupts: "none" },
  { packed: false, interrupts: "none", ringEntries: 4 },
];

for (const way of WAYS) {
  test(`two stations echo datagrams of every size and ping: ${JSON.stringify(way)}`, async () => {
    const wires = new EthernetSwitch();
    await using a = await nic(wires, "a", way);
    await using b = await nic(wires, "b", way);
    assert.equal(a.driver.operation.ring, way.packed === true ? "packed" : "split");
    assert.ok((await a.driver.waitForLink()).up);
    await using left = await Stack.start(a.driver, { address: "192.0.2.1/24" });
    await using right = await Stack.start(b.driver, { address: "192.0.2.2/24" });
    using echo = right.udp.bind(7, {
      listener: (bytes, at, length, address, port) => echo.sendFrom(bytes, at, length, address, port),
    });
    using client = left.udp.bind(0);
    for (const payloadBytes of [0, 56, 1472, 3000, 65_507]) {
      // One rings's worth of pieces is all that a small ring takes at once.
      if (payloadBytes > 1472 && way.ringEntries !== undefined) continue;
      const reply = await left.ping("192.0.2.2", { payloadBytes, timeoutMs: 5000 });
      assert.equal(reply.payloadBytes, payloadBytes);
    }
    for (let size = 0; size <= 1472; size += 64) {
      const data = Uint8Array.from({ length: size }, (_, i) => (i * 7 + size) & 0xff);
      assert.ok(client.send(data, "192.0.2.2", 7));
      const answer = await client.receive();
      assert.deepEqual(answer?.data, data);
      assert.deepEqual([answer?.address, answer?.port], ["192.0.2.2", 7]);
    }
    assert.deepEqual(left.statistics.malformed, {});
    assert.equal(echo.statistics.received, 24);
    await left[Symbol.asyncDispose]();
    await a.driver[Symbol.asyncDispose]();
    assert.equal(a.pool.free, a.pool.buffers, "every buffer came back");
  });
}

import assert from "node:assert/strict";
import test from "node:test";
import { EthernetSwitch, VirtioNet, type VirtioNetOptions } from "../../devices/virtio/index.ts";
import type { PciFunction } from "../../pci/function.ts";
import { inProcess } from "../../virtual/index.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { Ipv4Header } from "../net/ipv4.ts";
import { PacketPool } from "../net/packet-pool.ts";
import { offloadWord, PACKET_WORDS, PacketFlag, Packets, PacketWord } from "../net/packets.ts";
import { Stack } from "../net/stack.ts";
import { UdpHeader } from "../net/udp.ts";
import { VirtioNetDriver, type VirtioNetDriverOptions } from "./net-driver.ts";

/** A device on a port of `wires`, and its driver. */
async function nic(
  wires: EthernetSwitch,
  name: string,
  options: VirtioNetDriverOptions = {},
  device: Partial<VirtioNetOptions> = {},
): Promise<{ driver: VirtioNetDriver; device: VirtioNet; pool: PacketPool; fn: PciFunction } & AsyncDisposable> {
  const virtual = new VirtioNet({ link: wires.port(name), ...device });
  const fn = inProcess(virtual);
  const pool = PacketPool.create(fn.dma.arena, { buffers: 2048 });
  const driver = await VirtioNetDriver.start(fn, { pool, ...options }).catch(async (error: unknown) => {
    await fn[Symbol.asyncDispose]();
    throw error;
  });
  return {
    driver,
    pool,
    fn,
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
  { packed: true, interrupts: "msix", loops: "typescript" },
  { packed: false, interrupts: "none", loops: "typescript" },
];

for (const way of WAYS) {
  test(`two stations echo datagrams of every size and ping: ${JSON.stringify(way)}`, async () => {
    const wires = new EthernetSwitch();
    await using a = await nic(wires, "a", way);
    await using b = await nic(wires, "b", way);
    assert.equal(a.driver.operation.ring, way.packed === true ? "packed" : "split");
    assert.equal(a.driver.operation.emitted, way.loops !== "typescript");
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

/** Sends frames of `bytes` with the flags and offload word, one after the other, and gives what the other side receives. */
async function sent(
  a: VirtioNetDriver,
  b: VirtioNetDriver,
  frames: readonly { readonly bytes: Uint8Array; readonly flags?: number; readonly offload?: number }[],
): Promise<{ readonly frame: Uint8Array; readonly flags: number }[]> {
  using packets = new Packets(a.pool.arena, 32);
  using received = new Packets(b.pool.arena, 32);
  const count = a.pool.takeAll(packets, frames.length);
  for (const [i, { bytes, flags = 0, offload = 0 }] of frames.entries()) {
    const at = i * PACKET_WORDS;
    a.pool.bytes.set(bytes, packets.words[at + PacketWord.PLACE]);
    packets.words[at + PacketWord.LENGTH] = bytes.length;
    packets.words[at + PacketWord.FLAGS] = flags;
    packets.words[at + PacketWord.OFFLOAD] = offload;
  }
  assert.equal(a.txBurst(0, packets, count), count);
  await new Promise((resolve) => setImmediate(resolve));
  const found = [];
  for (let queue = 0; queue < b.queues.length; queue++) {
    const got = b.rxBurst(queue, received);
    for (let i = 0; i < got; i++) {
      const flags = received.words[i * PACKET_WORDS + PacketWord.FLAGS] ?? 0;
      found.push({ frame: b.pool.frame(received, i).slice(), flags });
    }
    b.pool.giveAll(received, got);
  }
  return found;
}

/** UDP from 192.0.2.1 to 192.0.2.2 with the pseudo header's sum in its checksum field only. */
function partial(to: Uint8Array, from: Uint8Array): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set([...to, ...from, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
  frame.set([0, 1, 0, 2, 0, 26, 0, 0, ...new Uint8Array(18).fill(0x5a)], 34);
  const sum = 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 26;
  frame.set([(((sum & 0xffff) + (sum >>> 16)) >>> 8) & 0xff, ((sum & 0xffff) + (sum >>> 16)) & 0xff], 40);
  return frame;
}

test("offloads: checksums and tags that a packet asks for, and what the device vouches for", async () => {
  const wires = new EthernetSwitch();
  await using a = await nic(wires, "a", { interrupts: "none" });
  await using b = await nic(wires, "b", { interrupts: "none" }, { receiveChecksums: true });
  assert.deepEqual([a.driver.capabilities.receiveChecksums, b.driver.capabilities.receiveChecksums], [false, true]);
  const bytes = partial(b.driver.mac, a.driver.mac);
  const udp = PacketFlag.UDP_CHECKSUM;
  const [plain, asked, header, tagged] = await sent(a.driver, b.driver, [
    { bytes },
    { bytes, flags: udp, offload: offloadWord(14, 20) },
    { bytes, flags: udp | PacketFlag.IPV4_CHECKSUM, offload: offloadWord(14, 20) },
    { bytes, flags: udp | PacketFlag.VLAN, offload: offloadWord(14, 20, 0x2005) },
  ]);
  assert.deepEqual([plain?.flags, asked?.flags, header?.flags], [0, PacketFlag.L4_CHECKED, PacketFlag.L4_CHECKED]);
  assert.deepEqual(plain?.frame, bytes);
  assert.equal(new Ipv4Header().read(header?.frame ?? bytes, 14, 46), undefined);
  assert.equal(new UdpHeader().read(asked?.frame ?? bytes, 34, 26, 0xc000_0201 | 0, 0xc000_0202 | 0), undefined);
  assert.deepEqual([...(tagged?.frame.subarray(12, 18) ?? [])], [0x81, 0, 0x20, 5, 8, 0]);
  assert.equal(tagged?.frame.length, 64);
  // What cannot be: no room for the header, too short, too long, headers beyond the frame, a place outside of the pool.
  using packets = new Packets(a.pool.arena, 8);
  const wrong: [place: number, length: number, flags: number][] = [
    [2048 * 3 + 4, 60, 0],
    [2048 * 3 + 64, 13, 0],
    [2048 * 3 + 64, 1985, 0],
    [2048 * 3 + 64, 36, udp],
    [-5, 60, 0],
    [2 ** 30, 60, 0],
  ];
  const free = a.pool.free;
  for (const [place, length, flags] of wrong) {
    a.pool.takeAll(packets, 1);
    const [taken = 0] = packets.words;
    packets.words.set([
      place < 0 || place >= 2 ** 30 ? place : (taken & -2048) + (place & 2047),
      length,
      flags,
      offloadWord(14, 20),
    ]);
    assert.equal(a.driver.txBurst(0, packets, 1), 1);
    if (place < 0 || place >= 2 ** 30) a.pool.give(taken);
  }
  assert.equal(a.driver.statistics().tx_errors, wrong.length);
  assert.equal(a.pool.free, free, "refused buffers came back");
});

test("filters by the control queue: address, groups, promiscuous, VLANs; kept over a reset", async () => {
  for (const packed of [true, false]) {
    const wires = new EthernetSwitch();
    await using a = await nic(wires, "a", { interrupts: "none", packed });
    await using b = await nic(wires, "b", { interrupts: "none", packed });
    const [group, other] = [Uint8Array.of(1, 0, 0x5e, 1, 2, 3), Uint8Array.of(2, 0, 0, 0, 0, 9)];
    const frame = (to: Uint8Array, tag?: number): { bytes: Uint8Array } => {
      const bytes = new Uint8Array(60);
      bytes.set([...to, ...a.driver.mac, ...(tag === undefined ? [8, 0] : [0x81, 0, tag >>> 8, tag & 0xff, 8, 0])]);
      return { bytes };
    };
    const passes = async (to: Uint8Array, tag?: number): Promise<boolean> =>
      (await sent(a.driver, b.driver, [frame(to, tag)])).length === 1;
    assert.deepEqual([await passes(b.driver.mac), await passes(other), await passes(group)], [true, false, false]);
    await b.driver.setMulticast([group]);
    await b.driver.setMac(other);
    assert.deepEqual(
      [await passes(other), await passes(group), await passes(Uint8Array.of(1, 0, 0x5e, 1, 2, 4))],
      [true, true, false],
    );
    await b.driver.setVlans([5]);
    await b.driver.reset();
    assert.deepEqual(
      [await passes(other, 5), await passes(other, 6), await passes(other), await passes(group)],
      [true, false, true, true],
    );
    await b.driver.setVlans([6]);
    assert.deepEqual([await passes(other, 5), await passes(other, 6)], [false, true]);
    await b.driver.setVlans(undefined);
    assert.ok(await passes(other, 7));
    await b.driver.setReceiveMode({ promiscuous: true });
    assert.ok(await passes(Uint8Array.of(2, 0, 0, 0, 0, 0x77)));
    await assert.rejects(b.driver.setMac(group), { code: "NET_INVALID" });
    assert.equal(b.driver.operation.resets, 3);
  }
});

test("several pairs of queues: flows are spread, and come back on the pair that they left by", async () => {
  const wires = new EthernetSwitch();
  await using a = await nic(wires, "a", { interrupts: "none" });
  await using b = await nic(wires, "b", { queues: 4 }, { queuePairs: 4 });
  assert.deepEqual([b.driver.capabilities.maxQueues, b.driver.capabilities.receiveSteering], [4, true]);
  const frames = Array.from({ length: 32 }, (_, i) => {
    const bytes = partial(b.driver.mac, a.driver.mac);
    bytes[35] = i;
    return { bytes };
  });
  assert.equal((await sent(a.driver, b.driver, frames)).length, 32);
  const used = b.driver.queues.map((queue) => queue.statistics().rx_packets);
  assert.ok(used.filter((count) => count > 0).length >= 2, `spread as ${used.join(", ")}`);
  await assert.rejects(nic(wires, "c", { queues: 2 }), { code: "NET_NO_QUEUE" });
});

test("a device that breaks the rules of its rings is reset, and given up where it does not stop", async () => {
  const wires = new EthernetSwitch();
  const clock = new VirtualClock();
  await using a = await nic(wires, "a", { interrupts: "none" });
  await using b = await nic(wires, "b", { interrupts: "none", clock, packed: false });
  const reasons: string[] = [];
  b.driver.events.on("reset", ({ reason }) => reasons.push(reason));
  const ended = new Promise<{ code: string }>((resolve) => b.driver.events.on("removed", resolve));
  assert.equal((await sent(a.driver, b.driver, [{ bytes: partial(b.driver.mac, a.driver.mac) }])).length, 1);
  /** The device writes an index into its receive ring that nobody can have. */
  const lie = (): void => {
    const common = b.fn.bar(0);
    common.write16(0x16, 0);
    b.device.memory.write(common.read32(0x30) + 2 ** 32 * common.read32(0x34) + 2, Uint8Array.of(0x77, 0x77));
  };
  lie();
  using packets = new Packets(b.pool.arena, 4);
  assert.equal(b.driver.rxBurst(0, packets), 0);
  while (reasons.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.match(reasons[0] ?? "", /queue 0: the device says that it used \d+ buffers, where it has 256/);
  assert.equal(
    (await sent(a.driver, b.driver, [{ bytes: partial(b.driver.mac, a.driver.mac) }])).length,
    1,
    "works again",
  );
  for (let resets = reasons.length; b.driver.failure === undefined; resets = reasons.length) {
    lie();
    b.driver.rxBurst(0, packets);
    while (reasons.length === resets && b.driver.failure === undefined)
      await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal((await ended).code, "NET_FAILED");
  assert.throws(() => b.driver.rxBurst(0, packets), { code: "NET_FAILED" });
});

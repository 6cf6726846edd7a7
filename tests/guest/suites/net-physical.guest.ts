// igb's physical function and e1000e, wired to each other, both ours: every kind of interrupt, offloads, filters, several queues,
// a worker's queue, long frames, and links, devices and parents that come and go.
// kernels: iommufd
// timeout: 600
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { captured } from "../../../packages/cli/src/captured-run.ts";
import type { LinkState, NetDevice, NetDeviceOptions } from "../../../packages/ring3/src/drivers/net/device.ts";
import { openNetDevice } from "../../../packages/ring3/src/drivers/net/open.ts";
import { PacketPool } from "../../../packages/ring3/src/drivers/net/packet-pool.ts";
import {
  offloadWord,
  PACKET_WORDS,
  PacketFlag,
  Packets,
  PacketWord,
} from "../../../packages/ring3/src/drivers/net/packets.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { kernelEcho } from "../echo.ts";
import { checksum, exchange, udpFrame } from "../frames.ts";
import { awaitFunction, bind, qmp, rootOutput, SKIP_UNLESS_FULL } from "../inside.ts";
import { FUNCTIONS, HOTPLUG } from "../machine.ts";
import { withDevices } from "../net-devices.ts";

const { igb, e1000e } = FUNCTIONS;
const BOTH = [igb.address, e1000e.address];
const FRAMES = 600;
/** The address of the kernel's stack. */
const KERNEL = "192.0.2.1";
const WHOLE = { count: FRAMES, damaged: 0, duplicated: 0, disordered: 0 };

before(async () => {
  // Without its virtual functions, which go with the kernel's driver.
  await rootOutput(`echo 0 > /sys/bus/pci/devices/${igb.address}/sriov_numvfs`);
  await bind(igb.address, "vfio-pci");
});

const modes: readonly NetDeviceOptions[] = [
  { receiveMode: "polled", interrupts: "none" },
  { receiveMode: "interrupt", interrupts: "msix", queues: 2 },
  { receiveMode: "interrupt", interrupts: "msi" },
  { receiveMode: "interrupt", interrupts: "intx" },
  { receiveMode: "adaptive", loops: "typescript" },
];
for (const mode of modes) {
  test(`frames both ways, ${JSON.stringify(mode)}`, async () => {
    await withDevices(BOTH, mode, async (a, b) => {
      assert.deepEqual(await exchange(a, b, { frames: FRAMES }), WHOLE);
      assert.deepEqual(await exchange(b, a, { frames: FRAMES }), WHOLE);
      const statistics = a.statistics();
      assert.deepEqual([statistics.tx_packets, statistics.rx_packets], [FRAMES, FRAMES]);
      assert.deepEqual([statistics.rx_errors, statistics.rx_dropped, statistics.tx_errors], [0, 0, 0]);
    });
  });
}

/** Local experimental, IEEE 802: comes after what is looked for. */
const MARKER_TYPE = 0x88b6;

/** Sends one packet and a marker from `from`, and returns what `to` receives before the marker. */
async function pass(
  from: NetDevice,
  to: NetDevice,
  frame: Uint8Array,
  flags = 0,
  offload = 0,
): Promise<{ bytes: Uint8Array; flags: number; tag: number }[]> {
  using packets = new Packets(from.pool.arena, 8);
  assert.equal(from.pool.takeAll(packets, 2), 2);
  const marker = new Uint8Array(60).fill(0xff, 0, 6);
  marker.set([MARKER_TYPE >>> 8, MARKER_TYPE & 0xff], 12);
  for (const [i, bytes] of [frame, marker].entries()) {
    from.pool.bytes.set(bytes, packets.words[i * PACKET_WORDS + PacketWord.PLACE]);
    packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = bytes.length;
  }
  packets.words[PacketWord.FLAGS] = flags;
  packets.words[PacketWord.OFFLOAD] = offload;
  assert.equal(from.txBurst(0, packets, 2), 2);
  const received = [];
  for (;;) {
    assert.ok(await to.receivable(0, { timeoutMs: 10_000 }), "the marker comes through");
    const count = to.rxBurst(0, packets);
    let marked = false;
    for (let i = 0; i < count; i++) {
      const at = i * PACKET_WORDS;
      const bytes = to.pool.frame(packets, i).slice();
      const [word, tag] = [
        packets.words[at + PacketWord.FLAGS] as number,
        packets.words[at + PacketWord.OFFLOAD] as number,
      ];
      if (bytes[12] === MARKER_TYPE >>> 8 && bytes[13] === (MARKER_TYPE & 0xff)) marked = true;
      else received.push({ bytes, flags: word, tag: tag >>> 16 });
    }
    to.pool.giveAll(packets, count);
    if (marked) return received;
  }
}

test("checksums are computed and checked, tags put in and taken out", async () => {
  await withDevices(BOTH, {}, async (igbDevice, e1000eDevice) => {
    for (const [a, b] of [
      [igbDevice, e1000eDevice],
      [e1000eDevice, igbDevice],
    ] as const) {
      const { VLAN, IPV4_CHECKED, IPV4_BAD, L4_CHECKED, L4_BAD, IPV4_CHECKSUM, UDP_CHECKSUM } = PacketFlag;
      const good = udpFrame({ to: b.mac, from: a.mac, payload: 100 });
      const [plain] = await pass(a, b, good);
      assert.deepEqual(plain?.bytes, good);
      assert.equal(plain?.flags, IPV4_CHECKED | L4_CHECKED);

      const open = udpFrame({ to: b.mac, from: a.mac, payload: 100, checksums: "left to the device" });
      const [computed] = await pass(a, b, open, IPV4_CHECKSUM | UDP_CHECKSUM, offloadWord(14, 20));
      assert.deepEqual(computed?.bytes, good, "the device computes what the program would have");

      const wrong = good.slice();
      wrong[60] = (wrong[60] as number) ^ 1;
      assert.equal((await pass(a, b, wrong))[0]?.flags, IPV4_CHECKED | L4_CHECKED | L4_BAD);
      const torn = good.slice();
      torn[22] = 63;
      assert.equal(((await pass(a, b, torn))[0]?.flags ?? 0) & (IPV4_CHECKED | IPV4_BAD), IPV4_CHECKED | IPV4_BAD);

      const [tagged] = await pass(a, b, good, VLAN, offloadWord(14, 20, 0x6064));
      assert.deepEqual(tagged?.bytes, good);
      assert.deepEqual([(tagged?.flags ?? 0) & VLAN, tagged?.tag], [VLAN, 0x6064]);
      const [both] = await pass(a, b, open, VLAN | IPV4_CHECKSUM | UDP_CHECKSUM, offloadWord(14, 20, 7));
      assert.deepEqual([both?.bytes, both?.tag], [good, 7]);
    }
  });
});

test("filters: other addresses, multicast, VLANs", async () => {
  await withDevices(BOTH, {}, async (igbDevice, e1000eDevice) => {
    for (const [a, b] of [
      [igbDevice, e1000eDevice],
      [e1000eDevice, igbDevice],
    ] as const) {
      const count = async (to: Uint8Array, flags = 0, tag = 0): Promise<number> => {
        const frame = udpFrame({ to, from: a.mac, payload: 30 });
        return (await pass(a, b, frame, flags, offloadWord(14, 20, tag))).length;
      };
      const stranger = Uint8Array.of(2, 0, 0, 9, 9, 9);
      const group = Uint8Array.of(1, 0, 0x5e, 1, 2, 3);
      assert.deepEqual([await count(b.mac), await count(stranger), await count(group)], [1, 0, 0]);
      assert.equal(await count(new Uint8Array(6).fill(0xff)), 1);
      await b.setMulticast([group]);
      assert.deepEqual([await count(group), await count(Uint8Array.of(1, 0, 0x5e, 9, 9, 9))], [1, 0]);
      await b.setReceiveMode({ allMulticast: true });
      assert.equal(await count(Uint8Array.of(1, 0, 0x5e, 9, 9, 9)), 1);
      await b.setReceiveMode({ promiscuous: true });
      assert.equal(await count(stranger), 1);
      await b.setReceiveMode({});
      await b.setMulticast([]);
      assert.deepEqual([await count(stranger), await count(group)], [0, 0]);
      const { VLAN } = PacketFlag;
      await b.setVlans([5, 100]);
      assert.deepEqual([await count(b.mac, VLAN, 5), await count(b.mac, VLAN, 6), await count(b.mac)], [1, 0, 1]);
      await b.setVlans(undefined);
      assert.equal(await count(b.mac, VLAN, 6), 1);
      const other = Uint8Array.of(2, 0, 0, 1, 2, 3);
      const own = b.mac;
      await b.setMac(other);
      assert.deepEqual([await count(other), await count(own)], [1, 0]);
      await b.reset();
      await b.waitForLink();
      assert.deepEqual([b.mac, await count(other)], [other, 1]);
      await b.setMac(own);
    }
  });
});

test("packets are spread over queues, and a worker has one of its own", async () => {
  await withDevices(BOTH, { queues: 1 }, async (a, b) => {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      await using workers = await to.openWorkerQueue();
      const worker = new Worker(new URL("./net-worker.ts", import.meta.url), { workerData: workers.handle() });
      const exited = once(worker, "exit");
      await once(worker, "message");
      assert.ok(workers.owned);
      let own = 0;
      const flows = 32;
      for (let flow = 0; flow < flows; flow++) {
        own += (await pass(from, to, udpFrame({ to: to.mac, from: from.mac, payload: 40, host: flow }))).length;
      }
      worker.postMessage("end");
      const [{ received }] = (await once(worker, "message")) as [{ received: number }];
      await exited;
      assert.equal(own + received, flows);
      assert.ok(own > 2 && received > 2, `${own} here, ${received} there`);
      assert.equal(workers.owned, false);
    }
  });
});

test("ring3 echo-stress over two queues, with the kernel's stack at the other end", async () => {
  await bind(e1000e.address, "e1000e");
  try {
    const netdev = (await rootOutput(`ls /sys/bus/pci/devices/${e1000e.address}/net`)).trim();
    await rootOutput(`ip link set ${netdev} up; ip addr add ${KERNEL}/24 dev ${netdev}`);
    await using kernel = await kernelEcho(KERNEL);
    const words = ["echo-stress", igb.address, `${KERNEL}:${kernel.port}`, "--ip", "192.0.2.2/24"];
    const load = ["--threads", "2", "--queues", "2", "-n", "1000", "-w", "16", "--timeout", "60000"];
    const { status, stdout, stderr } = await captured([...words, ...load, "--json"]);
    assert.equal(status, 0, stderr);
    const { sent, received, lost, late, corrupt, queues } = JSON.parse(stdout) as Record<string, number> & {
      readonly queues: readonly Readonly<Record<string, number>>[];
    };
    const all = 2000;
    assert.deepEqual(
      { sent, received, lost, late, corrupt },
      { sent: all, received: all, lost: 0, late: 0, corrupt: 0 },
    );
    assert.deepEqual(
      queues.map(({ index }) => index),
      [0, 1],
    );
    for (const queue of queues) assert.ok((queue["tx_packets"] ?? 0) >= all / 2, stdout);
    const sum = (name: string): number => queues.reduce((total, queue) => total + (queue[name] ?? 0), 0);
    assert.deepEqual([sum("handedOver"), sum("lost")], [sum("takenOver"), 0]);
  } finally {
    await bind(e1000e.address, "vfio-pci");
  }
});

test("long frames with large buffers, and no frame beyond the MTU", async () => {
  await using first = await open(igb.address);
  await using second = await open(e1000e.address);
  // QEMU loses what it sends from pages that do not follow each other in the guest's memory: one page for a buffer.
  using pool = PacketPool.create(first.dma.arena, { buffers: 256, bufferBytes: 4096 });
  await using a = await openNetDevice(first, { pool, ringEntries: 32 });
  await using b = await openNetDevice(second, { pool, ringEntries: 32 });
  for (const device of [a, b]) await device.waitForLink();
  const size = 3000;
  const frame = (to: NetDevice, from: NetDevice): Uint8Array =>
    udpFrame({ to: to.mac, from: from.mac, payload: size - 28 });
  assert.equal((await pass(a, b, frame(b, a))).length, 0);
  assert.equal((await pass(b, a, frame(a, b))).length, 0);
  for (const device of [a, b]) {
    await device.setMtu(size);
    await device.waitForLink();
  }
  assert.deepEqual((await pass(a, b, frame(b, a)))[0]?.bytes, frame(b, a));
  assert.deepEqual((await pass(b, a, frame(a, b)))[0]?.bytes, frame(a, b));
  assert.equal(new DataView(frame(a, b).buffer).getUint16(16), size);
  assert.equal(checksum(frame(a, b).subarray(14, 34)), 0);
});

test("a link that goes down and comes up again is told, and frames go on", async () => {
  await withDevices(BOTH, {}, async (a, b) => {
    for (const [device, id] of [
      [a, igb.id],
      [b, e1000e.id],
    ] as const) {
      const events: LinkState[] = [];
      using _listening = device.events.on("link", (state) => events.push(state));
      await qmp("set_link", { name: id, up: false });
      while (events.length === 0) await device.receivable(0, { timeoutMs: 20 });
      assert.equal(device.link.up, false);
      await qmp("set_link", { name: id, up: true });
      await device.waitForLink();
      assert.deepEqual(
        events.map(({ up }) => up),
        [false, true],
      );
      assert.equal(device.link.speedMbps, 1000);
      const other = device === a ? b : a;
      assert.deepEqual(await exchange(other, device, { frames: FRAMES }), WHOLE);
    }
  });
});

test("devices that are pulled out under load end bursts and waits with an error", async () => {
  await rootOutput("echo 0 > /sys/bus/pci/drivers_autoprobe");
  await using peerFunction = await open(igb.address);
  await using peer = await openNetDevice(peerFunction);
  await peer.waitForLink();
  // Letting go takes the slot's driver some seconds: both at once.
  await Promise.all((["e1000e", "igb"] as const).map((model, i) => pullOut(model, HOTPLUG[i] ?? HOTPLUG[0], peer)));
});

async function pullOut(model: string, { port, address }: (typeof HOTPLUG)[number], peer: NetDevice): Promise<void> {
  const netdev = `wire-${model}`;
  await qmp("netdev_add", { type: "hubport", id: netdev, hubid: 1 });
  await qmp("device_add", { driver: model, id: `guest-${model}`, netdev, bus: port });
  await awaitFunction(address, true);
  await bind(address, "vfio-pci");
  await using fn = await open(address);
  await using device = await openNetDevice(fn);
  await device.waitForLink();
  const removed = new Promise<string>((resolve) => device.events.on("removed", ({ code }) => resolve(code)));
  const load = flood(device, peer);
  await qmp("device_del", { id: `guest-${model}` });
  await assert.rejects(load, { code: "FUNCTION_REMOVED" });
  assert.equal(await removed, "FUNCTION_REMOVED");
  await assert.rejects(device.receivable(0), { code: "FUNCTION_REMOVED" });
  await fn[Symbol.asyncDispose]();
  await awaitFunction(address, false);
}

/** Sends and receives for as long as the first device lives. */
async function flood(device: NetDevice, peer: NetDevice): Promise<never> {
  using packets = new Packets(device.pool.arena, 32);
  for (;;) {
    for (const [from, to] of [
      [device, peer],
      [peer, device],
    ] as const) {
      const count = from.pool.takeAll(packets, 16);
      for (let i = 0; i < count; i++) {
        const at = i * PACKET_WORDS;
        from.pool.bytes.set(to.mac, packets.words[at + PacketWord.PLACE]);
        packets.words[at + PacketWord.LENGTH] = 1000;
      }
      const sent = from.txBurst(0, packets, count);
      from.pool.giveAll(packets, count - sent, sent);
      await to.receivable(0, { timeoutMs: 2 });
      to.pool.giveAll(packets, to.rxBurst(0, packets));
    }
  }
}

test("ring3 forward has room for its packets within what a user may lock, which counts for each device", {
  skip: SKIP_UNLESS_FULL,
}, async () => {
  const words = ["/ring3/packages/cli/src/main.js", "forward", ...BOTH, "--seconds", "1", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  const { ways } = JSON.parse(stdout) as { readonly ways: readonly { readonly from: string }[] };
  assert.deepEqual(
    ways.map(({ from }) => from),
    BOTH,
  );
});

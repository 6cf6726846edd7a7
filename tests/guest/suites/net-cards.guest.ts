// The stack over whole cards, as uid 1000: igb, e1000e and virtio-net echo datagrams to each other and with the kernel's own
// stack, while a third station throws frames that are too short, too long and malformed; and rings that are full.
// timeout: 900
// timeout-full: 14400
// kernels: iommufd
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { NetDevice } from "../../../packages/ring3/src/drivers/net/device.ts";
import { openNetDevice } from "../../../packages/ring3/src/drivers/net/open.ts";
import { PacketPool } from "../../../packages/ring3/src/drivers/net/packet-pool.ts";
import { Packets } from "../../../packages/ring3/src/drivers/net/packets.ts";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { brokenCounts, brokenFrames, throwFrames } from "../broken-frames.ts";
import { kernelEcho } from "../echo.ts";
import { exchange, prepareFrames } from "../frames.ts";
import { asRoot, bind, bindStandard, FULL, qmp, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";
import { type Counters, dropped, kernelDropped, rally } from "../rally.ts";
import { plugVirtioNet, VIRTIO_NET, VIRTIO_WIRE } from "../virtio-net.ts";

/** Round trips between two of ours; a million with RING3_GUEST_FULL=1. */
const DATAGRAMS = FULL ? 1_000_000 : 1000;
/** With the kernel's stack, which takes ten times as long under emulation. */
const KERNEL_DATAGRAMS = FULL ? 100_000 : 200;
/** How often each broken frame is thrown. */
const THROWS = FULL ? 10_000 : 100;
const { igb, e1000e } = FUNCTIONS;
/** 10.9.0.1 is who throws. */
const [SERVICE, CLIENT, KERNEL] = ["10.9.0.2", "10.9.0.3", "10.9.0.4"];

let virtio: AsyncDisposable;

before(async () => {
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  await qmp("netdev_add", VIRTIO_WIRE);
  virtio = await plugVirtioNet(VIRTIO_WIRE.id);
  // Without its virtual functions, which go with the kernel's driver.
  await rootOutput(`echo 0 > /sys/bus/pci/devices/${igb.address}/sriov_numvfs`);
  await rootOutput("echo 8388608 > /proc/sys/net/core/rmem_max");
  await bind(igb.address, "vfio-pci");
});
after(async () => {
  await virtio[Symbol.asyncDispose]();
  await qmp("netdev_del", { id: VIRTIO_WIRE.id });
  await bindStandard();
});

const CARDS = [
  { service: "igb", client: "e1000e", thrower: "virtio-net", addresses: [igb.address, e1000e.address, VIRTIO_NET] },
  { service: "e1000e", client: "virtio-net", thrower: "igb", addresses: [e1000e.address, VIRTIO_NET, igb.address] },
  { service: "virtio-net", client: "igb", thrower: "e1000e", addresses: [VIRTIO_NET, igb.address, e1000e.address] },
] as const;

for (const { service, client, thrower, addresses } of CARDS) {
  test(`${service} echoes ${DATAGRAMS} datagrams to ${client}, and ${thrower} throws broken frames at it`, async (t) => {
    assert.equal(process.getuid?.(), 1000);
    const [first, second, third] = addresses;
    await withDevices([first, second], {}, async (a, b) => {
      await using resources = new AsyncDisposableStack();
      const left = resources.use(await Stack.start(a, { address: `${SERVICE}/24` }));
      const right = resources.use(await Stack.start(b, { address: `${CLIENT}/24` }));
      const endpoint = left.udp.bind(7, {
        listener: (bytes, at, length, address, from) => endpoint.sendFrom(bytes, at, length, address, from),
      });
      resources.use(endpoint);
      const troublemaker = await withLongFrames(third, resources);
      // QEMU's igb and e1000e look into what they send, and keep a header that is too short.
      const kept = troublemaker.driver === "virtio-net" ? "" : "ipv4 header-length";
      const frames = brokenFrames(a.mac, troublemaker.mac).filter(({ reason }) => reason !== kept);
      const losses = (): Counters => ({ ...dropped(service, left), ...dropped(client, right) });
      const peer = { address: SERVICE, port: 7 };
      await Promise.all([
        rally(t, right, { name: `${client} to ${service}`, service: peer, datagrams: DATAGRAMS, losses }),
        throwFrames(troublemaker, frames, THROWS),
      ]);
      // The last of the frames may still be on their way.
      await right.ping(SERVICE, { timeoutMs: 20_000 });
      const counts = brokenCounts(frames, THROWS);
      const { "arp short": short = 0, ...malformed } = left.statistics.malformed as Record<string, number>;
      // Only virtio-net gets the short one as it was sent.
      assert.equal(short, service === "virtio-net" ? THROWS : 0);
      assert.deepEqual({ ...malformed, "arp format": (malformed["arp format"] ?? 0) + short }, counts);
      assert.deepEqual(right.statistics.malformed, {});
    });
  });
}

/** A card that sends frames beyond the others' MTU. */
async function withLongFrames(address: string, resources: AsyncDisposableStack): Promise<NetDevice> {
  const fn = resources.use(await open(address));
  // QEMU loses what it sends from pages that do not follow each other in the guest's memory: one page for a buffer.
  const pool = resources.use(PacketPool.create(fn.dma.arena, { buffers: 512, bufferBytes: 4096 }));
  const device = resources.use(await openNetDevice(fn, { pool, ringEntries: 64, mtu: 3000 }));
  await device.waitForLink();
  return device;
}

const WITH_KERNEL = [
  { ours: "igb", address: igb.address, kernel: e1000e.address, driver: "e1000e" },
  { ours: "e1000e", address: e1000e.address, kernel: igb.address, driver: "igb" },
  { ours: "virtio-net", address: VIRTIO_NET, kernel: igb.address, driver: "igb" },
] as const;

for (const { ours, address, kernel, driver } of WITH_KERNEL) {
  test(`${ours} and the kernel's stack over ${driver} echo ${KERNEL_DATAGRAMS} datagrams`, async (t) => {
    await asKernels(t, kernel, driver, async (name) => {
      await withDevices([address], {}, async (device) => {
        await using stack = await Stack.start(device, { address: `${CLIENT}/24` });
        const reply = await stack.ping(KERNEL, { timeoutMs: 20_000, payloadBytes: 4000 });
        assert.equal(reply.payloadBytes, 4000, "in fragments");
        await using service = await kernelEcho(KERNEL);
        const losses = async (): Promise<Counters> => ({ ...dropped(ours, stack), ...(await kernelDropped(name)) });
        await rally(t, stack, { name: `${ours} to kernel`, service, datagrams: KERNEL_DATAGRAMS, losses });
        assert.deepEqual(stack.statistics.malformed, {});
      });
    });
  });
}

/** Gives a card to the kernel, with an address, for as long as `body` runs. */
async function asKernels(
  t: TestContext,
  address: string,
  driver: string,
  body: (name: string) => Promise<void>,
): Promise<void> {
  await bind(address, driver);
  t.after(() => bind(address, "vfio-pci"));
  const name = (await rootOutput(`ls /sys/bus/pci/devices/${address}/net`)).trim();
  await rootOutput(`ip link set ${name} up; ip addr add ${KERNEL}/24 dev ${name}`);
  await body(name);
}

test("full rings: what nobody takes is counted or waits, and all goes on", async () => {
  await withDevices([igb.address, e1000e.address, VIRTIO_NET], { ringEntries: 64 }, async (...devices) => {
    for (const [i, to] of devices.entries()) {
      const from = devices[(i + 1) % devices.length] as NetDevice;
      const missedBefore = to.statistics().rx_missed_errors;
      const sent = await overfill(from, to.mac, 200);
      const missed = (): number => to.statistics().rx_missed_errors - missedBefore;
      const came = await drain(to, () => sent - missed());
      assert.ok(came >= 63, `${to.driver}: ${came} came, its ring was not full`);
      // QEMU's igb loses what waited in front of it when its ring is full again, and counts nothing (`igb_receive_internal`).
      if (to.driver !== "igb") assert.equal(came + missed(), sent, `${to.driver}: ${came} came, ${missed()} missed`);
      assert.deepEqual(await exchange(from, to, { frames: 200 }), {
        count: 200,
        damaged: 0,
        duplicated: 0,
        disordered: 0,
      });
    }
  });
});

/** Sends `count` frames to a card that does not look, more at once than a ring takes. */
async function overfill(from: NetDevice, to: Uint8Array, count: number): Promise<number> {
  using packets = new Packets(from.pool.arena, count);
  const prepared = prepareFrames(from, packets, { to, first: 0, count });
  const first = from.txBurst(0, packets, prepared);
  assert.ok(first < prepared, `${from.driver}: a ring of 64 took ${first}`);
  let sent = first;
  while (sent < prepared) {
    sent += from.txBurst(0, packets, prepared - sent, sent);
    await from.receivable(0, { timeoutMs: 1 });
  }
  return sent;
}

/** Takes frames until as many as are to come are there, or none has come for long. */
async function drain(to: NetDevice, expected: () => number): Promise<number> {
  using packets = new Packets(to.pool.arena, 32);
  let came = 0;
  while (came < expected() && (await to.receivable(0, { timeoutMs: 5000 }))) {
    const count = to.rxBurst(0, packets);
    to.pool.giveAll(packets, count);
    came += count;
  }
  return came;
}

// DPDK's testpmd as the peer over the wire: it answers our pings, gives our frames back with their addresses swapped, and as they
// are. By default it has igb and we have e1000e; with RING3_GUEST_FULL=1 every kind of card is on either side.
// timeout: 600
// timeout-full: 1800
// kernels: any
// seconds: 58
// packages: dpdk
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import { exchange } from "../frames.ts";
import { asRoot, bind, bindStandard, FULL, qmp, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";
import { startTestpmd } from "../testpmd.ts";
import { plugVirtioNet, VIRTIO_NET, VIRTIO_WIRE } from "../virtio-net.ts";

const { igb, igbVf0, igbVf1, e1000e } = FUNCTIONS;
const FRAMES = 1000;
const PINGS = 20;
/** It answers every address. */
const [OURS, ITS] = ["192.0.2.1", "192.0.2.2"];

interface Pair {
  readonly name: string;
  readonly peer: string;
  readonly ours: string;
  /** Whether igb is whole, or the kernel's with virtual functions. */
  readonly igb: "physical" | "virtual functions";
}

const PAIRS: readonly Pair[] = [
  { name: "igb, and we e1000e", peer: igb.address, ours: e1000e.address, igb: "physical" },
  { name: "e1000e, and we igb", peer: e1000e.address, ours: igb.address, igb: "physical" },
  { name: "virtio-net, and we igb", peer: VIRTIO_NET, ours: igb.address, igb: "physical" },
  { name: "igb, and we virtio-net", peer: igb.address, ours: VIRTIO_NET, igb: "physical" },
  { name: "a virtual function, and we another", peer: igbVf0.address, ours: igbVf1.address, igb: "virtual functions" },
];

let virtio: AsyncDisposable | undefined;

before(async () => {
  if (!FULL) return;
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  await qmp("netdev_add", VIRTIO_WIRE);
  virtio = await plugVirtioNet(VIRTIO_WIRE.id);
});
after(async () => {
  if (!FULL) return;
  await virtio?.[Symbol.asyncDispose]();
  await qmp("netdev_del", { id: VIRTIO_WIRE.id });
});

/** Gives igb to us whole, or to the kernel, whose virtual functions are ours. */
async function divide(pair: Pair): Promise<void> {
  await bindStandard();
  if (pair.igb === "virtual functions") {
    const parent = (await rootOutput(`ls /sys/bus/pci/devices/${igb.address}/net`)).trim();
    await rootOutput(`ip link set ${parent} up`);
    return;
  }
  await rootOutput(`echo 0 > /sys/bus/pci/devices/${igb.address}/sriov_numvfs`);
  await bind(igb.address, "vfio-pci");
}

for (const pair of FULL ? PAIRS : PAIRS.slice(0, 1)) {
  test(`testpmd has ${pair.name}`, async () => {
    await divide(pair);
    await using peer = await startTestpmd([pair.peer]);
    await withDevices([pair.ours], {}, async (device) => {
      await peer.forward("icmpecho");
      const stack = await Stack.start(device, { address: `${OURS}/24` });
      for (let i = 0; i < PINGS; i++) {
        const { address, payloadBytes } = await stack.ping(ITS, { timeoutMs: 20_000, payloadBytes: (i * 73) % 1473 });
        assert.deepEqual([address, payloadBytes], [ITS, (i * 73) % 1473]);
      }
      const [neighbour] = stack.neighbours;
      assert.ok(neighbour !== undefined);
      await stack[Symbol.asyncDispose]();

      const whole = { count: FRAMES, damaged: 0, duplicated: 0, disordered: 0 };
      const to = { frames: FRAMES, to: neighbour.mac, idleMs: 5000 };
      await peer.forward("macswap");
      assert.deepEqual(await exchange(device, device, to), whole);
      // As they are: they come back for the peer, and we listen to everybody. A virtual function may not.
      if (device.capabilities.promiscuous) {
        await peer.forward("io");
        await device.setReceiveMode({ promiscuous: true });
        assert.deepEqual(await exchange(device, device, to), whole);
      }
      const counts = (await peer.finish()).at(-1)?.[0];
      const most = (device.capabilities.promiscuous ? 2 : 1) * FRAMES + PINGS;
      assert.ok(counts !== undefined && counts.received >= most && counts.sent >= most, JSON.stringify(counts));
    });
  });
}

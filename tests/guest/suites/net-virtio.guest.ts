// QEMU's virtio-net under our driver and stack, over the kernel's VFIO as uid 1000: echo with the kernel's own stack, fragments,
// DHCP from QEMU's network, link, reset and unplugging.
// timeout: 600
// kernels: any
// seconds: 28
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { after, before, test } from "node:test";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import type { StackOptions } from "../../../packages/ring3/src/drivers/net/stack-options.ts";
import { VirtioNetDriver, type VirtioNetDriverOptions } from "../../../packages/ring3/src/drivers/virtio/net-driver.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { echo, kernelEcho } from "../echo.ts";
import { asRoot, awaitFunction, qmp, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { plugVirtioNet, VIRTIO_NET, VIRTIO_WIRE } from "../virtio-net.ts";

const DATAGRAMS = 1000;
const KERNEL = "192.0.2.1";
const OURS = "192.0.2.2";
/** A hub with QEMU's own network behind it. */
const INTERNET = [
  { type: "user", id: "internet" },
  { type: "hubport", id: "internet-port", hubid: 2, netdev: "internet" },
  { type: "hubport", id: "wire-dhcp", hubid: 2 },
];

let parent = "";

before(async () => {
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  parent = (await rootOutput(`ls /sys/bus/pci/devices/${FUNCTIONS.igb.address}/net`)).trim();
  await rootOutput(`ip link set ${parent} up; ip addr add ${KERNEL}/24 dev ${parent}`);
  for (const netdev of [VIRTIO_WIRE, ...INTERNET]) await qmp("netdev_add", netdev);
});
after(async () => {
  await asRoot(`ip addr flush dev ${parent}; ip link set ${parent} down`);
  for (const { id } of [VIRTIO_WIRE, ...INTERNET].toReversed()) await qmp("netdev_del", { id });
});

interface Plugged extends AsyncDisposable {
  readonly nic: VirtioNetDriver;
}

/** Plugs a virtio-net in, starts its driver, and takes both away again. */
async function plugged(
  netdev: string,
  device: Record<string, unknown>,
  options: VirtioNetDriverOptions,
): Promise<Plugged> {
  await using resources = new AsyncDisposableStack();
  resources.use(await plugVirtioNet(netdev, device));
  const fn = resources.use(await open(VIRTIO_NET));
  const nic = resources.use(await VirtioNetDriver.start(fn, options));
  const all = resources.move();
  return { nic, [Symbol.asyncDispose]: () => all[Symbol.asyncDispose]() };
}

const STACK: StackOptions = { address: `${OURS}/24` };

test("packed rings, MSI-X: echo with the kernel's stack, fragments, link, reset, groups, unplugged under load", async () => {
  assert.equal(process.getuid?.(), 1000);
  await using kernel = await kernelEcho(KERNEL);
  await using setup = await plugged(VIRTIO_WIRE.id, { packed: true }, {});
  const { nic } = setup;
  assert.ok((await nic.waitForLink()).up);
  assert.deepEqual([nic.operation.ring, nic.operation.interrupts], ["packed", "msix"]);
  await using stack = await Stack.start(nic, STACK);
  const reply = await stack.ping(KERNEL, { timeoutMs: 10_000, payloadBytes: 5000 });
  assert.equal(reply.payloadBytes, 5000, "in four fragments each way");
  const nobody = assert.rejects(stack.ping("192.0.2.77", { timeoutMs: 20_000 }), { code: "NET_UNREACHABLE" });
  assert.deepEqual(await echo(stack, kernel, DATAGRAMS), { good: DATAGRAMS, wrong: 0, twice: 0 });
  const { stdout } = await asRoot(`ping -c 3 -i 0.2 -s 3000 ${OURS}`);
  assert.match(stdout, /3 packets transmitted, 3 packets received/);
  assert.deepEqual(stack.statistics.malformed, {});
  await nobody;

  const down = new Promise<void>((resolve) => nic.events.on("link", ({ up }) => up || resolve()));
  await qmp("set_link", { name: "vnet", up: false });
  await down;
  assert.equal(nic.link.up, false);
  await qmp("set_link", { name: "vnet", up: true });
  await nic.waitForLink();

  const load = echo(stack, kernel, 64);
  await nic.reset();
  await nic.reset();
  const { wrong, twice } = await load;
  assert.deepEqual({ wrong, twice }, { wrong: 0, twice: 0 }, "lost at most");
  assert.equal(nic.operation.resets, 2);
  assert.deepEqual(await echo(stack, kernel, 100), { good: 100, wrong: 0, twice: 0 });

  await stack.join("239.1.2.3");
  using endpoint = stack.udp.bind(5000);
  const sender = createSocket("udp4");
  sender.bind(0, KERNEL, () => {
    sender.setMulticastInterface(KERNEL);
    sender.send(Buffer.from("to the group"), 5000, "239.1.2.3");
  });
  const datagram = await endpoint.receive();
  sender.close();
  assert.equal(Buffer.from(datagram?.data ?? []).toString(), "to the group");
  assert.equal(datagram?.destination, "239.1.2.3");

  const told = new Promise<{ code: string }>((resolve) => nic.events.on("removed", resolve));
  const last = echo(stack, kernel, 16).catch(() => undefined);
  await qmp("device_del", { id: "vnet" });
  assert.equal((await told).code, "FUNCTION_REMOVED");
  await last;
  await assert.rejects(stack.ping(KERNEL), { code: "FUNCTION_REMOVED" });
  await awaitFunction(VIRTIO_NET, false);
});

test("split rings without event index, the line: echo with the kernel's stack", async () => {
  await using kernel = await kernelEcho(KERNEL);
  const device = { vectors: 0, event_idx: false };
  await using setup = await plugged(VIRTIO_WIRE.id, device, { receiveMode: "interrupt" });
  const { nic } = setup;
  assert.deepEqual([nic.operation.ring, nic.operation.interrupts], ["split", "intx"]);
  await nic.waitForLink();
  await using stack = await Stack.start(nic, STACK);
  assert.deepEqual(await echo(stack, kernel, DATAGRAMS), { good: DATAGRAMS, wrong: 0, twice: 0 });
});

test("an address by DHCP from QEMU's network, whose router answers", async () => {
  await using setup = await plugged("wire-dhcp", {}, {});
  const { nic } = setup;
  await nic.waitForLink();
  await using stack = await Stack.start(nic, { dhcp: { hostName: "ring3" } });
  const { address, gateway, lease } = stack.configuration;
  assert.deepEqual([address, gateway, lease?.prefix], ["10.0.2.15", "10.0.2.2", 24]);
  assert.equal((await stack.ping("10.0.2.2", { timeoutMs: 10_000 })).address, "10.0.2.2");
});

// QEMU's virtio-net, plugged into the guest for a suite that wants one: the machine has none of its own.
import { existsSync } from "node:fs";
import { awaitDeletion, awaitFunction, bind, qmp } from "./inside.ts";
import { HOTPLUG } from "./machine.ts";

const [{ port, address }] = HOTPLUG;
const ID = "vnet";

/** Where it appears. */
export const VIRTIO_NET: string = address;
/** A port for it on the hub of igb and e1000e, as QEMU's `netdev_add` takes it. */
export const VIRTIO_WIRE = { type: "hubport", id: "wire-virtio", hubid: 1 } as const;

/**
 * Plugs it in at `netdev`, with further properties, for our driver. Disposal unplugs it, where that has not happened yet. The
 * kernel's automatic binding has to be off.
 */
export async function plugVirtioNet(
  netdev: string,
  properties: Readonly<Record<string, unknown>> = {},
): Promise<AsyncDisposable> {
  await awaitDeletion(ID);
  const standard = { "disable-legacy": "on", iommu_platform: true, mac: "52:54:00:00:0a:00" };
  await qmp("device_add", { driver: "virtio-net-pci", id: ID, bus: port, netdev, ...standard, ...properties });
  await awaitFunction(address, true);
  await bind(address, "vfio-pci");
  return {
    [Symbol.asyncDispose]: async () => {
      if (!existsSync(`/sys/bus/pci/devices/${address}`)) return;
      await bind(address, "none");
      await qmp("device_del", { id: ID });
      await awaitFunction(address, false);
    },
  };
}

// Which driver a network function gets: one table of ids, and the drivers loaded when they are wanted.
import { Ring3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import type { PciFunction } from "../../pci/function.ts";
import { E1000E_DEVICE_IDS } from "../../specs/e1000e/registers.ts";
import { INTEL_VENDOR_ID } from "../../specs/gigabit/registers.ts";
import { IGB_DEVICE_IDS, IGB_VF_DEVICE_ID } from "../../specs/igb/registers.ts";
import { VIRTIO_DEVICE_ID_BASE, VIRTIO_VENDOR_ID, VirtioDeviceId } from "../../specs/virtio/registers.ts";
import type { AttachedNetQueue, NetDevice, NetDeviceOptions, NetQueueHandle } from "./device.ts";

interface NetDriver {
  /** As in `NetDevice.driver` and `NetQueueHandle.kind`. */
  readonly name: string;
  readonly ids: readonly { readonly vendorId: number; readonly deviceId: number }[];
  start(fn: PciFunction, options: NetDeviceOptions): Promise<NetDevice>;
  attach(handle: NetQueueHandle, arena: Arena | undefined): Promise<AttachedNetQueue>;
}

const intel = (deviceIds: readonly number[]): NetDriver["ids"] =>
  deviceIds.map((deviceId) => ({ vendorId: INTEL_VENDOR_ID, deviceId }));
const attachGigabit: NetDriver["attach"] = async (handle, arena) => {
  const { attachGigabitQueue } = await import("../gigabit/worker-queue.ts");
  return attachGigabitQueue(handle, arena);
};

const drivers: readonly NetDriver[] = [
  {
    name: "igb",
    ids: intel(IGB_DEVICE_IDS),
    start: async (fn, options) => await (await import("../igb/driver.ts")).IgbDriver.start(fn, options),
    attach: attachGigabit,
  },
  {
    name: "igbvf",
    ids: intel([IGB_VF_DEVICE_ID]),
    start: async (fn, options) => await (await import("../igb/driver.ts")).IgbVfDriver.start(fn, options),
    attach: attachGigabit,
  },
  {
    name: "e1000e",
    ids: intel(E1000E_DEVICE_IDS),
    start: async (fn, options) => await (await import("../e1000e/driver.ts")).E1000eDriver.start(fn, options),
    attach: attachGigabit,
  },
  {
    name: "virtio-net",
    ids: [{ vendorId: VIRTIO_VENDOR_ID, deviceId: VIRTIO_DEVICE_ID_BASE + VirtioDeviceId.NET }],
    start: async (fn, options) => await (await import("../virtio/net-driver.ts")).VirtioNetDriver.start(fn, options),
    attach: async (handle, arena) => {
      const { attachVirtioQueue } = await import("../virtio/worker-queue.ts");
      return attachVirtioQueue(handle, arena);
    },
  },
];

/**
 * Starts the driver that fits a network function by its ids.
 * Throws `WRONG_DEVICE` where there is none, and what the driver throws.
 *
 * @example
 * import { openNetDevice } from "ring3/net";
 * await using device = await openNetDevice(fn, { queues: 2 });
 * console.log(device.driver, device.link.up);
 */
export async function openNetDevice(fn: PciFunction, options: NetDeviceOptions = {}): Promise<NetDevice> {
  const { vendorId, deviceId, address } = fn.identity;
  const driver = drivers.find(({ ids }) => ids.some((id) => id.vendorId === vendorId && id.deviceId === deviceId));
  if (driver !== undefined) return await driver.start(fn, options);
  const hex = (id: number): string => id.toString(16).padStart(4, "0");
  const known = drivers.map(({ name }) => name).join(", ");
  throw new Ring3Error(
    "WRONG_DEVICE",
    `${address} is ${hex(vendorId)}:${hex(deviceId)}, which none of the network drivers (${known}) takes`,
  );
}

/**
 * Takes a queue over in this thread. `arena` where it had to be attached by another floor.
 * Throws `NET_QUEUE_OWNED` where another thread has it.
 *
 * @example
 * import { workerData } from "node:worker_threads";
 * import { attachNetQueue, Packets } from "ring3/net";
 * using queue = await attachNetQueue(workerData.queue);
 * using packets = new Packets(queue.pool.arena, 32);
 * const count = queue.rxBurst(packets);
 */
export async function attachNetQueue(handle: NetQueueHandle, arena?: Arena): Promise<AttachedNetQueue> {
  const driver = drivers.find(({ name }) => name === handle.kind);
  if (driver === undefined) throw new Ring3Error("NET_INVALID", `no network driver is called "${handle.kind}"`);
  return await driver.attach(handle, arena);
}

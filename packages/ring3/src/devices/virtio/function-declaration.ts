// How a virtio function is declared: its structures in a BAR, the capabilities that point to them, and the features that every
// device offers. Virtio 1.3, sections 4.1.2 to 4.1.4 and 6.
import { Ring3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import { Feature } from "../../specs/virtio/features.ts";
import { VIRTIO_COMMON_SIZE, VIRTIO_DEVICE_ID_BASE, VIRTIO_VENDOR_ID } from "../../specs/virtio/registers.ts";
import type { IoEventFd } from "../../virtual/declaration.ts";
import { type FunctionDeclaration, msix, pcie, pm } from "../../virtual/index.ts";
import type { DeviceClock } from "../clock.ts";
import { virtioCapability, virtioWindow, type WindowAccess } from "./window-capability.ts";

/** What every virtio device can be asked for. */
export interface VirtioOptions {
  readonly name?: string;
  /** Entries of each queue at most: a power of two up to 1024; 256 by default. */
  readonly queueSize?: number;
  /** Bytes between the places where queues are notified: 4 (default), or 0 for one place for all. */
  readonly notifyMultiplier?: 0 | 4;
  /** Whether packed rings are offered; yes by default. */
  readonly packed?: boolean;
  /** Whether IN_ORDER is offered; no by default. */
  readonly inOrder?: boolean;
  /** Whether NOTIF_CONFIG_DATA is offered; no by default. */
  readonly notificationConfigData?: boolean;
  readonly clock?: DeviceClock;
  readonly arena?: Arena;
}

/** What a kind of virtio device is. */
export interface VirtioModel {
  readonly name: string;
  readonly deviceId: number;
  readonly classCode: number;
  readonly queues: number;
  /** Features of the device itself. */
  readonly features: Iterable<number>;
  /** Bytes of its configuration. */
  readonly configSize: number;
}

/** The BAR that holds everything. */
export const BAR = 0;
/** Each structure has a page of its own, so that clients can treat them differently. */
export const Region = {
  COMMON: 0x0000,
  ISR: 0x1000,
  DEVICE: 0x2000,
  NOTIFY: 0x3000,
  VECTORS: 0x4000,
  PENDING: 0x6000,
} as const;
export const PAGE = 0x1000;
const BAR_SIZE = 0x8000;
export const DEFAULT_QUEUE_SIZE = 256;
const MAXIMUM_QUEUE_SIZE = 1024;
/** Subsystem id of a non-transitional device: 0x40 or higher, section 4.1.2.1. */
const SUBSYSTEM_ID = 0x0040;

/** Bytes of a device's configuration: whole dwords. */
export function configurationBytes({ configSize }: VirtioModel): number {
  return Math.ceil(configSize / 4) * 4;
}

/** Throws `VIRTIO_OPTION` for a queue size that cannot be. */
export function checkOptions({ queueSize = DEFAULT_QUEUE_SIZE }: VirtioOptions): void {
  if (
    Number.isInteger(queueSize) &&
    queueSize >= 1 &&
    queueSize <= MAXIMUM_QUEUE_SIZE &&
    (queueSize & (queueSize - 1)) === 0
  )
    return;
  throw new Ring3Error("VIRTIO_OPTION", `queueSize is a power of two up to ${MAXIMUM_QUEUE_SIZE}, not ${queueSize}`);
}

/** The function of a device; `window` does what its window on the structures is asked for. */
export function declareFunction(model: VirtioModel, options: VirtioOptions, window: WindowAccess): FunctionDeclaration {
  const { notifyMultiplier = 4 } = options;
  return {
    name: options.name ?? model.name,
    modelVersion: 1,
    vendorId: VIRTIO_VENDOR_ID,
    deviceId: VIRTIO_DEVICE_ID_BASE + model.deviceId,
    subsystemVendorId: VIRTIO_VENDOR_ID,
    subsystemId: SUBSYSTEM_ID + model.deviceId,
    revision: 1,
    classCode: model.classCode,
    interruptPin: "A",
    bars: { [BAR]: { size: BAR_SIZE, ioEventFds: doorbells(model.queues, notifyMultiplier) } },
    capabilities: [
      pm(),
      pcie(),
      msix({
        vectors: model.queues + 1,
        table: { bar: BAR, offset: Region.VECTORS },
        pendingBits: { bar: BAR, offset: Region.PENDING },
      }),
      virtioCapability("COMMON", { bar: BAR, offset: Region.COMMON, size: VIRTIO_COMMON_SIZE }),
      virtioCapability("ISR", { bar: BAR, offset: Region.ISR, size: 4 }),
      virtioCapability("DEVICE", { bar: BAR, offset: Region.DEVICE, size: configurationBytes(model) }),
      virtioCapability(
        "NOTIFY",
        { bar: BAR, offset: Region.NOTIFY, size: Math.max(4, notifyMultiplier * model.queues) },
        notifyMultiplier,
      ),
      virtioWindow(window),
    ],
    ...(options.arena === undefined ? {} : { arena: options.arena }),
  };
}

/** Features of the device and of every virtio function. */
export function offeredFeatures(model: VirtioModel, options: VirtioOptions): number[] {
  return [
    ...model.features,
    Feature.VERSION_1,
    Feature.ACCESS_PLATFORM,
    Feature.INDIRECT_DESC,
    Feature.EVENT_IDX,
    Feature.RING_RESET,
    ...((options.packed ?? true) ? [Feature.RING_PACKED] : []),
    ...(options.inOrder ? [Feature.IN_ORDER] : []),
    ...(options.notificationConfigData ? [Feature.NOTIF_CONFIG_DATA] : []),
  ];
}

/** Notifications that need no message: the place says which queue it is, or the value. */
function doorbells(queues: number, multiplier: number): IoEventFd[] {
  return Array.from({ length: queues }, (_, queue) => ({
    offset: Region.NOTIFY + multiplier * queue,
    size: 2,
    ...(multiplier === 0 ? { match: BigInt(queue) } : {}),
  }));
}

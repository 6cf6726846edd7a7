// The open device as the kernel offers it: one method per call, answers decoded, errnos turned into what they mean. It
// keeps no state but the descriptor; who may call what and when is the business of the classes above.

import { Ring3Error } from "../binary/error.ts";
import { i32 } from "../binary/struct.ts";
import { errnoName, systemCallError } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { type EmbeddedPointer, ioctl, tryIoctl } from "../linux/ioctl.ts";
import { growingCall, trailingElements } from "./capability-chain.ts";
import { decodeRegion, type Region } from "./region.ts";
import {
  DeviceCall,
  DeviceFlag,
  Feature,
  FeatureFlag,
  type FeatureName,
  IrqFlag,
  type IrqIndex,
  IrqSet,
} from "./uapi.ts";
import {
  DependentDevice,
  DeviceFeature,
  DeviceInfo,
  HotReset,
  HotResetInfo,
  Ioeventfd,
  IrqInfo,
  IrqSetHeader,
  RegionInfo,
} from "./uapi-structs.ts";

interface DeviceDescription {
  readonly resettable: boolean;
  readonly pci: boolean;
  readonly regionCount: number;
  readonly irqCount: number;
}

export interface IrqDescription {
  readonly index: number;
  readonly count: number;
  readonly eventfd: boolean;
  readonly maskable: boolean;
  readonly automasked: boolean;
  /** Vectors cannot be added while others are on. */
  readonly fixedSize: boolean;
}

/** A function that a hot reset also resets. `id`: its group, or its iommufd device number where `byDevice`. */
interface DependentFunction {
  readonly id: number;
  readonly segment: number;
  readonly bus: number;
  readonly devfn: number;
}
interface HotResetDescription {
  readonly flags: number;
  readonly devices: readonly DependentFunction[];
}

const errnos = { EINVAL: 22, EAGAIN: 11, ENOTTY: 25, ENOSPC: 28, ENODEV: 19, EBUSY: 16 } as const;

export class DeviceFile implements Disposable {
  readonly fd: FileDescriptor;

  constructor(fd: FileDescriptor) {
    this.fd = fd;
  }

  info(): DeviceDescription {
    const answer = this.#info("VFIO_DEVICE_GET_INFO", DeviceCall.GET_INFO, DeviceInfo.bytes({}));
    const { flags, num_regions, num_irqs } = DeviceInfo.from(answer);
    return {
      resettable: (flags & DeviceFlag.RESET) !== 0,
      pci: (flags & DeviceFlag.PCI) !== 0,
      regionCount: num_regions,
      irqCount: num_irqs,
    };
  }

  /** A region; one that the device does not have has size 0. */
  region(index: number): Region {
    const answer = growingCall(RegionInfo.bytes({ index }), (buffer) => {
      const result = tryIoctl(this.fd, DeviceCall.GET_REGION_INFO, buffer, [], "VFIO_DEVICE_GET_REGION_INFO");
      // VGA on a device without VGA says EINVAL; the request still stands in the buffer then, with size 0.
      if (result < 0 && result !== -errnos.EINVAL) throw systemCallError("ioctl VFIO_DEVICE_GET_REGION_INFO", -result);
    });
    return decodeRegion(answer);
  }

  irq(index: IrqIndex): IrqDescription {
    const buffer = IrqInfo.bytes({ argsz: IrqInfo.size, index });
    const result = tryIoctl(this.fd, DeviceCall.GET_IRQ_INFO, buffer, [], "VFIO_DEVICE_GET_IRQ_INFO");
    if (result < 0 && result !== -errnos.EINVAL) throw systemCallError("ioctl VFIO_DEVICE_GET_IRQ_INFO", -result);
    const { flags, count } = result < 0 ? { flags: 0, count: 0 } : IrqInfo.from(buffer);
    return {
      index,
      count,
      eventfd: (flags & IrqFlag.EVENTFD) !== 0,
      maskable: (flags & IrqFlag.MASKABLE) !== 0,
      automasked: (flags & IrqFlag.AUTOMASKED) !== 0,
      fixedSize: (flags & IrqFlag.NORESIZE) !== 0,
    };
  }

  /**
   * Has vectors `start` and following signal these eventfds (-1: none). Returns 0, or how many vectors there are where
   * that is fewer than asked for: then none was switched on.
   */
  setEventfds(
    index: IrqIndex,
    start: number,
    eventfds: readonly number[],
    action: number = IrqSet.ACTION_TRIGGER,
  ): number {
    const data = new Uint8Array(eventfds.length * 4);
    const view = new DataView(data.buffer);
    for (const [i, fd] of eventfds.entries()) i32.encode(view, i * 4, fd);
    return this.#setIrqs(index, IrqSet.DATA_EVENTFD | action, start, eventfds.length, data);
  }

  /** Masks, unmasks or raises one vector now. Returns minus the errno where the kernel refuses. */
  tryActOnVector(index: IrqIndex, action: number, vector: number): number {
    const header = { flags: IrqSet.DATA_NONE | action, index, start: vector, count: 1, argsz: IrqSetHeader.size };
    return tryIoctl(this.fd, DeviceCall.SET_IRQS, IrqSetHeader.bytes(header), [], "VFIO_DEVICE_SET_IRQS");
  }

  /** Switches a whole index off. */
  disableIrqs(index: IrqIndex): void {
    this.#setIrqs(index, IrqSet.DATA_NONE | IrqSet.ACTION_TRIGGER, 0, 0, new Uint8Array(0));
  }

  #setIrqs(index: IrqIndex, flags: number, start: number, count: number, data: Uint8Array): number {
    const buffer = new Uint8Array(IrqSetHeader.size + data.length);
    buffer.set(IrqSetHeader.bytes({ argsz: buffer.length, flags, index, start, count }));
    buffer.set(data, IrqSetHeader.size);
    return ioctl(this.fd, "VFIO_DEVICE_SET_IRQS", DeviceCall.SET_IRQS, buffer);
  }

  /** Resets the function. `busy`: somebody (error recovery, a configuration access) holds it; try again. */
  reset(): "done" | "busy" | "unsupported" {
    const result = tryIoctl(this.fd, DeviceCall.RESET, 0, [], "VFIO_DEVICE_RESET");
    if (result >= 0) return "done";
    if (result === -errnos.EAGAIN) return "busy";
    if (result === -errnos.EINVAL || result === -errnos.ENOTTY) return "unsupported";
    throw systemCallError("ioctl VFIO_DEVICE_RESET", -result);
  }

  /** Which functions a hot reset would reset; `undefined` where the slot or bus cannot be reset. */
  hotResetInfo(): HotResetDescription | undefined {
    let count = 16;
    for (;;) {
      const buffer = new Uint8Array(HotResetInfo.size + count * DependentDevice.size);
      buffer.set(HotResetInfo.bytes({ argsz: buffer.length }));
      const result = tryIoctl(
        this.fd,
        DeviceCall.GET_PCI_HOT_RESET_INFO,
        buffer,
        [],
        "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO",
      );
      const info = HotResetInfo.from(buffer);
      if (result === -errnos.ENODEV) return undefined;
      // Too small: the count says how many there are.
      if (result === -errnos.ENOSPC && count < 4096) {
        count = Math.max(info.count, count * 2);
        continue;
      }
      if (result < 0) throw systemCallError("ioctl VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", -result);
      return { flags: info.flags, devices: trailingElements(buffer, HotResetInfo.size, DependentDevice, info.count) };
    }
  }

  /**
   * Resets the slot or bus. `groups` proves ownership on the group path; it is empty on the iommufd path. `busy`: somebody
   * (error recovery, an access to a BAR) holds one of the functions; try again.
   */
  hotReset(groups: readonly FileDescriptor[]): "done" | "busy" {
    const buffer = new Uint8Array(HotReset.size + groups.length * 4);
    buffer.set(HotReset.bytes({ argsz: buffer.length, count: groups.length }));
    const view = new DataView(buffer.buffer);
    for (const [i, group] of groups.entries()) i32.encode(view, HotReset.size + i * 4, group.number);
    const result = tryIoctl(this.fd, DeviceCall.PCI_HOT_RESET, buffer, [], "VFIO_DEVICE_PCI_HOT_RESET");
    if (result >= 0) return "done";
    if (result === -errnos.EBUSY || result === -errnos.EAGAIN) return "busy";
    throw systemCallError("ioctl VFIO_DEVICE_PCI_HOT_RESET", -result);
  }

  /** Has the kernel write `data` at `offset` of the device's file each time `eventfd` is signalled; -1 ends it. */
  ioeventfd(offset: number, width: number, data: bigint, eventfd: number): void {
    const value = { argsz: Ioeventfd.size, flags: width, offset: BigInt(offset), data, fd: eventfd };
    ioctl(this.fd, "VFIO_DEVICE_IOEVENTFD", DeviceCall.IOEVENTFD, Ioeventfd.bytes(value));
  }

  /** Whether the device has the feature, with these methods. */
  hasFeature(feature: FeatureName, method: "get" | "set" | "any" = "any"): boolean {
    const methods = method === "get" ? FeatureFlag.GET : method === "set" ? FeatureFlag.SET : 0;
    const flags = Feature[feature] | FeatureFlag.PROBE | methods;
    return (
      tryIoctl(
        this.fd,
        DeviceCall.FEATURE,
        DeviceFeature.bytes({ argsz: DeviceFeature.size, flags }),
        [],
        "VFIO_DEVICE_FEATURE",
      ) >= 0
    );
  }

  /** Reads a feature: `data` is what goes in and, after the call, what came out. Returns the call's result. */
  getFeature(feature: FeatureName, data: Uint8Array, pointers: readonly EmbeddedPointer[] = []): number {
    return this.#feature(feature, FeatureFlag.GET, data, pointers);
  }

  setFeature(
    feature: FeatureName,
    data: Uint8Array = new Uint8Array(0),
    pointers: readonly EmbeddedPointer[] = [],
  ): number {
    return this.#feature(feature, FeatureFlag.SET, data, pointers);
  }

  #feature(feature: FeatureName, method: number, data: Uint8Array, pointers: readonly EmbeddedPointer[]): number {
    const buffer = new Uint8Array(DeviceFeature.size + data.length);
    buffer.set(DeviceFeature.bytes({ argsz: buffer.length, flags: Feature[feature] | method }));
    buffer.set(data, DeviceFeature.size);
    const moved = pointers.map(({ at, memory }) => ({ at: at + DeviceFeature.size, memory }));
    const result = tryIoctl(this.fd, DeviceCall.FEATURE, buffer, moved, "VFIO_DEVICE_FEATURE");
    if (result === -errnos.ENOTTY) {
      throw new Ring3Error("NOT_SUPPORTED", `the device or its kernel driver does not offer ${feature}`, {
        errno: errnoName(-result),
        call: "ioctl VFIO_DEVICE_FEATURE",
      });
    }
    if (result < 0) throw systemCallError(`ioctl VFIO_DEVICE_FEATURE ${feature}`, -result);
    data.set(buffer.subarray(DeviceFeature.size));
    return result;
  }

  #info(name: string, request: number, fixed: Uint8Array): Uint8Array {
    return growingCall(fixed, (buffer) => void ioctl(this.fd, name, request, buffer));
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

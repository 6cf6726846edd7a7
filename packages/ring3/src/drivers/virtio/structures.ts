// Finds the structures of a modern virtio function by its vendor capabilities: virtio 1.3, section 4.1.4. Each is checked
// against the BAR that it names before anything touches it.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { BarIndex, PciFunction } from "../../pci/function.ts";
import {
  VIRTIO_COMMON_SIZE,
  VirtioCapability,
  VirtioCapabilityField as Field,
  VirtioCapabilitySize,
  VirtioCommon,
} from "../../specs/virtio/registers.ts";

const VENDOR_SPECIFIC = 0x09;

/** The structures as blocks of registers. */
export interface VirtioStructures {
  readonly common: Registers;
  readonly isr: Registers;
  /** Absent where the device has no configuration. */
  readonly device: Registers | undefined;
  readonly notify: Registers;
  readonly notifyMultiplier: number;
}

interface Place {
  readonly bar: BarIndex;
  readonly offset: number;
  readonly size: number;
  readonly at: number;
}

/** Reads the capabilities. Throws `VIRTIO_LEGACY` where there are none, `VIRTIO_PROTOCOL` where they say nonsense. */
export function findStructures(fn: PciFunction): VirtioStructures {
  const { address } = fn.identity;
  const places = new Map<number, Place>();
  for (const { offset } of fn.config.findAll(VENDOR_SPECIFIC)) {
    if (fn.config.read8(offset + Field.LENGTH) < VirtioCapabilitySize.PLAIN) continue;
    const type = fn.config.read8(offset + Field.TYPE);
    const bar = fn.config.read8(offset + Field.BAR);
    // A driver ignores what it does not know, and takes the first of each kind (section 4.1.4.1).
    if (bar > 5 || places.has(type)) continue;
    const size = fn.config.read32(offset + Field.REGION_LENGTH);
    places.set(type, {
      bar: bar as BarIndex,
      offset: fn.config.read32(offset + Field.REGION_OFFSET),
      size,
      at: offset,
    });
  }
  const place = (type: number, name: string, leastBytes: number): Place => {
    const found = places.get(type);
    if (found === undefined) {
      throw new Ring3Error(
        "VIRTIO_LEGACY",
        `${address} has no ${name} capability: it is no modern virtio device; QEMU makes one with disable-legacy=on`,
      );
    }
    const { size } = fn.bar(found.bar);
    if (found.size < leastBytes || found.offset + found.size > size || found.offset % 4 !== 0) {
      throw new Ring3Error(
        "VIRTIO_PROTOCOL",
        `${address} says that its ${name} structure has ${found.size} bytes at ${found.offset} of BAR ${found.bar}, which has ${size}`,
      );
    }
    return found;
  };
  const registers = ({ bar, offset, size }: Place): Registers => fn.bar(bar).registers({ offset, size });
  const notify = place(VirtioCapability.NOTIFY, "notification", 2);
  // The fields that came with version 1.1 and 1.2 are not needed.
  const common = place(VirtioCapability.COMMON, "common configuration", VirtioCommon.QUEUE_NOTIFY_DATA);
  const device = places.has(VirtioCapability.DEVICE)
    ? place(VirtioCapability.DEVICE, "device configuration", 4)
    : undefined;
  return {
    common: registers({ ...common, size: Math.min(common.size, VIRTIO_COMMON_SIZE) }),
    isr: registers(place(VirtioCapability.ISR, "interrupt status", 1)),
    device: device === undefined ? undefined : registers(device),
    notify: registers(notify),
    notifyMultiplier: fn.config.read32(notify.at + Field.NOTIFY_MULTIPLIER),
  };
}

// Which register map fits a function: by class code, ids, and for virtio by what its capabilities say.
import type { CompletionPlaces } from "./binary/completion-places.ts";
import type { DeviceRegisters } from "./binary/register-map.ts";
import { VendorSpecific } from "./pci/capabilities/vendor-specific.ts";
import type { ConfigSpace } from "./pci/config-space.ts";
import type { Bar, PciFunction } from "./pci/function.ts";
import { eduRegisters } from "./specs/edu/register-map.ts";
import { EduIds } from "./specs/edu/registers.ts";
import { NvmeCompletionPlaces } from "./specs/nvme/completion-places.ts";
import { nvmeRegisters } from "./specs/nvme/register-map.ts";
import { CapHigh, NVME_CLASS_CODE, Nvme } from "./specs/nvme/registers.ts";
import { type VirtioPlace, virtioRegisters } from "./specs/virtio/register-map.ts";
import {
  VIRTIO_DEVICE_ID_BASE,
  VIRTIO_VENDOR_ID,
  VirtioCapability,
  VirtioCapabilityField,
} from "./specs/virtio/registers.ts";
import type { VirtualFunction } from "./virtual/function.ts";

export { type DeviceRegisters, type PlacedRegister, type RegisterMap } from "./binary/register-map.ts";

/**
 * The register map of `fn`, where its device family is one that ring3 knows (nvme, edu, modern virtio): what traces and
 * fault plans take names from. `capHigh` is read for NVMe's doorbell stride, where BAR0 answers.
 *
 * @example
 * import { knownRegisters } from "ring3/registers";
 * knownRegisters(fn)?.name; // "nvme"
 */
export function knownRegisters(fn: Pick<PciFunction, "identity" | "config" | "bar">): DeviceRegisters | undefined {
  const { vendorId, deviceId, classCode } = fn.identity;
  if (classCode === NVME_CLASS_CODE) return nvmeRegisters({ stride: doorbellStride(fn) });
  if (vendorId === EduIds.VENDOR && deviceId === EduIds.DEVICE) return eduRegisters;
  if (vendorId === VIRTIO_VENDOR_ID && deviceId >= VIRTIO_DEVICE_ID_BASE) return virtioRegisters(places(fn.config));
  return undefined;
}

/** As {@link knownRegisters}, for a device in software. */
export function knownDeviceRegisters({ identity, config }: VirtualFunction): DeviceRegisters | undefined {
  const closed = { read32: () => 0xffff_ffff } as unknown as Bar;
  return knownRegisters({ identity, config: config.space, bar: () => closed });
}

/** What finds completions of `fn` among what it writes, where its device family is one that ring3 knows (nvme). */
export function knownCompletions(fn: Pick<PciFunction, "identity" | "bar">): CompletionPlaces | undefined {
  const nvme = fn.identity.classCode === NVME_CLASS_CODE;
  return nvme ? new NvmeCompletionPlaces({ stride: doorbellStride(fn) }) : undefined;
}

/** CAP.DSTRD; 0 where nothing answers. */
function doorbellStride(fn: Pick<PciFunction, "bar">): number {
  try {
    const high = fn.bar(0).read32(Nvme.CAP_HIGH);
    return high === 0xffff_ffff ? 0 : CapHigh.DSTRD.get(high);
  } catch {
    return 0;
  }
}

function places(config: ConfigSpace): VirtioPlace[] {
  const { TYPE, BAR, REGION_OFFSET, REGION_LENGTH, NOTIFY_MULTIPLIER } = VirtioCapabilityField;
  return config.findAll(VendorSpecific).flatMap(({ offset: at }): VirtioPlace[] => {
    if (at + NOTIFY_MULTIPLIER > config.size) return [];
    const type = config.read8(at + TYPE);
    const place = {
      type,
      bar: config.read8(at + BAR),
      offset: config.read32(at + REGION_OFFSET),
      size: config.read32(at + REGION_LENGTH),
    };
    if (type !== VirtioCapability.NOTIFY) return [place];
    return at + NOTIFY_MULTIPLIER + 4 > config.size
      ? []
      : [{ ...place, multiplier: config.read32(at + NOTIFY_MULTIPLIER) }];
  });
}

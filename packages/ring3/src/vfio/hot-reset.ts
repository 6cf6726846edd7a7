// A hot reset takes the whole slot or bus down, and with it functions that may be somebody else's. The kernel demands proof
// of ownership of all: the groups' files on the group path, attached devices of the same iommufd on the other.
import { PciAddress } from "../pci/address.ts";
import type { DeviceFile } from "./device-file.ts";
import { HotResetDeviceId, HotResetInfoFlag } from "./uapi.ts";

/** A function that a hot reset would also reset. */
export interface AffectedFunction {
  readonly address: string;
  /** Its IOMMU group; on the iommufd path the kernel tells ownership instead. */
  readonly group: number | undefined;
  /** Whether this user has it open in this address space; `undefined` where only the groups' files could prove it. */
  readonly owned: boolean | undefined;
}

export interface HotResetScope {
  readonly affected: readonly AffectedFunction[];
  /** Whether the kernel says that all of them are ours; `undefined` on the group path. */
  readonly owned: boolean | undefined;
}

/** What a hot reset would take along; `undefined` where neither slot nor bus can be reset. */
export function hotResetScope(device: DeviceFile): HotResetScope | undefined {
  const info = device.hotResetInfo();
  if (info === undefined) return undefined;
  const byDevice = (info.flags & HotResetInfoFlag.DEVICE_ID) !== 0;
  const affected = info.devices.map(({ id, segment, bus, devfn }) => ({
    address: new PciAddress(segment, bus, devfn >>> 3, devfn & 7).toString(),
    group: byDevice ? undefined : id,
    owned: byDevice ? id !== HotResetDeviceId.NOT_OWNED : undefined,
  }));
  return { affected, owned: byDevice ? (info.flags & HotResetInfoFlag.DEVICE_ID_OWNED) !== 0 : undefined };
}

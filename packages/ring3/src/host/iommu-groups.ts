// IOMMU groups: the smallest sets of functions that the IOMMU can tell apart. A group is usable (viable) only while none
// of its members is driven by a kernel driver that does DMA of its own.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { groupNode, type VfioNode } from "./nodes.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { listNames, present, readLinkName, readText } from "./sysfs.ts";

export interface GroupMember {
  /** Name in sysfs: a PCI address, or the name of a platform device. */
  readonly name: string;
  readonly driver: string | undefined;
  /**
   * What it means for the group: `vfio` is bound to a VFIO driver, `harmless` to one that leaves DMA alone (`pcieport`,
   * `pci-stub`), `unbound` to none; `blocking` makes the group unusable.
   */
  readonly role: "vfio" | "harmless" | "unbound" | "blocking";
}

export interface IommuGroup {
  readonly id: number;
  /** The kernel's word for its translation: `DMA`, `DMA-FQ`, `identity`, ... */
  readonly type: string | undefined;
  readonly members: readonly GroupMember[];
  /** Whether VFIO may open it once a member is bound to a VFIO driver. */
  readonly viable: boolean;
  readonly blockers: readonly GroupMember[];
  /** /dev/vfio/N, while it exists. */
  readonly node: VfioNode | undefined;
}

/** Drivers that the kernel marks as not claiming the group's DMA. */
const HARMLESS: ReadonlySet<string> = new Set(["pcieport", "pci-stub"]);

/** Every IOMMU group, by number; empty where the machine's IOMMU is off. */
export function listGroups(paths: HostPaths = thisMachine): IommuGroup[] {
  const names = listNames(join(paths.sysfsRoot, "kernel/iommu_groups")).filter((name) => /^\d+$/.test(name));
  const ids = names.map(Number).sort((a, b) => a - b);
  return ids.map((id) => readGroup(id, paths));
}

/** The group `id` with its members as they are now. */
export function readGroup(id: number, paths: HostPaths = thisMachine): IommuGroup {
  const directory = join(paths.sysfsRoot, "kernel/iommu_groups", String(id));
  const members = listNames(join(directory, "devices")).map((name) => readMember(directory, name));
  const blockers = members.filter(({ role }) => role === "blocking");
  return {
    id,
    type: readText(join(directory, "type")),
    members,
    viable: blockers.length === 0,
    blockers,
    node: groupNode(id, paths),
  };
}

/** `GROUP_NOT_VIABLE`, naming each member that stands in the way, and `command`, which frees the group. */
export function notViable(
  address: string,
  group: IommuGroup,
  command: string = `sudo ring3 bind ${address} --group`,
): Ring3Error {
  const names = group.blockers.map(({ name, driver }) => `${name} is bound to ${driver}`).join(" and ");
  return new Ring3Error(
    "GROUP_NOT_VIABLE",
    `IOMMU group ${group.id} of ${address} is not viable: ${names === "" ? "a driver of the kernel holds a member" : names} ` +
      `(they share the group). Bind the whole group: ${command}`,
  );
}

/** Whether the driver is one of VFIO's: `vfio-pci` or a variant such as `mlx5_vfio_pci`. */
export function isVfioDriver(driver: string): boolean {
  return /(?:^|[-_])vfio[-_]pci$/.test(driver);
}

function readMember(directory: string, name: string): GroupMember {
  const device = join(directory, "devices", name);
  const driver = readLinkName(join(device, "driver"));
  if (driver === undefined) return { name, driver, role: "unbound" };
  if (isVfioDriver(driver) || present(join(device, "vfio-dev"))) return { name, driver, role: "vfio" };
  return { name, driver, role: HARMLESS.has(driver) ? "harmless" : "blocking" };
}

// The kernel's own descriptors of a function, opened by one process for another: a service with the right to open the nodes
// gives them over a UNIX socket to a user that has none. Both go by open file, not by process: what the receiver maps for DMA is
// its own memory, within its own limit.
import { Ring3Error } from "../binary/error.ts";
import { readGroup } from "../host/iommu-groups.ts";
import { type HostPaths, thisMachine } from "../host/paths.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { PciAddress } from "../pci/address.ts";
import { attachThroughGroup, openNode } from "./group.ts";
import { chooseInterface, type KernelInterface, locateFunction } from "./locate.ts";

/** The descriptors of one function, by the kernel's two interfaces. They go over a socket in this order. */
export type VfioDescriptors =
  /** A container with its IOMMU set, the group in it, and the device out of the group. */
  | {
      readonly backend: "group";
      readonly container: FileDescriptor;
      readonly group: FileDescriptor;
      readonly device: FileDescriptor;
    }
  /** `/dev/iommu` and the function's own node, not bound to each other yet. */
  | { readonly backend: "iommufd"; readonly iommufd: FileDescriptor; readonly device: FileDescriptor };

export interface VfioDescriptorsOptions {
  /** `auto` (default) takes iommufd where its nodes may be opened, else the group. */
  readonly backend?: "auto" | KernelInterface;
  /** Of a virtual function whose parent is in user space too; on the iommufd path the receiver gives it itself. */
  readonly vfToken?: string;
}

/**
 * Opens the descriptors of the function at `address`, to be given away: `openVfio(address, { descriptors })` in whatever process
 * makes a function of them. Close them here once they are sent; while they are open nobody else can open the function.
 *
 * Throws what {@link openVfio} throws, and `GROUP_SHARED` where the group's descriptor would give away other functions, too.
 */
export function openVfioDescriptors(
  address: string,
  { backend = "auto", vfToken }: VfioDescriptorsOptions = {},
  paths: HostPaths = thisMachine,
): VfioDescriptors {
  const location = locateFunction(PciAddress.parse(address).toString(), paths);
  if (location.noIommu) {
    throw new Ring3Error(
      "NO_IOMMU",
      `${location.address} is behind no IOMMU: its descriptors give away all memory of the machine`,
    );
  }
  if (chooseInterface(location, backend) === "iommufd") {
    const { deviceNode = "", iommufdNode = "" } = location;
    using stack = new DisposableStack();
    const device = stack.use(openNode(location.address, deviceNode, paths));
    const iommufd = openNode(location.address, iommufdNode, paths);
    stack.move();
    return { backend: "iommufd", iommufd, device };
  }
  const others = readGroup(location.group ?? -1, paths).members.filter(
    ({ name, role }) => role === "vfio" && name !== location.address,
  );
  if (others.length > 0) {
    throw new Ring3Error(
      "GROUP_SHARED",
      `the group of ${location.address} has ${others.map(({ name }) => name).join(", ")}, too, and its descriptor opens them ` +
        "all: leave those to no VFIO driver, or use the backend iommufd",
    );
  }
  const { device, container } = attachThroughGroup(location, vfToken, new Map(), undefined, paths);
  const { file, group } = device;
  if (group === undefined) throw new TypeError("attached through a group, without a group");
  return { backend: "group", container, group, device: file };
}

/** The descriptors in the order in which they are sent. */
export function listDescriptors(descriptors: VfioDescriptors): readonly FileDescriptor[] {
  return descriptors.backend === "group"
    ? [descriptors.container, descriptors.group, descriptors.device]
    : [descriptors.iommufd, descriptors.device];
}

/** The descriptors as they came. Throws `DESCRIPTORS_INVALID` where there are too few or too many. */
export function descriptorsOf(backend: KernelInterface, files: readonly FileDescriptor[]): VfioDescriptors {
  const [first, second, third, ...more] = files;
  if (backend === "iommufd" && first !== undefined && second !== undefined && third === undefined) {
    return { backend, iommufd: first, device: second };
  }
  if (backend === "group" && first !== undefined && second !== undefined && third !== undefined && more.length === 0) {
    return { backend, container: first, group: second, device: third };
  }
  throw new Ring3Error(
    "DESCRIPTORS_INVALID",
    `${files.length} descriptors came for the ${backend} interface, which has ${backend === "group" ? 3 : 2}`,
  );
}

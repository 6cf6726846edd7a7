// The device nodes of VFIO: /dev/vfio/vfio and /dev/vfio/N (container and groups), /dev/iommu and /dev/vfio/devices/vfioN
// (iommufd and devices). Whoever may open them may use the functions behind them.
import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { type AccessList, listAllows } from "./access-list.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { listNames } from "./sysfs.ts";
import type { User } from "./users.ts";

export interface VfioNode {
  readonly path: string;
  readonly kind: "container" | "group" | "iommufd" | "device";
  /** `14` for /dev/vfio/14, `vfio0` for /dev/vfio/devices/vfio0; `undefined` for the shared nodes. */
  readonly name: string | undefined;
  /** A group without an IOMMU behind it: opening it takes CAP_SYS_RAWIO, and its DMA reaches all memory. */
  readonly noiommu: boolean;
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, for example 0o600. */
  readonly mode: number;
}

/** Every node of VFIO that exists. */
export function listVfioNodes(paths: HostPaths = thisMachine): VfioNode[] {
  const groups = listNames(join(paths.devRoot, "vfio")).filter((name) => /^(?:noiommu-)?\d+$/.test(name));
  const devices = listNames(join(paths.devRoot, "vfio/devices"));
  return [
    containerNode(paths),
    ...groups.map((name) => readNode(join(paths.devRoot, "vfio", name), "group", name)),
    iommufdNode(paths),
    ...devices.map((name) => deviceNode(name, paths)),
  ].filter((node) => node !== undefined);
}

/** /dev/vfio/vfio: the container of the group interface. */
export function containerNode(paths: HostPaths = thisMachine): VfioNode | undefined {
  return readNode(join(paths.devRoot, "vfio/vfio"), "container", undefined);
}

/** /dev/iommu: the address spaces of the iommufd interface. */
export function iommufdNode(paths: HostPaths = thisMachine): VfioNode | undefined {
  return readNode(join(paths.devRoot, "iommu"), "iommufd", undefined);
}

/** The node of an IOMMU group; `undefined` while no member is bound to a VFIO driver. */
export function groupNode(group: number, paths: HostPaths = thisMachine): VfioNode | undefined {
  const directory = join(paths.devRoot, "vfio");
  const plain = readNode(join(directory, String(group)), "group", String(group));
  return plain ?? readNode(join(directory, `noiommu-${group}`), "group", `noiommu-${group}`);
}

/** The node of a device of the iommufd interface, by its name in `vfio-dev/`. */
export function deviceNode(name: string, paths: HostPaths = thisMachine): VfioNode | undefined {
  return readNode(join(paths.devRoot, "vfio/devices", name), "device", name);
}

/**
 * Whether `user` may open the node for reading and writing. The user of this process is judged by the kernel; another one
 * by owner, mode and, where it is passed, the node's access list. Capabilities other than root's are not seen.
 */
export function mayOpen(node: VfioNode, user: User, list?: AccessList): boolean {
  if (user.uid === 0) return true;
  if (node.noiommu) return false;
  if (user.uid === process.getuid?.() && user.uid === process.geteuid?.()) return accessible(node.path);
  if (list !== undefined) return listAllows(list, node, user);
  const shift = node.uid === user.uid ? 6 : user.gids.includes(node.gid) ? 3 : 0;
  return ((node.mode >> shift) & 0o6) === 0o6;
}

function accessible(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function readNode(path: string, kind: VfioNode["kind"], name: string | undefined): VfioNode | undefined {
  try {
    const { uid, gid, mode } = statSync(path);
    return { path, kind, name, noiommu: name?.startsWith("noiommu-") ?? false, uid, gid, mode: mode & 0o777 };
  } catch {
    return undefined;
  }
}

// Who may open a function, over which of the kernel's two interfaces, and if nobody, what to do about it.
import type { Ring3Error } from "../binary/error.ts";
import type { AccessList } from "./access-list.ts";
import type { HostFunction } from "./inventory.ts";
import { type IommuGroup, isVfioDriver, notViable, readGroup } from "./iommu-groups.ts";
import { containerNode, deviceNode, groupNode, iommufdNode, mayOpen, type VfioNode } from "./nodes.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import type { User } from "./users.ts";

/** One of the kernel's two ways to a function: the nodes that must be opened, and what is in the way. */
export interface AccessPath {
  readonly interface: "vfio-group" | "vfio-iommufd";
  /** Nodes that exist, the function's own first. */
  readonly nodes: readonly VfioNode[];
  /** Whether the asked user may open all of them. */
  readonly open: boolean;
  /** Why not, as a sentence with the fix. */
  readonly reason: string | undefined;
}

export interface FunctionAccess {
  /** Whether the asked user may open the function at all. */
  readonly open: boolean;
  /** Uids that own the function's own nodes. */
  readonly owners: readonly number[];
  readonly paths: readonly AccessPath[];
  /** What to do first where `open` is false. */
  readonly reason: string | undefined;
}

/**
 * Judges whether `user` may open `fn`, by owner and mode of the nodes and the state of its group. Access lists count for the
 * user of this process, and for others as far as they are passed, by path.
 */
export function functionAccess(
  fn: HostFunction,
  user: User,
  paths: HostPaths = thisMachine,
  lists: ReadonlyMap<string, AccessList> = new Map(),
): FunctionAccess {
  const blocked = blockedReason(fn, paths);
  const group = fn.iommuGroup === undefined ? undefined : groupNode(fn.iommuGroup, paths);
  const device = fn.vfioDevice === undefined ? undefined : deviceNode(fn.vfioDevice, paths);
  const judge = (
    name: AccessPath["interface"],
    node: VfioNode | undefined,
    shared: VfioNode | undefined,
    missing: string,
  ): AccessPath => {
    const nodes = [node, shared].filter((found) => found !== undefined);
    const closed = nodes.filter((found) => !mayOpen(found, user, lists.get(found.path)));
    let reason = blocked;
    if (reason === undefined && (node === undefined || shared === undefined)) reason = missing;
    if (reason === undefined && closed.length > 0) reason = closedReason(closed, fn.address, user);
    return { interface: name, nodes, open: reason === undefined, reason };
  };
  const ways = [
    judge("vfio-group", group, containerNode(paths), "the kernel offers no /dev/vfio group node for it"),
    judge("vfio-iommufd", device, iommufdNode(paths), "the kernel offers no /dev/vfio/devices node for it"),
  ];
  const owners = new Set([group, device].filter((node) => node !== undefined).map(({ uid }) => uid));
  const open = ways.some((way) => way.open);
  // Of two refusals the one that says which node is closed helps most.
  const closest = ways.find(({ nodes, reason }) => reason !== undefined && nodes.length === 2) ?? ways[0];
  return { open, owners: [...owners], paths: ways, reason: open ? undefined : (blocked ?? closest?.reason) };
}

function blockedReason(fn: HostFunction, paths: HostPaths): string | undefined {
  if (fn.bridge) return "it is a bridge, and VFIO drives none";
  if (fn.driver === undefined || (!isVfioDriver(fn.driver) && fn.vfioDevice === undefined)) {
    const now = fn.driver === undefined ? "it is bound to no driver" : `it is bound to ${fn.driver}`;
    return `${now}. Bind it: sudo ring3 bind ${fn.address}`;
  }
  if (fn.iommuGroup === undefined)
    return "it is in no IOMMU group: switch the IOMMU on (intel_iommu=on, or in the firmware)";
  const group: IommuGroup = readGroup(fn.iommuGroup, paths);
  if (group.viable) return undefined;
  const error: Ring3Error = notViable(fn.address, group);
  return error.message.replace(/^\w+: /, "");
}

function closedReason(closed: readonly VfioNode[], address: string, user: User): string {
  const who = user.name ?? `uid ${user.uid}`;
  const names = closed.map(({ path, uid, mode }) => `${path} (uid ${uid}, mode ${mode.toString(8).padStart(4, "0")})`);
  const noiommu = closed.some((node) => node.noiommu);
  if (noiommu) return `${names.join(" and ")} is without IOMMU and takes CAP_SYS_RAWIO`;
  return `${who} may not open ${names.join(" and ")}. Hand it over: sudo ring3 permit ${address} --user ${who.replace("uid ", "")}`;
}

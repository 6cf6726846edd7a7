// Finds by sysfs how a function can be reached: its IOMMU group, the group's node and the device's own node, who stands in
// the way and which of the two kernel interfaces to take.
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { describeHolders, findHolders } from "../host/holders.ts";
import { isVfioDriver, notViable, readGroup } from "../host/iommu-groups.ts";
import { functionDirectory, type HostPaths, thisMachine } from "../host/paths.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { listNames, present, readLinkName, readText } from "../host/sysfs.ts";
import { bindCommand, ownerOf } from "./advice.ts";

/** How one function can be reached. */
export interface FunctionLocation {
  readonly address: string;
  readonly driver: string;
  /** Number of the IOMMU group. */
  readonly group: number | undefined;
  /** `/dev/vfio/N`, or `/dev/vfio/noiommu-N` where `noIommu`. */
  readonly groupNode: string | undefined;
  readonly containerNode: string;
  /** `/dev/vfio/devices/vfioN`, where the kernel has it. */
  readonly deviceNode: string | undefined;
  /** `/dev/iommu`, where the kernel has it. */
  readonly iommufdNode: string | undefined;
  /** No IOMMU stands between the function and memory. */
  readonly noIommu: boolean;
  readonly sysfsFolder: string;
}

/** `path` where it exists. */
function existing(path: string): string | undefined {
  return existsSync(path) ? path : undefined;
}

/** Looks `address` (`0000:01:00.0`) up. Throws `NOT_FOUND` or `NOT_BOUND`, each with the command that helps. */
export function locateFunction(address: string, paths: HostPaths = thisMachine): FunctionLocation {
  const folder = functionDirectory(paths, address);
  if (!existsSync(folder)) {
    throw new Ring3Error("NOT_FOUND", `no PCI function ${address} in this machine; \`ring3 ls\` lists what is there`);
  }
  const driver = readLinkName(join(folder, "driver"));
  if (driver === undefined || !(isVfioDriver(driver) || present(join(folder, "vfio-dev")))) {
    const state = driver === undefined ? "no driver" : driver;
    throw new Ring3Error(
      "NOT_BOUND",
      `${address} is bound to ${state}, not to vfio-pci; give it to yourself with \`${bindCommand(address)}\``,
    );
  }
  const groupName = readLinkName(join(folder, "iommu_group"));
  const group = groupName === undefined ? undefined : Number(groupName);
  const noIommu = group !== undefined && readText(join(folder, "iommu_group/name")) === "vfio-noiommu";
  const deviceName = listNames(join(folder, "vfio-dev")).find((name) => /^(noiommu-)?vfio\d+$/.test(name));
  return {
    address,
    driver,
    group,
    groupNode:
      group === undefined ? undefined : existing(join(paths.devRoot, "vfio", `${noIommu ? "noiommu-" : ""}${group}`)),
    containerNode: join(paths.devRoot, "vfio/vfio"),
    deviceNode: deviceName === undefined ? undefined : existing(join(paths.devRoot, "vfio/devices", deviceName)),
    iommufdNode: existing(join(paths.devRoot, "iommu")),
    noIommu,
    sysfsFolder: folder,
  };
}

/** `GROUP_NOT_VIABLE` that names each culprit and the command that frees the group. */
export function groupNotViable({ address, group }: FunctionLocation, paths: HostPaths = thisMachine): Ring3Error {
  return notViable(address, readGroup(group ?? -1, paths), bindCommand(address, "--group"));
}

function usable(node: string | undefined): boolean {
  if (node === undefined) return false;
  try {
    accessSync(node, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export type KernelInterface = "group" | "iommufd";

/**
 * Which interface to take: the one asked for, else iommufd where its nodes are there and may be opened, else the group.
 * Throws `NO_IOMMUFD`, `NO_IOMMU` or `PERMISSION_DENIED`.
 */
export function chooseInterface(location: FunctionLocation, wanted: "auto" | KernelInterface): KernelInterface {
  const { address, deviceNode, iommufdNode, groupNode } = location;
  const cdev = deviceNode !== undefined && iommufdNode !== undefined;
  if (wanted === "iommufd" && !cdev) {
    throw new Ring3Error(
      "NO_IOMMUFD",
      `${address} cannot be opened through iommufd: ${deviceNode === undefined ? "it has no node in /dev/vfio/devices" : "/dev/iommu is missing"}; ` +
        'the kernel needs CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV; without them use the backend "group"',
    );
  }
  if (wanted === "group" && groupNode === undefined) throw noGroup(location);
  if (wanted !== "auto") return wanted;
  if (cdev && !location.noIommu && usable(deviceNode) && usable(iommufdNode)) return "iommufd";
  if (groupNode !== undefined && usable(groupNode)) return "group";
  if (groupNode === undefined && !cdev) throw noGroup(location);
  // Neither may be opened: the error comes from the node that the bind command would hand over.
  throw permissionDenied(address, groupNode ?? (usable(deviceNode) ? iommufdNode : deviceNode) ?? "/dev/vfio");
}

function noGroup({ address, group }: FunctionLocation): Ring3Error {
  return group === undefined
    ? new Ring3Error(
        "NO_IOMMU",
        `${address} is in no IOMMU group: switch the IOMMU on in the firmware and boot with intel_iommu=on (Intel) or leave amd_iommu on (AMD)`,
      )
    : new Ring3Error(
        "NO_IOMMU",
        `/dev/vfio has no node for group ${group} of ${address}; is devtmpfs or the device node missing?`,
      );
}

/** `PERMISSION_DENIED` that names the node, its owner and the command that hands it over. */
export function permissionDenied(address: string, node: string): Ring3Error {
  let owner = "";
  try {
    owner = ` (${ownerOf(statSync(node))})`;
  } catch {
    // The node may have gone meanwhile; the command is right all the same.
  }
  return new Ring3Error(
    "PERMISSION_DENIED",
    `${node}${owner} may not be opened for reading and writing by this user; hand ${address} over with \`${bindCommand(address)}\``,
    { errno: "EACCES", call: `open ${node}` },
  );
}

/** `BUSY` that says who holds the function, as far as can be seen; `own` is what this attempt itself has open of the node. */
export function busy(
  address: string,
  node: string,
  call: string,
  paths: HostPaths = thisMachine,
  own?: FileDescriptor,
): Ring3Error {
  const found = findHolders([node], [address], paths).holders;
  const holders = found.filter(({ pid, descriptor }) => pid !== process.pid || descriptor !== own?.number);
  const who =
    holders.length > 0
      ? `held by ${describeHolders(holders)}`
      : `held by a process of another user (\`sudo fuser -v ${node}\` names it), or a virtual function without its token`;
  return new Ring3Error("BUSY", `${address} is in use: ${who}`, { errno: "EBUSY", call });
}

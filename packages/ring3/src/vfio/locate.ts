// Finds by sysfs how a function can be reached: its IOMMU group, the group's node and the device's own node, who stands in
// the way and which of the two kernel interfaces to take.
import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { bindCommand, ownerOf } from "./advice.ts";

/** Where the kernel shows itself; tests put folders of their own here. */
export interface KernelRoots {
  readonly sysfs: string;
  readonly dev: string;
  readonly proc: string;
}
export const kernelRoots: KernelRoots = { sysfs: "/sys", dev: "/dev", proc: "/proc" };

/** Another member of the function's IOMMU group, with the driver it is bound to. */
export interface GroupMember {
  readonly address: string;
  readonly driver: string | undefined;
}

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

/** Drivers that leave a group viable: they do no DMA that the kernel would manage. */
const harmlessDrivers = new Set(["pcieport", "pci-stub"]);

function linkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

function present(path: string): string | undefined {
  return existsSync(path) ? path : undefined;
}

/** Reads a small sysfs file, trimmed; `undefined` where it cannot be read. */
export function sysfsText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

function isVfioDriver(folder: string, driver: string): boolean {
  return existsSync(join(folder, "vfio-dev")) || /(^|[-_])vfio([-_]|$)/.test(driver);
}

/** Looks `address` (`0000:01:00.0`) up. Throws `NOT_FOUND` or `NOT_BOUND`, each with the command that helps. */
export function locateFunction(address: string, roots: KernelRoots = kernelRoots): FunctionLocation {
  const folder = join(roots.sysfs, "bus/pci/devices", address);
  if (!existsSync(folder)) {
    throw new Ring3Error("NOT_FOUND", `no PCI function ${address} in this machine; \`ring3 ls\` lists what is there`);
  }
  const driver = linkName(join(folder, "driver"));
  if (driver === undefined || !isVfioDriver(folder, driver)) {
    const state = driver === undefined ? "no driver" : driver;
    throw new Ring3Error(
      "NOT_BOUND",
      `${address} is bound to ${state}, not to vfio-pci; give it to yourself with \`${bindCommand(address)}\``,
    );
  }
  const groupName = linkName(join(folder, "iommu_group"));
  const group = groupName === undefined ? undefined : Number(groupName);
  const noIommu = group !== undefined && sysfsText(join(folder, "iommu_group/name")) === "vfio-noiommu";
  const deviceName = list(join(folder, "vfio-dev")).find((name) => /^(noiommu-)?vfio\d+$/.test(name));
  return {
    address,
    driver,
    group,
    groupNode:
      group === undefined ? undefined : present(join(roots.dev, "vfio", `${noIommu ? "noiommu-" : ""}${group}`)),
    containerNode: join(roots.dev, "vfio/vfio"),
    deviceNode: deviceName === undefined ? undefined : present(join(roots.dev, "vfio/devices", deviceName)),
    iommufdNode: present(join(roots.dev, "iommu")),
    noIommu,
    sysfsFolder: folder,
  };
}

/** Every function of IOMMU group `group`. */
function groupMembers(group: number, roots: KernelRoots = kernelRoots): GroupMember[] {
  const folder = join(roots.sysfs, "kernel/iommu_groups", String(group), "devices");
  return list(folder).map((address) => ({ address, driver: linkName(join(folder, address, "driver")) }));
}

/** The members whose driver keeps the group from user space. */
export function blockingMembers(group: number, roots: KernelRoots = kernelRoots): GroupMember[] {
  return groupMembers(group, roots).filter(
    ({ address, driver }) =>
      driver !== undefined &&
      !harmlessDrivers.has(driver) &&
      !isVfioDriver(join(roots.sysfs, "bus/pci/devices", address), driver),
  );
}

/** `GROUP_NOT_VIABLE` that names each culprit and the command that frees the group. */
export function groupNotViable(location: FunctionLocation, roots: KernelRoots = kernelRoots): Ring3Error {
  const culprits = location.group === undefined ? [] : blockingMembers(location.group, roots);
  const names = culprits.map(({ address, driver }) => `${address} is bound to ${driver}`).join(", ");
  const reason = names === "" ? "a member is held by a driver of the kernel" : names;
  return new Ring3Error(
    "GROUP_NOT_VIABLE",
    `group ${location.group} of ${location.address} is not viable: ${reason}; ` +
      `bind the whole group with \`${bindCommand(location.address, "--group")}\``,
  );
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

/** Processes that have `node` open, as far as this user may see. */
function holdersOf(node: string, roots: KernelRoots = kernelRoots): string[] {
  const holders: string[] = [];
  for (const pid of list(roots.proc).filter((name) => /^\d+$/.test(name))) {
    const folder = join(roots.proc, pid, "fd");
    const holds = list(folder).some((fd) => {
      try {
        return readlinkSync(join(folder, fd)) === node;
      } catch {
        return false;
      }
    });
    if (holds) holders.push(`process ${pid} (${sysfsText(join(roots.proc, pid, "comm")) ?? "?"})`);
  }
  return holders;
}

/** `BUSY` that says who holds the function, as far as can be seen. */
export function busy(address: string, node: string, call: string, roots: KernelRoots = kernelRoots): Ring3Error {
  const holders = holdersOf(node, roots);
  const who =
    holders.length > 0
      ? `held by ${holders.join(", ")}`
      : `held by a process of another user (\`sudo fuser -v ${node}\` names it), or a virtual function without its token`;
  return new Ring3Error("BUSY", `${address} is in use: ${who}`, { errno: "EBUSY", call });
}

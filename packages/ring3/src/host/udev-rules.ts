// udev rules that make a binding and its permissions last: one file for each function and user, so that one can be taken
// away without touching another. IOMMU groups and nodes are numbered anew at each boot, so rules name the function only,
// with its ids: should another card sit at that address one day, it is left alone.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type HostFunction, readFunction } from "./inventory.ts";
import type { HandOver } from "./node-steps.ts";
import type { HostPaths } from "./paths.ts";
import { listNames, present } from "./sysfs.ts";
import { type User, userName } from "./users.ts";

const FOLDER = "udev/rules.d";
const SETFACL = "/usr/bin/setfacl";

/** Where the rules of a function for a user lie. */
export function rulesPath(paths: HostPaths, address: string, uid: number): string {
  return join(paths.etcRoot, FOLDER, `70-ring3-${address}-${uid}.rules`);
}

/** The uids for whom rules of ring3 bind `address` at boot, with their files. */
export function findRules(paths: HostPaths, address: string): { readonly uid: number; readonly path: string }[] {
  const start = `70-ring3-${address}-`;
  return listNames(join(paths.etcRoot, FOLDER)).flatMap((name) => {
    const uid = name.startsWith(start) ? /^(\d+)\.rules$/.exec(name.slice(start.length))?.[1] : undefined;
    return uid === undefined ? [] : [{ uid: Number(uid), path: join(paths.etcRoot, FOLDER, name) }];
  });
}

/** Whether this machine has udev to read rules. */
export function hasUdev(paths: HostPaths): boolean {
  return present(join(paths.etcRoot, "udev"));
}

/**
 * The rules that bind `members` (the function and the others of its group that have to come along) at boot and let `user`
 * open the nodes of `fn`. Throws `NO_UDEV`, and `NO_SETFACL` where an access list is wanted and nothing sets it at boot.
 */
export function rulesFor(
  fn: HostFunction,
  members: readonly HostFunction[],
  user: User,
  how: HandOver,
  paths: HostPaths,
): string {
  if (!hasUdev(paths)) {
    const text = `there is no ${join(paths.etcRoot, "udev")}: without udev, call ring3 bind ${fn.address} at boot by other means`;
    throw new Ring3Error("NO_UDEV", text);
  }
  if (how === "list" && !present(join(paths.etcRoot, "..", SETFACL))) {
    const text = `${SETFACL} is not installed, which sets access lists at boot: install the package acl, or make the user the owner`;
    throw new Ring3Error("NO_SETFACL", text);
  }
  const name = userName(user.uid, paths) ?? `uid ${user.uid}`;
  // udev no longer likes to make people the owners of nodes by OWNER=; what RUN= does comes after udev's own permissions.
  const grant =
    how === "owner"
      ? `RUN+="/bin/chown ${user.uid} $devnode", RUN+="/bin/chmod 0600 $devnode"`
      : `RUN+="${SETFACL} -m u:${user.uid}:rw $devnode"`;
  const lines = [
    `# ${fn.address} is bound to ${fn.driver} at boot, and ${name} may open it.`,
    `# Written by ring3 permit --persist; take it away with: sudo ring3 permit ${fn.address} --revoke`,
    ...parents(members, paths).flatMap(virtualFunctionsRules),
    ...members.map(bindingRule),
    `ACTION=="add", SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/${fn.address}", ${grant}`,
    `ACTION=="add", SUBSYSTEM=="vfio-dev", KERNELS=="${fn.address}", ${grant}`,
    // An iommufd alone reaches no device, as the container of the other interface, which everybody may open too.
    `ACTION=="add", SUBSYSTEM=="misc", KERNEL=="iommu", MODE="0666"`,
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * A driver of the kernel may have the function by the time udev runs, from the initramfs for example: it is taken from it.
 * The override comes first, so that no other driver gets in between.
 */
function bindingRule({ address, vendorId, deviceId, driver = "vfio-pci" }: HostFunction): string {
  const which = `ACTION=="add", SUBSYSTEM=="pci", KERNEL=="${address}", ATTR{vendor}=="${hex(vendorId)}", ATTR{device}=="${hex(deviceId)}"`;
  const device = `/sys/bus/pci/devices/${address}`;
  const move =
    `test -e ${device}/vfio-dev || { test -e ${device}/driver && echo ${address} > ${device}/driver/unbind; ` +
    `echo ${address} > /sys/bus/pci/drivers_probe; }`;
  return `${which}, ATTR{driver_override}="${driver}", RUN{builtin}+="kmod load ${driver}", RUN+="/bin/sh -c '${move}'"`;
}

interface Parent {
  readonly address: string;
  readonly count: number;
}

function parents(members: readonly HostFunction[], paths: HostPaths): Parent[] {
  const addresses = new Set(
    members.map(({ physicalFunction }) => physicalFunction).filter((found) => found !== undefined),
  );
  return [...addresses].map((address) => ({ address, count: readFunction(address, paths).sriov?.enabledVfs ?? 0 }));
}

/** Virtual functions are made once the physical function has its driver, and with no driver taking them. */
function virtualFunctionsRules({ address, count }: Parent): string[] {
  const which = `ACTION=="bind", SUBSYSTEM=="pci", KERNEL=="${address}", ATTR{sriov_numvfs}=="0"`;
  return [`${which}, ATTR{sriov_drivers_autoprobe}="0"`, `${which}, ATTR{sriov_numvfs}="${count}"`];
}

function hex(id: number): string {
  return `0x${id.toString(16).padStart(4, "0")}`;
}

// The older way to a function: its group's node into a container, then the device out of the group. The order matters:
// container before IOMMU before device, and the reverse to let go.

import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { i32 } from "../binary/struct.ts";
import type { HostPaths } from "../host/paths.ts";
import { systemCallError } from "../linux/errno.ts";
import { FileDescriptor } from "../linux/file-descriptor.ts";
import { ioctl, tryIoctl } from "../linux/ioctl.ts";
import type { VfioDescriptors } from "./descriptors.ts";
import type { AttachedDevice, Iommu } from "./iommu.ts";
import { busy, type FunctionLocation, groupNotViable, permissionDenied } from "./locate.ts";
import { NoIommu } from "./no-iommu.ts";
import { Type1 } from "./type1.ts";
import { ContainerCall, Extension, GroupCall, GroupFlag } from "./uapi.ts";
import { GroupStatus } from "./uapi-structs.ts";

/** A group's file, shared by the functions of the group: the kernel opens it once only. */
export interface GroupFile {
  readonly file: FileDescriptor;
  users: number;
}

const errnos = { EPERM: 1, ENODEV: 19, EBUSY: 16, EINVAL: 22 } as const;

/** Opens a node, with errors that say who may and who does. */
export function openNode(address: string, node: string, paths: HostPaths): FileDescriptor {
  try {
    return FileDescriptor.open(node);
  } catch (error) {
    if (!isRing3Error(error)) throw error;
    if (error.errno === "EPERM" && node.includes("noiommu-")) throw rawIoNeeded(address, `open ${node}`);
    if (error.errno === "EACCES" || error.errno === "EPERM") throw permissionDenied(address, node);
    if (error.errno === "EBUSY") throw busy(address, node, `open ${node}`, paths);
    throw error;
  }
}

function rawIoNeeded(address: string, call: string): Ring3Error {
  return new Ring3Error(
    "PERMISSION_DENIED",
    `${address} is behind no IOMMU; opening it needs CAP_SYS_RAWIO, so run as root`,
    {
      errno: "EPERM",
      call,
    },
  );
}

/** Attaches through the group; `container`, `iommu` and the groups' files are made at the first call. */
export function attachThroughGroup(
  location: FunctionLocation,
  vfToken: string | undefined,
  groups: Map<number, GroupFile>,
  container: FileDescriptor | undefined,
  paths: HostPaths,
): { readonly device: AttachedDevice; readonly container: FileDescriptor; readonly iommu: Iommu | undefined } {
  const { address, group: number, groupNode, noIommu } = location;
  if (number === undefined || groupNode === undefined) {
    throw new Ring3Error("NO_IOMMU", `${address} has no group node; a shared address space of groups cannot take it`);
  }
  using stack = new DisposableStack();
  const shared = container ?? openContainer(address, location.containerNode, paths, stack);
  let group = groups.get(number);
  let iommu: Iommu | undefined;
  if (group === undefined) {
    const file = openGroup(location, groupNode, paths);
    stack.use(file);
    joinContainer(location, file, shared, paths);
    if (container === undefined) {
      setIommu(location, shared, noIommu);
      iommu = noIommu ? new NoIommu(shared) : new Type1(shared);
    }
    group = { file, users: 0 };
  }
  const file = deviceOf(location, group.file, vfToken, paths);
  stack.move();
  return { device: attachedDevice(file, number, group, groups), container: shared, iommu };
}

/** A function whose group's file, container and device another process has opened and put together. */
export function attachHandedGroup(
  { address, group: number }: FunctionLocation,
  { container, group, device }: Extract<VfioDescriptors, { readonly backend: "group" }>,
  groups: Map<number, GroupFile>,
): { readonly device: AttachedDevice; readonly iommu: Iommu } {
  if (number === undefined) throw new Ring3Error("NO_IOMMU", `${address} is in no IOMMU group`);
  const iommu = new Type1(container);
  return { device: attachedDevice(device, number, { file: group, users: 0 }, groups), iommu };
}

function attachedDevice(
  file: FileDescriptor,
  number: number,
  group: GroupFile,
  groups: Map<number, GroupFile>,
): AttachedDevice {
  group.users++;
  groups.set(number, group);
  const detach = (): void => {
    group.users--;
    if (group.users > 0) return;
    groups.delete(number);
    // Leaving the container first would need all devices closed; closing the group does both.
    group.file.close();
  };
  return { file, iommufdDevice: undefined, group: group.file, detach };
}

function openContainer(address: string, node: string, paths: HostPaths, stack: DisposableStack): FileDescriptor {
  const file = stack.use(openNode(address, node, paths));
  const version = ioctl(file, "VFIO_GET_API_VERSION", ContainerCall.GET_API_VERSION);
  if (version !== 0) {
    throw new Ring3Error("NOT_SUPPORTED", `${node} speaks version ${version} of VFIO; this library knows version 0`);
  }
  return file;
}

function openGroup(location: FunctionLocation, node: string, paths: HostPaths): FileDescriptor {
  const file = openNode(location.address, node, paths);
  try {
    const status = GroupStatus.bytes({ argsz: GroupStatus.size });
    ioctl(file, "VFIO_GROUP_GET_STATUS", GroupCall.GET_STATUS, status);
    if ((GroupStatus.from(status).flags & GroupFlag.VIABLE) === 0) throw groupNotViable(location, paths);
  } catch (error) {
    file.close();
    throw error;
  }
  return file;
}

function joinContainer(
  location: FunctionLocation,
  group: FileDescriptor,
  container: FileDescriptor,
  paths: HostPaths,
): void {
  const argument = new Uint8Array(4);
  i32.encode(new DataView(argument.buffer), 0, container.number);
  const result = tryIoctl(group, GroupCall.SET_CONTAINER, argument, [], "VFIO_GROUP_SET_CONTAINER");
  if (result >= 0) return;
  const call = "ioctl VFIO_GROUP_SET_CONTAINER";
  if (result === -errnos.EPERM && location.noIommu) throw rawIoNeeded(location.address, call);
  if (result === -errnos.EBUSY) throw busy(location.address, location.groupNode ?? "", call, paths);
  throw systemCallError(
    call,
    -result,
    "the group's IOMMU may differ from that of the functions already in the address space",
  );
}

function setIommu({ address }: FunctionLocation, container: FileDescriptor, noIommu: boolean): void {
  const type = noIommu ? Extension.NOIOMMU_IOMMU : Extension.TYPE1v2_IOMMU;
  if (ioctl(container, "VFIO_CHECK_EXTENSION", ContainerCall.CHECK_EXTENSION, type) === 0) {
    throw new Ring3Error(
      "NOT_SUPPORTED",
      noIommu
        ? "the kernel's VFIO has no noiommu mode"
        : "the kernel's VFIO lacks the type1v2 IOMMU; load vfio_iommu_type1",
    );
  }
  const result = tryIoctl(container, ContainerCall.SET_IOMMU, type, [], "VFIO_SET_IOMMU");
  if (result >= 0) return;
  const call = "ioctl VFIO_SET_IOMMU";
  if (result === -errnos.EPERM) throw noInterruptRemapping(address, call, "vfio_iommu_type1");
  throw systemCallError(call, -result);
}

/** The kernel refuses an IOMMU that does not remap interrupts; `module` has the switch that overrides it. */
export function noInterruptRemapping(address: string, call: string, module: string): Ring3Error {
  return new Ring3Error(
    "NO_INTERRUPT_REMAPPING",
    `${address}: this machine's IOMMU does not remap interrupts, so a device could forge any interrupt by a DMA write; ` +
      "the kernel refuses. Switch interrupt remapping (VT-d, x2APIC) on in the firmware, or accept the risk for the whole " +
      `machine with \`echo 1 | sudo tee /sys/module/${module}/parameters/allow_unsafe_interrupts\``,
    { errno: "EPERM", call },
  );
}

function deviceOf(
  { address, groupNode }: FunctionLocation,
  group: FileDescriptor,
  vfToken: string | undefined,
  paths: HostPaths,
): FileDescriptor {
  const name = vfToken === undefined ? address : `${address} vf_token=${vfToken}`;
  const result = tryIoctl(
    group,
    GroupCall.GET_DEVICE_FD,
    new TextEncoder().encode(`${name}\0`),
    [],
    "VFIO_GROUP_GET_DEVICE_FD",
  );
  if (result >= 0) return new FileDescriptor(result);
  throw deviceOpenError(address, groupNode ?? "", "ioctl VFIO_GROUP_GET_DEVICE_FD", -result, paths);
}

/** What it means when a bound function cannot be opened. */
export function deviceOpenError(
  address: string,
  node: string,
  call: string,
  errno: number,
  paths: HostPaths,
): Ring3Error {
  if (errno === errnos.EBUSY || errno === errnos.EINVAL) return busy(address, node, call, paths);
  const fixes: Readonly<Record<number, string>> = {
    [errnos.ENODEV]: "the function was unbound or unplugged meanwhile",
    11: "the function could not be reset at open; try again, or reset its bus as root",
    13: "a virtual function whose parent uses VFIO takes the parent's VF token: open with { vfToken }",
  };
  return systemCallError(call, errno, fixes[errno] ?? "see the kernel's log (`sudo dmesg`)");
}

// The newer way to a function: its own node, bound to an iommufd and attached to an address space in it. No group is
// opened, but the group must still be free of kernel drivers.
import { Ring3Error } from "../binary/error.ts";
import { readGroup } from "../host/iommu-groups.ts";
import type { HostPaths } from "../host/paths.ts";
import { systemCallError } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { tryIoctl } from "../linux/ioctl.ts";
import type { VfioDescriptors } from "./descriptors.ts";
import { deviceOpenError, noInterruptRemapping, openNode } from "./group.ts";
import { Ioas } from "./ioas.ts";
import type { AttachedDevice } from "./iommu.ts";
import { busy, type FunctionLocation, groupNotViable } from "./locate.ts";
import { BindFlag, DeviceCall } from "./uapi.ts";
import { AttachIommufdPt, BindIommufd } from "./uapi-structs.ts";
import { uuidBytes } from "./vf-token.ts";

const errnos = { EBUSY: 16, EINVAL: 22, EPERM: 1 } as const;

export function attachThroughIommufd(
  location: FunctionLocation,
  vfToken: string | undefined,
  existing: Ioas | undefined,
  trackDirtyPages: boolean,
  paths: HostPaths,
): { readonly device: AttachedDevice; readonly ioas: Ioas } {
  const { address, deviceNode, iommufdNode } = location;
  if (deviceNode === undefined || iommufdNode === undefined) {
    throw new Ring3Error(
      "NO_IOMMUFD",
      `${address} has no node of its own; a shared address space of iommufd cannot take it`,
    );
  }
  using stack = new DisposableStack();
  const file = stack.use(openNode(address, deviceNode, paths));
  const ioas = existing ?? stack.use(new Ioas(openNode(address, iommufdNode, paths)));
  const device = bindAndAttach(location, file, ioas, vfToken, trackDirtyPages, paths);
  stack.move();
  return { device, ioas };
}

/** A function whose node and iommufd another process has opened. */
export function attachHandedIommufd(
  location: FunctionLocation,
  { iommufd, device: file }: Extract<VfioDescriptors, { readonly backend: "iommufd" }>,
  vfToken: string | undefined,
  trackDirtyPages: boolean,
  paths: HostPaths,
): { readonly device: AttachedDevice; readonly ioas: Ioas } {
  const ioas = new Ioas(iommufd);
  return { device: bindAndAttach(location, file, ioas, vfToken, trackDirtyPages, paths), ioas };
}

function bindAndAttach(
  location: FunctionLocation,
  file: FileDescriptor,
  ioas: Ioas,
  vfToken: string | undefined,
  trackDirtyPages: boolean,
  paths: HostPaths,
): AttachedDevice {
  const iommufdDevice = bind(location, location.deviceNode ?? "", file, ioas, vfToken, paths);
  attach(location, file, ioas.attachmentFor(iommufdDevice, trackDirtyPages));
  return { file, iommufdDevice, group: undefined, detach: () => undefined };
}

function bind(
  location: FunctionLocation,
  node: string,
  file: FileDescriptor,
  ioas: Ioas,
  vfToken: string | undefined,
  paths: HostPaths,
): number {
  const token = vfToken === undefined ? undefined : uuidBytes(vfToken);
  const request = BindIommufd.bytes({
    // Kernels before 6.17 know the structure without the token.
    argsz: token === undefined ? BindIommufd.offsets.token_uuid_ptr : BindIommufd.size,
    flags: token === undefined ? 0 : BindFlag.TOKEN,
    iommufd: ioas.fd.number,
  });
  const pointers = token === undefined ? [] : [{ at: BindIommufd.offsets.token_uuid_ptr, memory: token }];
  const result = tryIoctl(file, DeviceCall.BIND_IOMMUFD, request, pointers, "VFIO_DEVICE_BIND_IOMMUFD");
  if (result >= 0) return BindIommufd.from(request).out_devid;
  const call = "ioctl VFIO_DEVICE_BIND_IOMMUFD";
  if (location.group !== undefined && !readGroup(location.group, paths).viable) throw groupNotViable(location, paths);
  if (result === -errnos.EPERM) throw noInterruptRemapping(location.address, call, "iommufd");
  if (result === -errnos.EBUSY || result === -errnos.EINVAL) throw busy(location.address, node, call, paths, file);
  throw deviceOpenError(location.address, node, call, -result, paths);
}

function attach({ address }: FunctionLocation, file: FileDescriptor, target: number): void {
  const request = AttachIommufdPt.bytes({ argsz: AttachIommufdPt.size, pt_id: target });
  const result = tryIoctl(file, DeviceCall.ATTACH_IOMMUFD_PT, request, [], "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
  if (result >= 0) return;
  const call = "ioctl VFIO_DEVICE_ATTACH_IOMMUFD_PT";
  if (result === -errnos.EPERM) throw noInterruptRemapping(address, call, "iommufd");
  throw systemCallError(call, -result, "a mapping of the address space may lie where this function's IOMMU has a hole");
}

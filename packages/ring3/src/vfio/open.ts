// Opens a function that an administrator bound to vfio-pci, and says what to do where that does not work.
import { Ring3Error } from "../binary/error.ts";
import { type HostPaths, thisMachine } from "../host/paths.ts";
import { PciAddress } from "../pci/address.ts";
import { AddressSpace, type AddressSpaceOptions } from "./address-space.ts";
import { listDescriptors, type VfioDescriptors } from "./descriptors.ts";
import { VfioFunction, type VfioFunctionOptions } from "./function.ts";
import { locateFunction } from "./locate.ts";
import { warn } from "./warnings.ts";

export interface VfioOpenOptions extends VfioFunctionOptions, AddressSpaceOptions {
  /** Shares this space's DMA mappings; its `backend` and `arena` count then. */
  readonly addressSpace?: AddressSpace;
  /** For a virtual function whose parent is in user space too: the UUID that the parent's driver set. */
  readonly vfToken?: string;
  /**
   * Opens a function behind no IOMMU, as root: it can then overwrite any memory of the machine, and the kernel is tainted.
   * Config space, BARs and interrupts work; DMA memory is not offered.
   */
  readonly unsafeNoIommu?: boolean;
  /** Takes these over, which another process has opened, instead of opening anything: no permission is needed for that. */
  readonly descriptors?: VfioDescriptors;
}

/**
 * Opens the function at `address` (`0000:01:00.0`, or `01:00.0` in domain 0) over the kernel's VFIO.
 *
 * Throws, each with the fix in its message, and with `descriptors` closed: `NOT_FOUND`, `NOT_BOUND`, `GROUP_NOT_VIABLE`, `PERMISSION_DENIED`, `BUSY`,
 * `NO_IOMMU`, `NO_IOMMUFD`, `NO_INTERRUPT_REMAPPING`.
 */
export async function openVfio(
  address: string,
  options: VfioOpenOptions = {},
  paths: HostPaths = thisMachine,
): Promise<VfioFunction> {
  const { descriptors } = options;
  using handed = new DisposableStack();
  if (descriptors !== undefined) for (const file of listDescriptors(descriptors)) handed.use(file);
  const location = locateFunction(PciAddress.parse(address).toString(), paths);
  if (location.noIommu) {
    if (options.unsafeNoIommu !== true) {
      throw new Ring3Error(
        "NO_IOMMU",
        `${location.address} is behind no IOMMU: its driver could overwrite any memory. Switch the IOMMU on (intel_iommu=on, ` +
          "firmware setup), or accept that with { unsafeNoIommu: true }",
      );
    }
    const message = `${location.address} is opened without an IOMMU: a wrong DMA address can overwrite any memory of this machine`;
    warn({ code: "RING3_NO_IOMMU", message });
  }
  const space = options.addressSpace ?? new AddressSpace(options, paths);
  const attached =
    descriptors === undefined
      ? space.attach(location, options.vfToken)
      : space.attachHanded(location, descriptors, options.vfToken);
  try {
    const fn = new VfioFunction(location, space, attached, options.addressSpace === undefined, options);
    handed.move();
    return fn;
  } catch (error) {
    space.detach(attached);
    throw error;
  }
}

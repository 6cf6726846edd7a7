// The front door: `open` finds by the address which back end stands behind it.
import { Ring3Error } from "./binary/error.ts";
import { PciAddress } from "./pci/address.ts";
import type { PciFunction } from "./pci/function.ts";
import { openVfio, type VfioOpenOptions } from "./vfio/open.ts";
import type { ConnectOptions } from "./vfio-user/client.ts";

export { isRing3Error, messageOf, Ring3Error } from "./binary/error.ts";
export type { Arena, ArenaRange } from "./memory/arena.ts";
export type { Registers } from "./memory/registers.ts";
export { PciAddress } from "./pci/address.ts";
export type * from "./pci/function.ts";
export { AddressSpace, type AddressSpaceOptions } from "./vfio/address-space.ts";
export type { VfioOpenOptions } from "./vfio/open.ts";
export { WARNINGS, type Warning } from "./vfio/warnings.ts";
export type { ConnectOptions } from "./vfio-user/client.ts";

const SERVED = "vfio-user:";
const LENT = "ring3d:";

/** What `open` takes; which of it counts depends on the back end. */
export type OpenOptions = VfioOpenOptions & ConnectOptions;

/**
 * Opens a PCI function for its driver.
 *
 * `address` is where it sits: `0000:01:00.0`, `01:00.0` in domain 0, or `pci:0000:01:00.0` behind the kernel's VFIO, or
 * `vfio-user:/run/disk.sock`, the socket at which another process serves it, or `ring3d:disk`, which ring3d hands over
 * (`ring3d:disk@/run/users.sock` where its users' socket is elsewhere). Throws `ADDRESS_INVALID` for what is none of these, and what
 * {@link openVfio}, `connect` of `ring3/vfio-user` or `ServiceUser` of `ring3/ring3d` throws.
 *
 * @example
 * import { open } from "ring3";
 * await using fn = await open("0000:01:00.0");
 * console.log(fn.identity.vendorId.toString(16), fn.bar(0).registers().read32(0));
 */
export async function open(address: string, options: OpenOptions = {}): Promise<PciFunction> {
  if (address.startsWith(SERVED)) {
    // Loaded when it is wanted: a driver of real hardware stays smaller without it.
    const { connect } = await import("./vfio-user/client.ts");
    return await connect(address.slice(SERVED.length), options);
  }
  if (address.startsWith(LENT)) {
    const { openLent } = await import("./ring3d-open.ts");
    return await openLent(address.slice(LENT.length), options);
  }
  const place = address.startsWith("pci:") ? address.slice("pci:".length) : address;
  if (PciAddress.accepts(place)) return await openVfio(place, options);
  throw new Ring3Error(
    "ADDRESS_INVALID",
    `"${address}" names no function; open takes a PCI address (0000:01:00.0, 01:00.0, pci:0000:01:00.0), vfio-user:PATH or ring3d:NAME`,
  );
}

// Opens a function by the descriptors that ring3d hands over: the kernel's own, for a user with no right to the nodes.
import { Ring3Error } from "./binary/error.ts";
import type { PciFunction } from "./pci/function.ts";
import { ServiceUser, USERS_SOCKET } from "./ring3d-user.ts";
import { descriptorsOf } from "./vfio/descriptors.ts";
import { openVfio, type VfioOpenOptions } from "./vfio/open.ts";

/**
 * `place` is `NAME`, or `NAME@PATH` with the users' socket of the service. The function is lent until it is closed; where the
 * service wants it back before, or ends, it hears `removal-requested` and is closed after the grace time. Throws what
 * {@link ServiceUser.open} and `openVfio` throw, and `ADDRESS_INVALID`.
 */
export async function openLent(place: string, options: VfioOpenOptions): Promise<PciFunction> {
  const at = place.indexOf("@");
  const name = at === -1 ? place : place.slice(0, at);
  if (name === "" || at === place.length - 1) {
    throw new Ring3Error(
      "ADDRESS_INVALID",
      `"ring3d:${place}" names no function; it is ring3d:NAME or ring3d:NAME@SOCKET`,
    );
  }
  // The connection is the lease: it stays as long as the function, and keeps no process alive by itself.
  const user = new ServiceUser(at === -1 ? USERS_SOCKET : place.slice(at + 1), { keepsAlive: false });
  try {
    const { address, backend, descriptors } = await user.open(name);
    const lent = { descriptors: descriptorsOf(backend, descriptors), wantedBack: user.ended };
    const fn = await openVfio(address, { ...options, ...lent });
    fn.gone.addEventListener("abort", () => user[Symbol.dispose](), { once: true });
    return fn;
  } catch (error) {
    user[Symbol.dispose]();
    throw error;
  }
}

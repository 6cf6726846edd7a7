// Network devices of the guest, opened with their drivers over the kernel's VFIO.
import type { NetDevice, NetDeviceOptions } from "../../packages/ring3/src/drivers/net/device.ts";
import { openNetDevice } from "../../packages/ring3/src/drivers/net/open.ts";
import { open } from "../../packages/ring3/src/index.ts";

/** Opens the functions with their drivers, waits for the links, and closes all in order. */
export async function withDevices(
  addresses: readonly string[],
  options: NetDeviceOptions,
  body: (...devices: NetDevice[]) => Promise<void>,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const devices: NetDevice[] = [];
  for (const address of addresses) {
    const fn = stack.use(await open(address));
    devices.push(stack.use(await openNetDevice(fn, options)));
  }
  for (const device of devices) await device.waitForLink();
  await body(...devices);
}

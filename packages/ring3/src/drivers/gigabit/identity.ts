// Whether a function is what a driver is for.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { INTEL_VENDOR_ID } from "../../specs/gigabit/registers.ts";

/** Throws `WRONG_DEVICE` unless the function is Intel's with one of the ids. */
export function checkDevice({ identity }: PciFunction, what: string, deviceIds: readonly number[]): void {
  const { vendorId, deviceId, address } = identity;
  if (vendorId === INTEL_VENDOR_ID && deviceIds.includes(deviceId)) return;
  const hex = (id: number): string => id.toString(16).padStart(4, "0");
  const known = deviceIds.map((id) => `8086:${hex(id)}`).join(", ");
  throw new Ring3Error("WRONG_DEVICE", `${address} is ${hex(vendorId)}:${hex(deviceId)}, not ${what} (${known})`);
}

// What a program has a network device be, said to it again after each of its resets; and whether a device can be that at all.
import { Ring3Error } from "../../binary/error.ts";
import { MAC_BYTES } from "../../specs/ethernet/index.ts";
import type { ReceiveModeFilter } from "./device.ts";

/** What the program wants; kept over resets. */
export interface NetSetup {
  /** `undefined`: the device's own. */
  mac: Uint8Array | undefined;
  mtu: number;
  filter: ReceiveModeFilter;
  multicast: readonly Uint8Array[];
  /** The VLANs to receive, `undefined` for all. */
  vlans: readonly number[] | undefined;
}

/** A device's address to begin with: a random one, administered locally, of one station. */
export function randomMac(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(MAC_BYTES));
  mac[0] = ((mac[0] as number) & 0xfc) | 2;
  return mac;
}

/** Whether it can be a station's: no multicast address and not all zero. */
export function isStationMac(mac: Uint8Array): boolean {
  return mac.length === MAC_BYTES && ((mac[0] as number) & 1) === 0 && mac.some((byte) => byte !== 0);
}

/** Throws `NET_INVALID` for what cannot be a device's address. */
export function checkMac(mac: Uint8Array): void {
  if (isStationMac(mac)) return;
  throw new Ring3Error("NET_INVALID", "a device's MAC address is six bytes, no multicast address and not all zero");
}

/** Throws `NET_INVALID` where one of them is no multicast address. */
export function checkMulticast(addresses: readonly Uint8Array[]): void {
  if (addresses.every((address) => address.length === MAC_BYTES && ((address[0] as number) & 1) === 1)) return;
  throw new Ring3Error("NET_INVALID", "a multicast address is six bytes, the first of them odd");
}

/** Throws `NET_INVALID` where one of them is no VLAN's id. */
export function checkVlans(ids: readonly number[] | undefined): void {
  if (ids?.every((id) => Number.isInteger(id) && id >= 0 && id < 4096) ?? true) return;
  throw new Ring3Error("NET_INVALID", "a VLAN's id is a number from 0 to 4095");
}

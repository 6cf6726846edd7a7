// Reading and writing the headers of frames in place; specs/ethernet has their layout.
import {
  ETHERNET_HEADER_BYTES,
  EtherType,
  EthernetField,
  MAC_BYTES,
  VLAN_TAG_BYTES,
} from "../../specs/ethernet/index.ts";
import { get16, put16 } from "./byte-order.ts";

/** One read header; an object that is used again for every frame. */
export class EthernetHeader {
  /** The type of what follows the header and its tag. */
  type = 0;
  /** Where that begins, from the frame's first byte on. */
  payloadAt = 0;
  /** The VLAN's identifier; -1 without a tag. */
  vlan = -1;

  /** Reads the header of the frame of `length` bytes at `at`; `false` where it is too short for one. */
  read(bytes: Uint8Array, at: number, length: number): boolean {
    if (length < ETHERNET_HEADER_BYTES) return false;
    this.type = get16(bytes, at + EthernetField.TYPE);
    this.payloadAt = ETHERNET_HEADER_BYTES;
    this.vlan = -1;
    if (this.type !== EtherType.VLAN) return true;
    if (length < ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES) return false;
    this.vlan = get16(bytes, at + EthernetField.TAG) & 0xfff;
    this.type = get16(bytes, at + EthernetField.TAG + 2);
    this.payloadAt = ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES;
    return true;
  }
}

/** Writes type, and a tag where `vlan` is not negative; returns where the payload begins. The addresses stay as they are. */
export function putType(bytes: Uint8Array, at: number, type: number, vlan: number): number {
  if (vlan < 0) {
    put16(bytes, at + EthernetField.TYPE, type);
    return ETHERNET_HEADER_BYTES;
  }
  put16(bytes, at + EthernetField.TYPE, EtherType.VLAN);
  put16(bytes, at + EthernetField.TAG, vlan);
  put16(bytes, at + EthernetField.TAG + 2, type);
  return ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES;
}

/** Copies an address from `fromAt` of `from`. */
export function copyMac(bytes: Uint8Array, at: number, from: Uint8Array, fromAt: number): void {
  for (let i = 0; i < MAC_BYTES; i++) bytes[at + i] = from[fromAt + i] as number;
}

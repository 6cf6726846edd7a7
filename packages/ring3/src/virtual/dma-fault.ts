// What became of an access to memory that the device was not allowed, or that failed.
import type { Ring3Error } from "../binary/error.ts";
import { hexAddress } from "./guest-map.ts";

/** An access that the device was not allowed, or that failed. */
export interface DmaFault {
  readonly iova: number;
  readonly size: number;
  readonly access: "read" | "write";
  readonly reason: "bus-master" | "unmapped" | "permission" | "transfer";
  readonly description: string;
}

/** The fault with its description; `cause` is why a transfer failed. */
export function dmaFault(
  iova: number,
  size: number,
  access: DmaFault["access"],
  reason: DmaFault["reason"],
  cause?: Ring3Error,
): DmaFault {
  const why = {
    "bus-master": "bus mastering is off or the function sleeps",
    unmapped: "not all of it is mapped",
    permission: `it was not mapped for the device to ${access}`,
    transfer: cause?.message ?? "the transfer failed",
  }[reason];
  const description = `a DMA ${access} of ${size} bytes at ${hexAddress(iova)} was refused: ${why}`;
  return { iova, size, access, reason, description };
}

// ARP for IPv4 over Ethernet: RFC 826. Nothing in it proves who sent it, so what it says is compared with itself, with the
// frame that carried it and with the network's prefix before the neighbour cache hears of it.
import { EtherType, isGroupMac, MAC_BYTES, macAt } from "../../specs/ethernet/index.ts";
import { get16, get32, put16, put32 } from "./byte-order.ts";
import { copyMac } from "./ethernet.ts";
import { isUnicast } from "./ipv4-address.ts";

/** Bytes of a packet. */
const ARP_BYTES = 28;
export const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;
const HARDWARE_ETHERNET = 1;

const Field = {
  HARDWARE: 0,
  PROTOCOL: 2,
  LENGTHS: 4,
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER_ADDRESS: 14,
  TARGET_MAC: 18,
  TARGET_ADDRESS: 24,
} as const;

/** Why a packet was dropped. `spoofed`: its sender is not who sent the frame, or nobody can have that address. */
export type ArpProblem = "short" | "format" | "operation" | "spoofed";

/** One read packet; an object that is used again. */
export class ArpPacket {
  operation = 0;
  /** Where the sender's Ethernet address lies, in the bytes that were read. */
  senderMacAt = 0;
  /** 0 where the sender asks whether somebody has the target's address already (a probe, RFC 5227). */
  senderAddress = 0;
  targetAddress = 0;

  /**
   * Reads the packet at `at`, of which `available` bytes came in a frame whose source address lies at `sourceAt`.
   * Gives the reason where it is to be dropped.
   */
  read(bytes: Uint8Array, at: number, available: number, sourceAt: number): ArpProblem | undefined {
    if (available < ARP_BYTES) return "short";
    const ethernet = get16(bytes, at + Field.HARDWARE) === HARDWARE_ETHERNET;
    const sizes = bytes[at + Field.LENGTHS] === MAC_BYTES && bytes[at + Field.LENGTHS + 1] === 4;
    if (!ethernet || !sizes || get16(bytes, at + Field.PROTOCOL) !== EtherType.IPV4) return "format";
    const operation = get16(bytes, at + Field.OPERATION);
    if (operation !== ArpOperation.REQUEST && operation !== ArpOperation.REPLY) return "operation";
    const senderMacAt = at + Field.SENDER_MAC;
    const sender = macAt(bytes, senderMacAt);
    const senderAddress = get32(bytes, at + Field.SENDER_ADDRESS);
    const probe = senderAddress === 0 && operation === ArpOperation.REQUEST;
    if (sender !== macAt(bytes, sourceAt) || isGroupMac(sender) || sender === 0) return "spoofed";
    if (!probe && !isUnicast(senderAddress)) return "spoofed";
    this.operation = operation;
    this.senderMacAt = senderMacAt;
    this.senderAddress = senderAddress;
    this.targetAddress = get32(bytes, at + Field.TARGET_ADDRESS);
    return undefined;
  }
}

/** Who a packet to write speaks of; Ethernet addresses are six bytes. */
export interface ArpContent {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  readonly senderAddress: number;
  readonly targetMac: Uint8Array;
  readonly targetAddress: number;
}

/** Writes a packet at `at` and returns its length. */
export function putArp(bytes: Uint8Array, at: number, content: ArpContent): number {
  put16(bytes, at + Field.HARDWARE, HARDWARE_ETHERNET);
  put16(bytes, at + Field.PROTOCOL, EtherType.IPV4);
  bytes[at + Field.LENGTHS] = MAC_BYTES;
  bytes[at + Field.LENGTHS + 1] = 4;
  put16(bytes, at + Field.OPERATION, content.operation);
  copyMac(bytes, at + Field.SENDER_MAC, content.senderMac, 0);
  put32(bytes, at + Field.SENDER_ADDRESS, content.senderAddress);
  copyMac(bytes, at + Field.TARGET_MAC, content.targetMac, 0);
  put32(bytes, at + Field.TARGET_ADDRESS, content.targetAddress);
  return ARP_BYTES;
}

// Captures in the format that tcpdump and Wireshark read: pcapng (draft-ietf-opsawg-pcapng, sections 3 and 4), little endian,
// with nanoseconds. A file is a section, its interface, then blocks of packets.
import { concatenate } from "./concatenate.ts";

const Block = { SECTION: 0x0a0d0d0a, INTERFACE: 1, STATISTICS: 5, PACKET: 6 } as const;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Codes of options; what a code means depends on its block. */
const Option = {
  IF_NAME: 2,
  IF_DESCRIPTION: 3,
  IF_TSRESOL: 9,
  USER_APPLICATION: 4,
  IFRECV: 4,
  IFDROP: 5,
} as const;
/** Bytes of a block around its body: type and length before it, the length once more behind it. */
const HEAD_BYTES = 8;
const TAIL_BYTES = 4;
/** Bytes of a packet's block between its head and the packet's data. */
const PACKET_BYTES = 20;
/** Option 0 of no length. */
const END_OF_OPTIONS: Uint8Array = new Uint8Array(4);

/** `LINKTYPE_` values of tcpdump.org's registry. */
export const LinkType = { ETHERNET: 1, USER0: 147 } as const;

/** Where the packets of a capture came from. */
export interface PcapngInterface {
  /** One of {@link LinkType}. */
  readonly linkType: number;
  readonly name: string;
  readonly description?: string;
  /** Bytes of each packet that are kept; all of them by default. */
  readonly snapLength?: number;
}

/** What a file begins with: the section that `application` writes. */
export function pcapngSection(application: string): Uint8Array {
  const section = new Uint8Array(16);
  const view = new DataView(section.buffer);
  view.setUint32(0, BYTE_ORDER_MAGIC, true);
  view.setUint16(4, 1, true);
  // Of unknown length.
  view.setBigInt64(8, -1n, true);
  return block(Block.SECTION, [section, option(Option.USER_APPLICATION, text(application)), END_OF_OPTIONS]);
}

/** What follows the section: the interface whose packets come next. */
export function pcapngInterface({ linkType, name, description, snapLength = 0 }: PcapngInterface): Uint8Array {
  const head = new Uint8Array(8);
  const view = new DataView(head.buffer);
  view.setUint16(0, linkType, true);
  view.setUint32(4, snapLength, true);
  const options = [option(Option.IF_NAME, text(name))];
  if (description !== undefined) options.push(option(Option.IF_DESCRIPTION, text(description)));
  // Times in units of ten to the minus ninth of a second.
  options.push(option(Option.IF_TSRESOL, Uint8Array.of(9)), END_OF_OPTIONS);
  return block(Block.INTERFACE, [head, ...options]);
}

/** Bytes of the block of a packet of which `captured` bytes are kept. */
export function pcapngPacketBytes(captured: number): number {
  return HEAD_BYTES + PACKET_BYTES + padded(captured) + TAIL_BYTES;
}

/**
 * Writes a packet's block at `at` of `target`: `captured` of `length` bytes from `from` on, received `nanoseconds` after 1970.
 * The place must have {@link pcapngPacketBytes}. It makes no copy of the bytes, which may be shared with a device.
 */
export function putPcapngPacket(
  target: Uint8Array,
  at: number,
  bytes: Uint8Array,
  from: number,
  captured: number,
  length: number,
  nanoseconds: bigint,
): void {
  const size = pcapngPacketBytes(captured);
  const view = new DataView(target.buffer, target.byteOffset + at, size);
  view.setUint32(0, Block.PACKET, true);
  view.setUint32(4, size, true);
  // The first interface, which is the only one.
  view.setUint32(HEAD_BYTES, 0, true);
  putTime(view, HEAD_BYTES + 4, nanoseconds);
  view.setUint32(HEAD_BYTES + 12, captured, true);
  view.setUint32(HEAD_BYTES + 16, length, true);
  const dataAt = HEAD_BYTES + PACKET_BYTES;
  for (let i = 0; i < captured; i++) target[at + dataAt + i] = bytes[from + i] as number;
  target.fill(0, at + dataAt + captured, at + size - TAIL_BYTES);
  view.setUint32(size - TAIL_BYTES, size, true);
}

/** What a file ends with: how many packets came, and how many of them were lost on the way to the file. */
export function pcapngStatistics(received: number, dropped: number, nanoseconds: bigint): Uint8Array {
  const head = new Uint8Array(12);
  putTime(new DataView(head.buffer), 4, nanoseconds);
  const wide = (value: number): Uint8Array => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    return bytes;
  };
  const counts = [option(Option.IFRECV, wide(received)), option(Option.IFDROP, wide(dropped))];
  return block(Block.STATISTICS, [head, ...counts, END_OF_OPTIONS]);
}

/** The upper half first, whatever the byte order. */
function putTime(view: DataView, at: number, nanoseconds: bigint): void {
  view.setUint32(at, Number(nanoseconds >> 32n), true);
  view.setUint32(at + 4, Number(nanoseconds & 0xffff_ffffn), true);
}

function block(type: number, body: readonly Uint8Array[]): Uint8Array {
  const head = new Uint8Array(HEAD_BYTES);
  const tail = new Uint8Array(TAIL_BYTES);
  const bytes = concatenate([head, ...body, tail]);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, bytes.length, true);
  view.setUint32(bytes.length - TAIL_BYTES, bytes.length, true);
  return bytes;
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + padded(value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  bytes.set(value, 4);
  return bytes;
}

/** Everything lies at multiples of four bytes. */
const padded = (length: number): number => Math.ceil(length / 4) * 4;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

// Captures in the format that tcpdump and Wireshark read: pcapng (draft-ietf-opsawg-pcapng), little endian, with nanoseconds.

const Block = { SECTION: 0x0a0d0d0a, INTERFACE: 1, STATISTICS: 5, PACKET: 6 } as const;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const ETHERNET = 1;
const Option = {
  END: 0,
  IF_NAME: 2,
  IF_DESCRIPTION: 3,
  IF_TSRESOL: 9,
  USER_APPLICATION: 4,
  IFRECV: 4,
  IFDROP: 5,
} as const;
/** Bytes of a packet block around its data. */
const PACKET_OVERHEAD = 32;

export interface CaptureInterface {
  readonly name: string;
  readonly description: string;
  /** Bytes of each frame that are kept. */
  readonly snapLength: number;
}

/** What a file begins with. */
export function captureHeader({ name, description, snapLength }: CaptureInterface): Uint8Array {
  const section = new Uint8Array(16);
  const view = new DataView(section.buffer);
  view.setUint32(0, BYTE_ORDER_MAGIC, true);
  view.setUint16(4, 1, true);
  // A section of unknown length.
  view.setBigInt64(8, -1n, true);
  const head = new Uint8Array(8);
  const headView = new DataView(head.buffer);
  headView.setUint16(0, ETHERNET, true);
  headView.setUint32(4, snapLength, true);
  const options = [
    option(Option.IF_NAME, text(name)),
    option(Option.IF_DESCRIPTION, text(description)),
    // Ten to the minus ninth.
    option(Option.IF_TSRESOL, Uint8Array.of(9)),
    option(Option.END, new Uint8Array(0)),
  ];
  const application = [option(Option.USER_APPLICATION, text("ring3 capture")), option(Option.END, new Uint8Array(0))];
  return joined([
    block(Block.SECTION, joined([section, ...application])),
    block(Block.INTERFACE, joined([head, ...options])),
  ]);
}

/** Bytes of the block of a packet of which `captured` bytes are kept. */
export function packetBlockBytes(captured: number): number {
  return PACKET_OVERHEAD + Math.ceil(captured / 4) * 4;
}

/**
 * Writes a packet's block at `at` of `target`: `captured` of `length` bytes from `from` on, received `nanoseconds` after 1970.
 * The place must have {@link packetBlockBytes}.
 */
export function putPacketBlock(
  target: Uint8Array,
  at: number,
  bytes: Uint8Array,
  from: number,
  captured: number,
  length: number,
  nanoseconds: bigint,
): void {
  const size = packetBlockBytes(captured);
  const view = new DataView(target.buffer, target.byteOffset + at, size);
  view.setUint32(0, Block.PACKET, true);
  view.setUint32(4, size, true);
  view.setUint32(8, 0, true);
  view.setUint32(12, Number(nanoseconds >> 32n), true);
  view.setUint32(16, Number(nanoseconds & 0xffff_ffffn), true);
  view.setUint32(20, captured, true);
  view.setUint32(24, length, true);
  for (let i = 0; i < captured; i++) target[at + 28 + i] = bytes[from + i] as number;
  for (let i = 28 + captured; i < size - 4; i++) target[at + i] = 0;
  view.setUint32(size - 4, size, true);
}

/** What a file ends with: how many frames came, and how many of them were lost on the way to the file. */
export function captureStatistics(received: number, dropped: number, nanoseconds: bigint): Uint8Array {
  const head = new Uint8Array(12);
  const view = new DataView(head.buffer);
  view.setUint32(4, Number(nanoseconds >> 32n), true);
  view.setUint32(8, Number(nanoseconds & 0xffff_ffffn), true);
  const wide = (value: number): Uint8Array => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    return bytes;
  };
  const options = [
    option(Option.IFRECV, wide(received)),
    option(Option.IFDROP, wide(dropped)),
    option(Option.END, new Uint8Array(0)),
  ];
  return block(Block.STATISTICS, joined([head, ...options]));
}

function block(type: number, body: Uint8Array): Uint8Array {
  const size = 12 + body.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, size, true);
  bytes.set(body, 8);
  view.setUint32(size - 4, size, true);
  return bytes;
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + Math.ceil(value.length / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  bytes.set(value, 4);
  return bytes;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

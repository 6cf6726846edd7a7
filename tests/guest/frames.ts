// Raw Ethernet frames with a sequence number and a checksum, sent from one network device to another and checked byte by byte:
// how many came, and whether any was damaged, came twice or out of order.
import type { NetDevice } from "../../packages/ring3/src/drivers/net/device.ts";
import { PACKET_WORDS, Packets, PacketWord } from "../../packages/ring3/src/drivers/net/packets.ts";

/** Local experimental, IEEE 802: nobody else answers to it. */
const ETHERTYPE = 0x88b5;
const HEADER_BYTES = 14;
/** The header, four bytes of sequence number and four of seed. */
const LEAST_BYTES = 60;

export interface Received {
  readonly count: number;
  readonly damaged: number;
  readonly duplicated: number;
  readonly disordered: number;
}

/** Writes frame `sequence` of `size` bytes into `bytes` at `place`. */
function writeFrame(
  bytes: Uint8Array,
  place: number,
  { to, from, sequence, size }: { to: Uint8Array; from: Uint8Array; sequence: number; size: number },
): void {
  bytes.set(to, place);
  bytes.set(from, place + 6);
  bytes[place + 12] = ETHERTYPE >>> 8;
  bytes[place + 13] = ETHERTYPE & 0xff;
  for (let i = 0; i < 4; i++) bytes[place + HEADER_BYTES + i] = sequence >>> (8 * i);
  for (let i = HEADER_BYTES + 4; i < size; i++) bytes[place + i] = (sequence * 167 + i * 31) & 0xff;
}

/** The size of frame `sequence`: all sizes come up. */
function sizeOf(sequence: number, most = 1514): number {
  return LEAST_BYTES + ((sequence * 37) % (most - LEAST_BYTES + 1));
}

/** Keeps account of what arrives. */
class FrameCheck {
  readonly #seen: Set<number> = new Set();
  #last = -1;
  #damaged = 0;
  #duplicated = 0;
  #disordered = 0;

  /** Whether `bytes` at `place` is one of these frames; accounts for it if so. */
  take(bytes: Uint8Array, place: number, length: number): boolean {
    if ((((bytes[place + 12] as number) << 8) | (bytes[place + 13] as number)) !== ETHERTYPE) return false;
    let sequence = 0;
    for (let i = 3; i >= 0; i--) sequence = sequence * 256 + (bytes[place + HEADER_BYTES + i] as number);
    let good = length === sizeOf(sequence);
    for (let i = HEADER_BYTES + 4; good && i < length; i++)
      good = bytes[place + i] === ((sequence * 167 + i * 31) & 0xff);
    if (!good) this.#damaged++;
    else if (this.#seen.has(sequence)) this.#duplicated++;
    else this.#seen.add(sequence);
    if (sequence < this.#last) this.#disordered++;
    this.#last = sequence;
    return true;
  }

  get result(): Received {
    const [count, damaged] = [this.#seen.size, this.#damaged];
    return { count, damaged, duplicated: this.#duplicated, disordered: this.#disordered };
  }
}

export interface ExchangeOptions {
  readonly frames: number;
  /** Frames in flight at most. */
  readonly window?: number;
  readonly queue?: number;
  /** Where they go; the receiver's address by default. */
  readonly to?: Uint8Array;
  /** Give up after so long without a frame. */
  readonly idleMs?: number;
}

/** Takes buffers for up to `count` frames, the first of them number `first`, and writes them; how many there are. */
export function prepareFrames(
  from: NetDevice,
  packets: Packets,
  { to, first, count }: { readonly to: Uint8Array; readonly first: number; readonly count: number },
): number {
  const prepared = from.pool.takeAll(packets, count);
  const source = from.mac;
  for (let i = 0; i < prepared; i++) {
    const at = i * PACKET_WORDS;
    const size = sizeOf(first + i);
    const place = packets.words[at + PacketWord.PLACE] as number;
    writeFrame(from.pool.bytes, place, { to, from: source, sequence: first + i, size });
    packets.words[at + PacketWord.LENGTH] = size;
  }
  return prepared;
}

/** Sends frames from one device to another, in bursts, and checks all that arrive. */
export async function exchange(from: NetDevice, to: NetDevice, options: ExchangeOptions): Promise<Received> {
  const { frames, window = 64, queue = 0, idleMs = 1000 } = options;
  using sending = new Packets(from.pool.arena, 32);
  using receiving = new Packets(to.pool.arena, 32);
  const check = new FrameCheck();
  const target = options.to ?? to.mac;
  let sent = 0;
  for (;;) {
    const room = Math.min(32, frames - sent, window - (sent - check.result.count));
    const prepared = prepareFrames(from, sending, { to: target, first: sent, count: Math.max(0, room) });
    const taken = from.txBurst(0, sending, prepared);
    from.pool.giveAll(sending, prepared - taken, taken);
    sent += taken;
    if (sent === frames && check.result.count === frames) break;
    if (!(await to.receivable(queue, { timeoutMs: idleMs }))) break;
    const count = to.rxBurst(queue, receiving);
    for (let i = 0; i < count; i++) {
      const at = i * PACKET_WORDS;
      const place = receiving.words[at + PacketWord.PLACE] as number;
      check.take(to.pool.bytes, place, receiving.words[at + PacketWord.LENGTH] as number);
    }
    to.pool.giveAll(receiving, count);
  }
  return check.result;
}

/** The Internet checksum of `bytes`: RFC 1071. */
export function checksum(bytes: Uint8Array, sum = 0): number {
  let total = sum;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] as number) << 8) + (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}

export interface UdpFrameOptions {
  readonly to: Uint8Array;
  readonly from: Uint8Array;
  /** Bytes of data. */
  readonly payload: number;
  /** The last byte of the source address; another one is another flow. */
  readonly host?: number;
  readonly checksums?: "computed" | "left to the device";
}

/** A UDP datagram over IPv4; left to the device, its header has no checksum and UDP's field the pseudo header's sum. */
export function udpFrame({ to, from, payload, host = 1, checksums = "computed" }: UdpFrameOptions): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + 28 + payload);
  const view = new DataView(frame.buffer);
  frame.set(to, 0);
  frame.set(from, 6);
  view.setUint16(12, 0x0800);
  view.setUint16(14, 0x4500);
  view.setUint16(16, 28 + payload);
  view.setUint16(22, 0x4011);
  frame.set([10, 9, 0, host, 10, 9, 0, 2], 26);
  view.setUint16(34, 1000 + host);
  view.setUint16(36, 9);
  view.setUint16(38, 8 + payload);
  for (let i = 0; i < payload; i++) frame[42 + i] = i * 7;
  const pseudo = Uint8Array.from([...frame.subarray(26, 34), 0, 17, (8 + payload) >>> 8, (8 + payload) & 0xff]);
  if (checksums === "left to the device") {
    view.setUint16(40, ~checksum(pseudo) & 0xffff);
    return frame;
  }
  view.setUint16(24, checksum(frame.subarray(14, 34)));
  view.setUint16(40, checksum(frame.subarray(34), ~checksum(pseudo) & 0xffff) || 0xffff);
  return frame;
}

/** Who has `target`? RFC 826. */
export function arpRequest(from: Uint8Array, sender: readonly number[], target: readonly number[]): Uint8Array {
  const frame = new Uint8Array(60);
  frame.fill(0xff, 0, 6);
  frame.set(from, 6);
  frame.set([8, 6, 0, 1, 8, 0, 6, 4, 0, 1], 12);
  frame.set([...from, ...sender, 0, 0, 0, 0, 0, 0, ...target], 22);
  return frame;
}

/** An echo request from 10.9.0.1 to 10.9.0.2: RFC 792. */
export function echoRequest(to: Uint8Array, from: Uint8Array, sequence: number, payload: number): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + 28 + payload);
  const view = new DataView(frame.buffer);
  frame.set(to, 0);
  frame.set(from, 6);
  view.setUint16(12, 0x0800);
  view.setUint16(14, 0x4500);
  view.setUint16(16, 28 + payload);
  view.setUint16(22, 0x4001);
  frame.set([10, 9, 0, 1, 10, 9, 0, 2], 26);
  view.setUint16(24, checksum(frame.subarray(14, 34)));
  view.setUint16(34, 0x0800);
  view.setUint16(38, 0x1234);
  view.setUint16(40, sequence);
  for (let i = 0; i < payload; i++) frame[42 + i] = (sequence + i * 13) & 0xff;
  view.setUint16(36, checksum(frame.subarray(34)));
  return frame;
}

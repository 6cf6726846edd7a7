// A burst of packets as words of the arena: four words each, written by the driver when it receives and by the program
// when it sends. No object for a packet: whoever handles one adds to its place or its length.
import type { Arena } from "../../memory/arena.ts";

/**
 * Words of a packet.
 * - PLACE: where its first byte lies in the pool's memory, so `pool.bytes[place]`; adding 14 strips an Ethernet header,
 *   subtracting makes room for one. The buffer is found from it, so it stays within its buffer.
 * - LENGTH: bytes of the frame, without the FCS.
 * - FLAGS: bits of {@link PacketFlag}.
 * - OFFLOAD: the VLAN tag (TCI) in bits 31:16, where VLAN is set; for a checksum to be computed the length of the Ethernet
 *   header in bits 15:9 and that of the IP header in bits 8:0 ({@link offloadWord}).
 */
export const PacketWord = { PLACE: 0, LENGTH: 1, FLAGS: 2, OFFLOAD: 3 } as const;
export const PACKET_WORDS = 4;

/**
 * Bits of a packet's FLAGS. Received: `IPV4_CHECKED` without `IPV4_BAD` is a header checksum found right, and so `L4_CHECKED`
 * without `L4_BAD` for TCP and UDP; without CHECKED nobody looked. `L4_PARTIAL`: right in content, but the field holds only
 * the pseudo header's sum (a packet of the same machine). To be sent: what the device computes; for UDP and TCP the field
 * holds the pseudo header's sum. `VLAN`: the tag stands in OFFLOAD and not in the frame.
 */
export const PacketFlag = {
  VLAN: 0x08,
  L4_CHECKED: 0x20,
  IPV4_CHECKED: 0x40,
  L4_BAD: 0x100,
  IPV4_BAD: 0x200,
  L4_PARTIAL: 0x400,
  IPV4_CHECKSUM: 0x1000,
  UDP_CHECKSUM: 0x2000,
  TCP_CHECKSUM: 0x4000,
} as const;
/** The flags that ask something of the device that sends. */
export const TRANSMIT_FLAGS: number =
  PacketFlag.VLAN | PacketFlag.IPV4_CHECKSUM | PacketFlag.UDP_CHECKSUM | PacketFlag.TCP_CHECKSUM;

/** OFFLOAD of a packet to be sent: header lengths in bytes and the VLAN tag, as far as its flags ask for them. */
export function offloadWord(ethernetBytes: number, ipBytes: number, vlanTag = 0): number {
  return (ipBytes & 0x1ff) | ((ethernetBytes & 0x7f) << 9) | (vlanTag << 16);
}

/**
 * Room for the words of `capacity` packets, in the arena so that emitted loops fill it. It belongs to one thread.
 *
 * @example
 * import { openNetDevice, PACKET_WORDS, Packets, PacketWord } from "ring3/net";
 * await using device = await openNetDevice(fn);
 * using packets = new Packets(device.pool.arena, 32);
 * const count = device.rxBurst(0, packets);
 * for (let i = 0, at = 0; i < count; i++, at += PACKET_WORDS) {
 *   const first = device.pool.bytes[packets.words[at + PacketWord.PLACE] ?? 0];
 * }
 * device.pool.giveAll(packets, count);
 */
export class Packets implements Disposable {
  readonly arena: Arena;
  readonly capacity: number;
  /** Where the words lie in the arena. */
  readonly arenaOffset: number;
  /** {@link PACKET_WORDS} for each packet. */
  readonly words: Int32Array;
  readonly #release: () => void;

  constructor(arena: Arena, capacity: number) {
    const range = arena.reserve(capacity * PACKET_WORDS * 4, 64);
    this.arena = arena;
    this.capacity = capacity;
    this.arenaOffset = range.offset;
    this.words = new Int32Array(range.words.buffer, range.offset, capacity * PACKET_WORDS);
    this.#release = () => range[Symbol.dispose]();
  }

  /** Moves `count` packets from index `first` to index `to`: what a queue did not take goes to the front. */
  move(first: number, count: number, to = 0): void {
    this.words.copyWithin(to * PACKET_WORDS, first * PACKET_WORDS, (first + count) * PACKET_WORDS);
  }

  [Symbol.dispose](): void {
    this.#release();
  }
}

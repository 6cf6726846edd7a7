// The transmit ring: the reference of the emitted loop, and what runs where nothing can be emitted. 82574 section 7.2, 82576
// section 7.2. Only the last descriptor of a segment (a burst, or 32 packets of it) asks the device to report; when it has,
// the buffers of the whole segment go back to the pool. A packet that asks for other offloads than the last one did gets a
// context descriptor before it.
//
//      clean                tail (ours)
//        v                   v
//   [ ][s  s  s  S][s  s  S][ ][ ]     S: reports, its segment's first slot names it; one descriptor stays empty
import type { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import {
  ContextCommand,
  DESCRIPTOR_BYTES,
  TransmitCommand,
  TransmitStatus,
  TransmitWord,
} from "../../specs/gigabit/descriptors.ts";
import { POOL_STACK_WORD } from "../net/packet-pool.ts";
import { PACKET_WORDS, PacketFlag, type Packets, PacketWord, TRANSMIT_FLAGS } from "../net/packets.ts";
import { addBytes, addCount, QUEUE_WORDS, QueueWord, signedWords } from "../net/queue-state.ts";
import {
  type DescriptorFormat,
  LEAST_FRAME_BYTES,
  type QueuePlace,
  ringTail,
  SEGMENT_PACKETS,
  StateWord,
  slotOffsets,
  TRANSMIT_SLOT_WORDS,
} from "./queue-place.ts";

const { ADDRESS_LOW, ADDRESS_HIGH, COMMAND, STATUS } = TransmitWord;
const { RS, VLE, DEXT } = TransmitCommand;
const { DD, IXSM, TXSM, PAYLEN_SHIFT, VLAN_SHIFT } = TransmitStatus;
const SHIFT = Math.log2(DESCRIPTOR_BYTES / 4);
const LEAST = LEAST_FRAME_BYTES;
const STACK = POOL_STACK_WORD;
const OFFLOADS = TRANSMIT_FLAGS;
const { TX_TAIL, TX_CLEAN, TX_OFFLOAD, TX_FLAGS } = StateWord;
const { TX_PACKETS, TX_ERRORS } = QueueWord;

/** COMMAND of every data descriptor, without length, RS and VLE. */
export function dataCommand(format: DescriptorFormat): number {
  const { DATA_E1000E, DATA_IGB, EOP, IFCS } = TransmitCommand;
  return (format === "igb" ? DATA_IGB : DATA_E1000E) | EOP | IFCS | DEXT;
}

export class TransmitRing {
  readonly #place: QueuePlace;
  readonly #descriptors: Int32Array;
  readonly #slots: Int32Array;
  readonly #state: Int32Array;
  readonly #pool: Int32Array;
  readonly #registers: Registers;
  readonly #command: number;

  constructor(arena: Arena, place: QueuePlace, registers: Registers) {
    const { entries } = place;
    this.#place = place;
    this.#descriptors = signedWords(arena, place.transmit, (entries * DESCRIPTOR_BYTES) / 4);
    this.#slots = signedWords(arena, slotOffsets(place).transmit, entries * TRANSMIT_SLOT_WORDS);
    this.#state = signedWords(arena, place.state, QUEUE_WORDS);
    this.#pool = signedWords(arena, place.pool.stateOffset, STACK + place.pool.buffers);
    this.#registers = registers;
    this.#command = dataCommand(place.format);
  }

  /** Starts anew: nothing is posted, and the device knows no context. */
  clear(): void {
    this.#descriptors.fill(0);
    this.#state[TX_TAIL] = 0;
    this.#state[TX_CLEAN] = 0;
    this.#state[TX_FLAGS] = 0;
  }

  /** Gives the buffers of everything posted back; the device must not use them any more. Returns how many there were. */
  drain(): number {
    let clean = this.#state[TX_CLEAN] as number;
    let count = 0;
    while (clean !== this.#state[TX_TAIL]) {
      if (this.#give(clean)) count++;
      clean = this.#next(clean);
    }
    this.#state[TX_CLEAN] = clean;
    return count;
  }

  /** Gives sent buffers back to the pool and returns how many descriptors are still the device's. */
  clean(): number {
    const { entries } = this.#place;
    const tail = this.#state[TX_TAIL] as number;
    let clean = this.#state[TX_CLEAN] as number;
    while (clean !== tail) {
      const last = this.#slots[clean * TRANSMIT_SLOT_WORDS + 1] as number;
      if ((Atomics.load(this.#descriptors, (last << SHIFT) + STATUS) & DD) === 0) break;
      for (let done = false; !done; clean = this.#next(clean)) {
        done = clean === last;
        this.#give(clean);
      }
    }
    this.#state[TX_CLEAN] = clean;
    return tail - clean + (tail < clean ? entries : 0);
  }

  #next(index: number): number {
    return index + 1 === this.#place.entries ? 0 : index + 1;
  }

  #give(index: number): boolean {
    const place = this.#slots[index * TRANSMIT_SLOT_WORDS] as number;
    if (place < 0) return false;
    const count = this.#pool[0] as number;
    this.#pool[STACK + count] = place & -this.#place.pool.bufferBytes;
    this.#pool[0] = count + 1;
    return true;
  }

  /** As `NetQueue.txBurst`. */
  burst(packets: Packets, count: number, first: number): number {
    const { entries, pool, poolIova, frameBytes, transmitTail, format } = this.#place;
    const poolBytes = pool.buffers * pool.bufferBytes;
    const { words } = packets;
    const descriptors = this.#descriptors;
    const slots = this.#slots;
    const state = this.#state;
    let tail = state[TX_TAIL] as number;
    let free = this.#room(tail);
    // Half a ring is left alone, so that a look at what the device has done pays.
    if (free <= count || free < entries / 2) this.clean();
    let most = count;
    let taken = 0;
    let sent = 0;
    let bytes = 0;
    for (;;) {
      // As many packets as a segment may have, as there are, and as fit.
      free = this.#room(tail);
      let stop = Math.min(taken + free, taken + SEGMENT_PACKETS, most);
      if (stop === taken) break;
      const segment = tail;
      for (; taken < stop; taken++) {
        const from = (first + taken) * PACKET_WORDS;
        const place = words[from + PacketWord.PLACE] as number;
        const size = words[from + PacketWord.LENGTH] as number;
        const offloads = (words[from + PacketWord.FLAGS] as number) & OFFLOADS;
        const inside = (place & (pool.bufferBytes - 1)) + size;
        if (place >>> 0 >= poolBytes || (size - LEAST) >>> 0 > frameBytes - LEAST || inside > pool.bufferBytes) {
          this.#refuse(place, poolBytes);
          continue;
        }
        let options = 0;
        let command = this.#command | size;
        if (offloads !== 0) {
          const offload = words[from + PacketWord.OFFLOAD] as number;
          if (offloads !== state[TX_FLAGS] || offload !== state[TX_OFFLOAD]) {
            free = this.#room(tail);
            if (free < 2) {
              most = taken;
              break;
            }
            state[TX_FLAGS] = offloads;
            state[TX_OFFLOAD] = offload;
            this.#context(tail, offload, offloads);
            tail = this.#next(tail);
            // The context took the place of a packet.
            stop = Math.min(stop, taken + free - 1);
          }
          if ((offloads & PacketFlag.VLAN) !== 0) command |= VLE;
          if ((offloads & PacketFlag.IPV4_CHECKSUM) !== 0) options |= IXSM;
          if ((offloads & (PacketFlag.UDP_CHECKSUM | PacketFlag.TCP_CHECKSUM)) !== 0) options |= TXSM;
          if (format === "e1000e") options |= (offload >>> VLAN_SHIFT) << VLAN_SHIFT;
        }
        if (format === "igb") options |= size << PAYLEN_SHIFT;
        const at = tail << SHIFT;
        const address = poolIova + place;
        descriptors[at + ADDRESS_LOW] = address;
        descriptors[at + ADDRESS_HIGH] = address / 2 ** 32;
        descriptors[at + COMMAND] = command;
        descriptors[at + STATUS] = options;
        slots[tail * TRANSMIT_SLOT_WORDS] = place;
        tail = this.#next(tail);
        sent++;
        bytes += size;
      }
      if (tail !== segment) this.#close(segment, tail === 0 ? entries - 1 : tail - 1);
    }
    if (sent > 0) {
      state[TX_TAIL] = tail;
      addCount(state, TX_PACKETS, sent);
      addBytes(state, QueueWord.TX_BYTES_LOW, bytes);
      ringTail(this.#registers, transmitTail, tail);
    }
    return taken;
  }

  /** Descriptors that can be posted. */
  #room(tail: number): number {
    const free = (this.#state[TX_CLEAN] as number) - tail - 1;
    return free < 0 ? free + this.#place.entries : free;
  }

  /** Drops a packet that no frame can be, and gives its buffer back where it is one. */
  #refuse(place: number, poolBytes: number): void {
    this.#state[TX_ERRORS] = (this.#state[TX_ERRORS] as number) + 1;
    if (place >>> 0 >= poolBytes) return;
    const unused = this.#pool[0] as number;
    this.#pool[STACK + unused] = place & -this.#place.pool.bufferBytes;
    this.#pool[0] = unused + 1;
  }

  #close(segment: number, last: number): void {
    this.#slots[segment * TRANSMIT_SLOT_WORDS + 1] = last;
    const at = (last << SHIFT) + COMMAND;
    this.#descriptors[at] = (this.#descriptors[at] as number) | RS;
  }

  /** Writes a context descriptor. 82574 section 7.2.11, 82576 section 7.2.2.2. */
  #context(index: number, offload: number, offloads: number): void {
    const [low, high, command] = contextWords(this.#place.format, offload, offloads);
    const at = index << SHIFT;
    this.#descriptors[at] = low;
    this.#descriptors[at + 1] = high;
    this.#descriptors[at + 2] = command;
    this.#descriptors[at + 3] = 0;
    this.#slots[index * TRANSMIT_SLOT_WORDS] = -1;
  }
}

/** Words 0 to 2 of a context descriptor; word 3 is 0. */
function contextWords(format: DescriptorFormat, offload: number, offloads: number): [number, number, number] {
  const tcp = (offloads & PacketFlag.TCP_CHECKSUM) !== 0;
  const ipv4 = (offloads & PacketFlag.IPV4_CHECKSUM) !== 0;
  if (format === "igb") {
    const { TCP, IPV4 } = ContextCommand.IGB;
    return [offload, 0, DEXT | TransmitCommand.CONTEXT_IGB | (tcp ? TCP : 0) | (ipv4 ? IPV4 : 0)];
  }
  const { TCP, IPV4 } = ContextCommand.E1000E;
  const ip = (offload >>> 9) & 0x7f;
  const l4 = ip + (offload & 0x1ff);
  // Where each checksum starts, where it is stored, and where it ends (0: at the end of the packet).
  const low = (ip & 0xff) | (((ip + 10) & 0xff) << 8) | ((l4 - 1) << 16);
  const high = (l4 & 0xff) | (((l4 + (tcp ? 16 : 6)) & 0xff) << 8);
  return [low, high, DEXT | (tcp ? TCP : 0) | (ipv4 ? IPV4 : 0)];
}

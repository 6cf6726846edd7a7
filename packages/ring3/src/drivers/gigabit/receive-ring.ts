// The receive ring: the reference of the emitted loop, and what runs where nothing can be emitted. 82574 section 7.1.6 ff.,
// 82576 section 7.1.5. Every descriptor always has a buffer: taking a packet puts a fresh one in its place, and where there is
// none the packet stays. Hard about it: the device may say anything, so it says where its data is only by which descriptor
// it reports; place and room of each buffer are ours. x86 keeps loads in order, and descriptor stores before the tail's; arm64
// needs a barrier at each of the two places.
//
//      head (the next to look at)
//        v
//   [b][b][b][b][b][b][b][b]     tail = head - 1: the device may fill all but one
import type { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import { DESCRIPTOR_BYTES, ReceiveRead, ReceiveStatus, ReceiveWriteBack } from "../../specs/gigabit/descriptors.ts";
import { POOL_STACK_WORD } from "../net/packet-pool.ts";
import { PACKET_WORDS, PacketFlag, type Packets, PacketWord } from "../net/packets.ts";
import { addBytes, addCount, QUEUE_WORDS, QueueWord, signedWords } from "../net/queue-state.ts";
import { damagedMask, LEAST_FRAME_BYTES, type QueuePlace, ringTail, StateWord, slotOffsets } from "./queue-place.ts";

// Constants of this module, which V8 folds into the code as it does not with imported ones.
const { DD, EOP } = ReceiveStatus;
const [STATUS, LENGTH] = [ReceiveWriteBack.STATUS, ReceiveWriteBack.LENGTH];
const [ADDRESS_LOW, ADDRESS_HIGH] = [ReceiveRead.ADDRESS_LOW, ReceiveRead.ADDRESS_HIGH];
const SHIFT = Math.log2(DESCRIPTOR_BYTES / 4);
const LEAST = LEAST_FRAME_BYTES;
const STACK = POOL_STACK_WORD;
const { RX_HEAD, RX_SKIP } = StateWord;
const { RX_PACKETS, RX_ERRORS, RX_LENGTH_ERRORS, RX_NO_BUFFER } = QueueWord;
/** VP, L4CS and IPCS are flags as they stand; L4E and IPE are once they are shifted to L4_BAD and IPV4_BAD. */
const PLAIN_FLAGS = PacketFlag.VLAN | PacketFlag.L4_CHECKED | PacketFlag.IPV4_CHECKED;
const BAD_FLAGS = PacketFlag.L4_BAD | PacketFlag.IPV4_BAD;
const BAD_SHIFT = 21;

export class ReceiveRing {
  readonly #place: QueuePlace;
  readonly #descriptors: Int32Array;
  readonly #slots: Int32Array;
  readonly #state: Int32Array;
  readonly #pool: Int32Array;
  readonly #registers: Registers;
  readonly #check: number;
  readonly #damaged: number;

  constructor(arena: Arena, place: QueuePlace, registers: Registers) {
    const { entries, format } = place;
    this.#place = place;
    this.#descriptors = signedWords(arena, place.receive, (entries * DESCRIPTOR_BYTES) / 4);
    this.#slots = signedWords(arena, slotOffsets(place).receive, entries);
    this.#state = signedWords(arena, place.state, QUEUE_WORDS);
    this.#pool = signedWords(arena, place.pool.stateOffset, STACK + place.pool.buffers);
    this.#registers = registers;
    this.#damaged = damagedMask(format);
    this.#check = EOP | this.#damaged;
  }

  /** Whether a descriptor was reported. One load that no compiler tier may merge with an earlier one. */
  get ready(): boolean {
    return (Atomics.load(this.#descriptors, ((this.#state[RX_HEAD] as number) << SHIFT) + STATUS) & DD) !== 0;
  }

  /** Whether the next descriptor is reported and the head is not, which no device may do. */
  get stuck(): boolean {
    const head = this.#state[RX_HEAD] as number;
    const next = head + 1 === this.#place.entries ? 0 : head + 1;
    return (Atomics.load(this.#descriptors, (next << SHIFT) + STATUS) & DD) !== 0 && !this.ready;
  }

  /** Gives every descriptor a buffer and starts anew. False, and nothing taken, where the pool has too few. */
  fill(): boolean {
    const { entries, pool } = this.#place;
    if ((this.#pool[0] as number) < entries) return false;
    this.#state[RX_HEAD] = 0;
    this.#state[RX_SKIP] = 0;
    for (let i = 0; i < entries; i++) {
      const left = (this.#pool[0] as number) - 1;
      this.#pool[0] = left;
      this.#slots[i] = (this.#pool[STACK + left] as number) + pool.headroom;
      this.#arm(i);
    }
    return true;
  }

  /** Gives all buffers back; the device must not use them any more. */
  drain(): void {
    const { entries, pool } = this.#place;
    for (let i = 0; i < entries; i++) {
      const count = this.#pool[0] as number;
      this.#pool[STACK + count] = (this.#slots[i] as number) & -pool.bufferBytes;
      this.#pool[0] = count + 1;
    }
  }

  #arm(index: number): void {
    const descriptors = this.#descriptors;
    const at = index << SHIFT;
    const address = this.#place.poolIova + (this.#slots[index] as number);
    descriptors[at + ADDRESS_LOW] = address;
    descriptors[at + ADDRESS_HIGH] = address / 2 ** 32;
    descriptors[at + STATUS] = 0;
    descriptors[at + LENGTH] = 0;
  }

  /** As `NetQueue.rxBurst`. */
  burst(packets: Packets, max: number): number {
    const { entries, receiveBytes, receiveTail, poolIova } = this.#place;
    const { headroom } = this.#place.pool;
    const { words } = packets;
    const descriptors = this.#descriptors;
    const slots = this.#slots;
    const state = this.#state;
    const pool = this.#pool;
    let head = state[RX_HEAD] as number;
    let skip = state[RX_SKIP] as number;
    let free = pool[0] as number;
    let taken = 0;
    let dropped = 0;
    let bytes = 0;
    while (taken < max) {
      const at = head << SHIFT;
      // The word that says that the others are written: first, once.
      const status = Atomics.load(descriptors, at + STATUS);
      if ((status & DD) === 0) break;
      const length = descriptors[at + LENGTH] as number;
      const size = length & 0xffff;
      if ((status & this.#check) !== EOP || skip !== 0 || (size - LEAST) >>> 0 > receiveBytes - LEAST) {
        if (dropped === entries) break;
        dropped++;
        if ((status & this.#damaged) !== 0) {
          if ((status & EOP) !== 0) state[RX_ERRORS] = (state[RX_ERRORS] as number) + 1;
        } else if ((status & EOP) !== 0) state[RX_LENGTH_ERRORS] = (state[RX_LENGTH_ERRORS] as number) + 1;
        skip = (status & EOP) === 0 ? 1 : 0;
        this.#arm(head);
      } else {
        if (free === 0) {
          state[RX_NO_BUFFER] = (state[RX_NO_BUFFER] as number) + 1;
          break;
        }
        const to = taken * PACKET_WORDS;
        words[to + PacketWord.PLACE] = slots[head] as number;
        words[to + PacketWord.LENGTH] = size;
        words[to + PacketWord.FLAGS] = (status & PLAIN_FLAGS) | ((status >>> BAD_SHIFT) & BAD_FLAGS);
        words[to + PacketWord.OFFLOAD] = length & -0x1_0000;
        free--;
        const place = (pool[STACK + free] as number) + headroom;
        slots[head] = place;
        const address = poolIova + place;
        descriptors[at + ADDRESS_LOW] = address;
        descriptors[at + ADDRESS_HIGH] = address / 2 ** 32;
        descriptors[at + STATUS] = 0;
        descriptors[at + LENGTH] = 0;
        bytes += size;
        taken++;
      }
      head = head + 1 === entries ? 0 : head + 1;
    }
    pool[0] = free;
    state[RX_SKIP] = skip;
    addCount(state, RX_PACKETS, taken);
    addBytes(state, QueueWord.RX_BYTES_LOW, bytes);
    if (taken + dropped > 0) {
      state[RX_HEAD] = head;
      ringTail(this.#registers, receiveTail, head === 0 ? entries - 1 : head - 1);
    }
    return taken;
  }
}

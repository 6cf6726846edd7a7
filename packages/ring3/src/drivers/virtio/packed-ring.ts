// The driver's side of a packed virtqueue: virtio 1.3, section 2.8. Both sides write into one ring of descriptors; two flag
// bits, compared with a wrap counter that turns at the ring's end, say whose a descriptor is.
import type { Arena } from "../../memory/arena.ts";
import {
  DESCRIPTOR_BYTES,
  DescriptorFlag,
  DescriptorWord,
  EVENT_SUPPRESSION_BYTES,
  EVENT_WRAP,
  EventFlags,
  eventPassed,
} from "../../specs/virtio/rings.ts";
import { BufferRing } from "./buffer-ring.ts";
import { RingProblem, type RingPlace, RingWord } from "./queue-place.ts";
import type { QueueAddresses } from "./transport.ts";

const WORDS_SHIFT = Math.log2(DESCRIPTOR_BYTES / 4);
const { ADDRESS_LOW, ADDRESS_HIGH, LENGTH, LAST } = DescriptorWord;
const { FREE, NEXT, TAKEN, NEXT_TURN, TAKEN_TURN, PROBLEM, EVENT_INDEX, LIMIT } = RingWord;
const WRITE = DescriptorFlag.WRITE << 16;
/** The flags of a descriptor that is the device's, in the ring's first round; in the next it is the other one. */
export const FIRST_TURN: number = DescriptorFlag.AVAIL << 16;
/** Both flags: set where a descriptor came back in the first round, clear where it did in the next. As a signed word. */
export const OWNERS: number = (DescriptorFlag.AVAIL | DescriptorFlag.USED) << 16;
const [FIRST, BOTH] = [FIRST_TURN, OWNERS];
/** The device's event suppression has a cache line of its own. */
const EVENT_STEP = 64;

/** Byte offsets of the two event suppression structures behind the descriptors. */
export function packedAreas(size: number): {
  readonly driver: number;
  readonly device: number;
  readonly bytes: number;
} {
  const driver = Math.ceil((size * DESCRIPTOR_BYTES) / EVENT_STEP) * EVENT_STEP;
  const device = driver + EVENT_STEP;
  return { driver, device, bytes: device + EVENT_SUPPRESSION_BYTES };
}

/** Bytes of a ring of `size` entries. */
export function packedRingBytes(size: number): number {
  return packedAreas(size).bytes;
}

/** Where the device finds the areas of a ring at `iova`. */
export function packedAddresses(size: number, iova: number): QueueAddresses {
  const { driver, device } = packedAreas(size);
  return { descriptor: iova, driver: iova + driver, device: iova + device };
}

export class PackedRing extends BufferRing {
  readonly #words: Int32Array;
  readonly #driverEvent: number;
  readonly #deviceEvent: number;
  /** Descriptors that were put since the last publication. */
  #fresh = 0;
  /** The first of them is shown last: its place, and what its last word becomes. */
  #firstAt = 0;
  #firstWord = 0;

  constructor(arena: Arena, place: RingPlace) {
    super(arena, place);
    const { driver, device, bytes } = packedAreas(place.size);
    this.#words = new Int32Array(arena.buffer, place.memory, bytes / 4);
    this.#driverEvent = driver / 4;
    this.#deviceEvent = device / 4;
  }

  override start(eventIndex: boolean, limit: number): void {
    super.start(eventIndex, limit);
    this.#fresh = 0;
    this.state[NEXT_TURN] = FIRST;
    this.state[TAKEN_TURN] = BOTH;
  }

  get ready(): boolean {
    const { state } = this;
    if (state[FREE] === this.size || state[PROBLEM] !== 0) return false;
    return (Atomics.load(this.#words, (this.taken << WORDS_SHIFT) + LAST) & BOTH) === state[TAKEN_TURN];
  }

  put(iova: number, length: number, token: number): void {
    const { state } = this;
    const free = (state[FREE] as number) - 1;
    const id = this.identifiers[free] as number;
    const words = this.#words;
    const next = state[NEXT] as number;
    const at = next << WORDS_SHIFT;
    words[at + ADDRESS_LOW] = iova;
    words[at + ADDRESS_HIGH] = iova / 2 ** 32;
    words[at + LENGTH] = length;
    const last = id | (state[LIMIT] === 0 ? 0 : WRITE) | (state[NEXT_TURN] as number);
    if (this.#fresh === 0) {
      this.#firstAt = at + LAST;
      this.#firstWord = last;
    } else words[at + LAST] = last;
    this.#fresh++;
    this.tokens[id] = token;
    state[FREE] = free;
    if (next + 1 === this.size) {
      state[NEXT] = 0;
      state[NEXT_TURN] = (state[NEXT_TURN] as number) ^ BOTH;
    } else state[NEXT] = next + 1;
  }

  publish(): boolean {
    const fresh = this.#fresh;
    if (fresh === 0) return false;
    this.#fresh = 0;
    // An exchange, which keeps the look at what the device wants behind it.
    Atomics.store(this.#words, this.#firstAt, this.#firstWord);
    const { state } = this;
    const event = Atomics.load(this.#words, this.#deviceEvent);
    const flags = (event >>> 16) & 3;
    if (flags !== EventFlags.DESCRIPTOR || state[EVENT_INDEX] === 0) return flags !== EventFlags.DISABLE;
    // Counted from this round's start, so that the last round's offsets are negative.
    const sameRound = ((event & EVENT_WRAP) !== 0) === (state[NEXT_TURN] === FIRST);
    const offset = (event & (EVENT_WRAP - 1)) - (sameRound ? 0 : this.size);
    const next = state[NEXT] as number;
    return eventPassed(offset & 0xffff, next, (next - fresh) & 0xffff);
  }

  take(): number {
    const { state } = this;
    if (state[FREE] === this.size || state[PROBLEM] !== 0) return -1;
    const taken = state[TAKEN] as number;
    const at = taken << WORDS_SHIFT;
    // The word that says that the others are written: first, once.
    const last = Atomics.load(this.#words, at + LAST);
    if ((last & BOTH) !== state[TAKEN_TURN]) return -1;
    const id = last & 0xffff;
    const token = id < this.size ? (this.tokens[id] as number) : -1;
    if (token < 0) return this.refuse(RingProblem.IDENTIFIER, id, 0);
    const limit = state[LIMIT] as number;
    // Of a buffer that the device only reads the length says nothing; of others it counts whether WRITE is set or not, which
    // QEMU leaves out.
    const length = limit === 0 ? 0 : (this.#words[at + LENGTH] as number) >>> 0;
    if (length > limit) return this.refuse(RingProblem.LENGTH, length, limit);
    this.release(id);
    if (taken + 1 === this.size) {
      state[TAKEN] = 0;
      state[TAKEN_TURN] = (last & BOTH) ^ BOTH;
    } else state[TAKEN] = taken + 1;
    this.length = length;
    return token;
  }

  arm(): void {
    const { state } = this;
    const flags = state[EVENT_INDEX] === 0 ? EventFlags.ENABLE : EventFlags.DESCRIPTOR;
    const place = this.taken | (state[TAKEN_TURN] === 0 ? 0 : EVENT_WRAP);
    // An exchange, since whoever arms looks again afterwards.
    Atomics.store(this.#words, this.#driverEvent, place | (flags << 16));
  }

  disarm(): void {
    this.#words[this.#driverEvent] = EventFlags.DISABLE << 16;
  }
}

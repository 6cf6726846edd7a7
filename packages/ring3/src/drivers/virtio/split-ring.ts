// The driver's side of a split virtqueue: virtio 1.3, section 2.7.
//
//   available: put, in the device's hands        used: back with us
//      taken ^            used.idx ^            next ^       none is ever more than `size` ahead of the first
import type { Arena } from "../../memory/arena.ts";
import {
  AVAIL_NO_INTERRUPT,
  AvailHalfword,
  availBytes,
  DESCRIPTOR_BYTES,
  DescriptorFlag,
  DescriptorWord,
  eventPassed,
  RingAlignment,
  UsedHalfword,
  UsedWord,
  usedBytes,
} from "../../specs/virtio/rings.ts";
import { BufferRing } from "./buffer-ring.ts";
import { RingProblem, type RingPlace, RingWord } from "./queue-place.ts";
import type { QueueAddresses } from "./transport.ts";

const WORDS_SHIFT = Math.log2(DESCRIPTOR_BYTES / 4);
const { ADDRESS_LOW, ADDRESS_HIGH, LENGTH, LAST } = DescriptorWord;
const { FREE, NEXT, TAKEN, SEEN, PROBLEM, EVENT_INDEX, LIMIT } = RingWord;
const { WRITE } = DescriptorFlag;
/** Bit 0 of the used ring's flags: no notifications, please (section 2.7.10). */
export const USED_NO_NOTIFY = 1;

/** Byte offsets of the areas behind the descriptors. */
export function splitAreas(size: number): { readonly avail: number; readonly used: number; readonly bytes: number } {
  const avail = size * DESCRIPTOR_BYTES;
  const alignment = RingAlignment.SPLIT.device;
  // A cache line of its own, since the device writes there.
  const used = Math.ceil((avail + availBytes(size)) / Math.max(64, alignment)) * 64;
  return { avail, used, bytes: used + usedBytes(size) };
}

/** Bytes of a ring of `size` entries, a power of two. */
export function splitRingBytes(size: number): number {
  return splitAreas(size).bytes;
}

/** Where the device finds the areas of a ring at `iova`. */
export function splitAddresses(size: number, iova: number): QueueAddresses {
  const { avail, used } = splitAreas(size);
  return { descriptor: iova, driver: iova + avail, device: iova + used };
}

export class SplitRing extends BufferRing {
  readonly #mask: number;
  readonly #words: Int32Array;
  readonly #halfwords: Uint16Array;
  /** Indices of the areas' starts. */
  readonly #avail: number;
  readonly #used: number;
  readonly #usedWords: number;
  /** Buffers that were put since the last publication. */
  #fresh = 0;

  constructor(arena: Arena, place: RingPlace) {
    super(arena, place);
    const { avail, used, bytes } = splitAreas(place.size);
    this.#mask = place.size - 1;
    this.#words = new Int32Array(arena.buffer, place.memory, Math.ceil(bytes / 4));
    this.#halfwords = arena.halfwords(place.memory, Math.ceil(bytes / 2));
    this.#avail = avail / 2;
    this.#used = used / 2;
    this.#usedWords = used / 4;
  }

  override start(eventIndex: boolean, limit: number): void {
    super.start(eventIndex, limit);
    this.#fresh = 0;
  }

  get ready(): boolean {
    const { state } = this;
    if (state[PROBLEM] !== 0) return false;
    return (
      state[TAKEN] !== state[SEEN] || Atomics.load(this.#halfwords, this.#used + UsedHalfword.INDEX) !== state[TAKEN]
    );
  }

  put(iova: number, length: number, token: number): void {
    const { state } = this;
    const free = (state[FREE] as number) - 1;
    const id = this.identifiers[free] as number;
    const words = this.#words;
    const at = id << WORDS_SHIFT;
    words[at + ADDRESS_LOW] = iova;
    words[at + ADDRESS_HIGH] = iova / 2 ** 32;
    words[at + LENGTH] = length;
    words[at + LAST] = state[LIMIT] === 0 ? 0 : WRITE;
    this.tokens[id] = token;
    const next = state[NEXT] as number;
    this.#halfwords[this.#avail + AvailHalfword.RING + (next & this.#mask)] = id;
    state[FREE] = free;
    state[NEXT] = (next + 1) & 0xffff;
    this.#fresh++;
  }

  publish(): boolean {
    if (this.#fresh === 0) return false;
    const { state } = this;
    const halfwords = this.#halfwords;
    const after = state[NEXT] as number;
    const before = (after - this.#fresh) & 0xffff;
    this.#fresh = 0;
    // An exchange, which keeps the look at what the device wants behind it.
    Atomics.store(halfwords, this.#avail + AvailHalfword.INDEX, after);
    if (state[EVENT_INDEX] !== 0) {
      const event = this.#used + 2 * UsedWord.RING + 2 * UsedWord.ENTRY * this.size;
      return eventPassed(Atomics.load(halfwords, event), after, before);
    }
    return (Atomics.load(halfwords, this.#used + UsedHalfword.FLAGS) & USED_NO_NOTIFY) === 0;
  }

  take(): number {
    const { state } = this;
    const taken = state[TAKEN] as number;
    if (taken === state[SEEN] && !this.#look(taken)) return -1;
    const at = this.#usedWords + UsedWord.RING + UsedWord.ENTRY * (taken & this.#mask);
    const id = (this.#words[at + UsedWord.ID] as number) >>> 0;
    const token = id < this.size ? (this.tokens[id] as number) : -1;
    if (token < 0) return this.#end(RingProblem.IDENTIFIER, id, 0);
    const limit = state[LIMIT] as number;
    // Of a buffer that the device only reads the length says nothing, and devices differ in what they write there.
    const length = limit === 0 ? 0 : (this.#words[at + UsedWord.LENGTH] as number) >>> 0;
    if (length > limit) return this.#end(RingProblem.LENGTH, length, limit);
    this.release(id);
    state[TAKEN] = (taken + 1) & 0xffff;
    this.length = length;
    return token;
  }

  #look(taken: number): boolean {
    const { state } = this;
    if (state[PROBLEM] !== 0) return false;
    const seen = Atomics.load(this.#halfwords, this.#used + UsedHalfword.INDEX);
    const count = (seen - taken) & 0xffff;
    if (count > this.held) {
      this.refuse(RingProblem.INDEX, count, this.held);
      return false;
    }
    state[SEEN] = seen;
    return count !== 0;
  }

  #end(problem: number, value: number, most: number): -1 {
    this.state[SEEN] = this.taken;
    return this.refuse(problem, value, most);
  }

  arm(): void {
    const halfwords = this.#halfwords;
    // Exchanges, since whoever arms looks again afterwards.
    if (this.state[EVENT_INDEX] !== 0) {
      Atomics.store(halfwords, this.#avail + AvailHalfword.RING + this.size, this.taken);
    } else Atomics.store(halfwords, this.#avail + AvailHalfword.FLAGS, 0);
  }

  disarm(): void {
    // With the event index: an event that the device has passed long ago, and passes again after 65,535 buffers.
    const at = this.#avail + (this.state[EVENT_INDEX] === 0 ? AvailHalfword.FLAGS : AvailHalfword.RING + this.size);
    this.#halfwords[at] = this.state[EVENT_INDEX] === 0 ? AVAIL_NO_INTERRUPT : this.taken - 1;
  }
}

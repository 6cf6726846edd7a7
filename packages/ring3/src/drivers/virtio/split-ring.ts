// The driver's side of a split virtqueue: virtio 1.3, section 2.7.
//
//   available: put, in the device's hands        used: back with us
//      taken ^            used.idx ^           added ^       none is ever more than `size` ahead of the first
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
import { type BufferRing, fence, type RingPlace } from "./buffer-ring.ts";
import type { QueueAddresses } from "./transport.ts";

const WORDS_SHIFT = Math.log2(DESCRIPTOR_BYTES / 4);
const { ADDRESS_LOW, ADDRESS_HIGH, LENGTH, LAST } = DescriptorWord;
/** Bit 0 of the used ring's flags: no notifications, please (section 2.7.10). */
const USED_NO_NOTIFY = 1;

function areas(size: number): { readonly avail: number; readonly used: number; readonly bytes: number } {
  const avail = size * DESCRIPTOR_BYTES;
  const alignment = RingAlignment.SPLIT.device;
  // A cache line of its own, since the device writes there.
  const used = Math.ceil((avail + availBytes(size)) / Math.max(64, alignment)) * 64;
  return { avail, used, bytes: used + usedBytes(size) };
}

/** Bytes of a ring of `size` entries, a power of two. */
export function splitRingBytes(size: number): number {
  return areas(size).bytes;
}

export class SplitRing implements BufferRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  length = 0;
  readonly #mask: number;
  readonly #eventIndex: boolean;
  readonly #words: Uint32Array;
  readonly #halfwords: Uint16Array;
  /** Indices of the areas' starts. */
  readonly #avail: number;
  readonly #used: number;
  readonly #usedWords: number;
  readonly #tokens: Int32Array;
  readonly #lengths: Uint32Array;
  /** Identifiers that are free, as a stack. */
  readonly #ids: Uint16Array;
  #free: number;
  #added = 0;
  #published = 0;
  #taken = 0;
  /** The device's index when we last looked. */
  #seen = 0;
  #problem: string | undefined;

  constructor({ size, words, halfwords, iova, eventIndex }: RingPlace) {
    const { avail, used } = areas(size);
    this.size = size;
    this.#mask = size - 1;
    this.#eventIndex = eventIndex;
    this.#words = words;
    this.#halfwords = halfwords;
    this.#avail = avail / 2;
    this.#used = used / 2;
    this.#usedWords = used / 4;
    this.addresses = { descriptor: iova, driver: iova + avail, device: iova + used };
    this.#tokens = new Int32Array(size).fill(-1);
    this.#lengths = new Uint32Array(size);
    this.#ids = Uint16Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#free = size;
  }

  get free(): number {
    return this.#free;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  get ready(): boolean {
    if (this.#problem !== undefined) return false;
    return this.#taken !== this.#seen || Atomics.load(this.#halfwords, this.#used + UsedHalfword.INDEX) !== this.#taken;
  }

  put(iova: number, length: number, deviceWrites: boolean, token: number): void {
    const id = this.#ids[--this.#free] as number;
    const words = this.#words;
    const at = id << WORDS_SHIFT;
    words[at + ADDRESS_LOW] = iova;
    words[at + ADDRESS_HIGH] = iova / 2 ** 32;
    words[at + LENGTH] = length;
    words[at + LAST] = deviceWrites ? DescriptorFlag.WRITE : 0;
    this.#tokens[id] = token;
    this.#lengths[id] = deviceWrites ? length : 0;
    this.#halfwords[this.#avail + AvailHalfword.RING + (this.#added & this.#mask)] = id;
    this.#added = (this.#added + 1) & 0xffff;
  }

  publish(): boolean {
    const before = this.#published;
    const after = this.#added;
    if (before === after) return false;
    const halfwords = this.#halfwords;
    halfwords[this.#avail + AvailHalfword.INDEX] = after;
    this.#published = after;
    fence();
    if (this.#eventIndex) {
      const event = this.#used + 2 * UsedWord.RING + 2 * UsedWord.ENTRY * this.size;
      return eventPassed(Atomics.load(halfwords, event), after, before);
    }
    return (Atomics.load(halfwords, this.#used + UsedHalfword.FLAGS) & USED_NO_NOTIFY) === 0;
  }

  take(): number {
    const taken = this.#taken;
    if (taken === this.#seen && !this.#look()) return -1;
    const at = this.#usedWords + UsedWord.RING + UsedWord.ENTRY * (taken & this.#mask);
    const id = this.#words[at + UsedWord.ID] as number;
    const token = id < this.size ? (this.#tokens[id] as number) : -1;
    const limit = token < 0 ? 0 : (this.#lengths[id] as number);
    // Of a buffer that the device only reads the length says nothing, and devices differ in what they write there.
    const length = limit === 0 ? 0 : (this.#words[at + UsedWord.LENGTH] as number);
    if (token < 0 || length > limit) return this.#refuse(id, length, token);
    this.#tokens[id] = -1;
    this.#ids[this.#free++] = id;
    this.#taken = (taken + 1) & 0xffff;
    this.length = length;
    return token;
  }

  #look(): boolean {
    if (this.#problem !== undefined) return false;
    const seen = Atomics.load(this.#halfwords, this.#used + UsedHalfword.INDEX);
    if (((seen - this.#taken) & 0xffff) > this.size - this.#free) {
      this.#problem = `says that it used ${(seen - this.#taken) & 0xffff} buffers, where it has ${this.size - this.#free}`;
      return false;
    }
    this.#seen = seen;
    return seen !== this.#taken;
  }

  #refuse(id: number, length: number, token: number): -1 {
    this.#problem =
      token < 0
        ? `gave back buffer ${id}, which it does not have`
        : `wrote ${length} bytes to a buffer of ${this.#lengths[id]}`;
    this.#seen = this.#taken;
    return -1;
  }

  arm(): void {
    const halfwords = this.#halfwords;
    if (this.#eventIndex) halfwords[this.#avail + AvailHalfword.RING + this.size] = this.#taken;
    else halfwords[this.#avail + AvailHalfword.FLAGS] = 0;
    fence();
  }

  disarm(): void {
    // With the event index: an event that the device has passed long ago, and passes again after 65,535 buffers.
    if (this.#eventIndex) this.#halfwords[this.#avail + AvailHalfword.RING + this.size] = this.#taken - 1;
    else this.#halfwords[this.#avail + AvailHalfword.FLAGS] = AVAIL_NO_INTERRUPT;
  }

  drain(give: (token: number) => void): void {
    for (const token of this.#tokens) if (token >= 0) give(token);
    this.#tokens.fill(-1);
  }
}

// The driver's side of a packed virtqueue: virtio 1.3, section 2.8. Both sides write into one ring of descriptors; two flag
// bits, compared with a wrap counter that turns at the ring's end, say whose a descriptor is.
import {
  DESCRIPTOR_BYTES,
  DescriptorFlag,
  DescriptorWord,
  EVENT_SUPPRESSION_BYTES,
  EVENT_WRAP,
  EventFlags,
  eventPassed,
} from "../../specs/virtio/rings.ts";
import { type BufferRing, fence, type RingPlace } from "./buffer-ring.ts";
import type { QueueAddresses } from "./transport.ts";

const WORDS_SHIFT = Math.log2(DESCRIPTOR_BYTES / 4);
const { ADDRESS_LOW, ADDRESS_HIGH, LENGTH, LAST } = DescriptorWord;
const WRITE = DescriptorFlag.WRITE << 16;
const AVAIL = DescriptorFlag.AVAIL << 16;
/** The sign, as words are signed here: the compiler keeps such integers without a box. */
const USED = DescriptorFlag.USED << 16;
/** The device's event suppression has a cache line of its own. */
const EVENT_STEP = 64;

/** Bytes of a ring of `size` entries. */
export function packedRingBytes(size: number): number {
  return events(size) + EVENT_STEP + EVENT_SUPPRESSION_BYTES;
}

function events(size: number): number {
  return Math.ceil((size * DESCRIPTOR_BYTES) / EVENT_STEP) * EVENT_STEP;
}

export class PackedRing implements BufferRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  length = 0;
  readonly #eventIndex: boolean;
  readonly #words: Int32Array;
  readonly #driverEvent: number;
  readonly #deviceEvent: number;
  readonly #tokens: Int32Array;
  readonly #lengths: Uint32Array;
  /** Identifiers that are free, as a stack. */
  readonly #ids: Uint16Array;
  #free: number;
  #next = 0;
  #wrap = true;
  /** Descriptors that were put since the last publication. */
  #fresh = 0;
  /** The first of them is shown last: its place, and what its last word becomes. */
  #firstAt = 0;
  #firstWord = 0;
  #taken = 0;
  #takenWrap = true;
  #problem: string | undefined;

  constructor({ size, words, iova, eventIndex }: RingPlace) {
    const at = events(size);
    this.size = size;
    this.#eventIndex = eventIndex;
    this.#words = new Int32Array(words.buffer, words.byteOffset, words.length);
    this.#driverEvent = at / 4;
    this.#deviceEvent = (at + EVENT_STEP) / 4;
    this.addresses = { descriptor: iova, driver: iova + at, device: iova + at + EVENT_STEP };
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
    if (this.#free === this.size || this.#problem !== undefined) return false;
    return this.#isUsed(Atomics.load(this.#words, (this.#taken << WORDS_SHIFT) + LAST));
  }

  /** Used: both bits are as our wrap counter. */
  #isUsed(last: number): boolean {
    return this.#takenWrap ? (last & AVAIL) !== 0 && last < 0 : (last & AVAIL) === 0 && last >= 0;
  }

  put(iova: number, length: number, deviceWrites: boolean, token: number): void {
    const id = this.#ids[--this.#free] as number;
    const words = this.#words;
    const at = this.#next << WORDS_SHIFT;
    words[at + ADDRESS_LOW] = iova;
    words[at + ADDRESS_HIGH] = iova / 2 ** 32;
    words[at + LENGTH] = length;
    const last = id | (deviceWrites ? WRITE : 0) | (this.#wrap ? AVAIL : USED);
    if (this.#fresh === 0) {
      this.#firstAt = at + LAST;
      this.#firstWord = last;
    } else words[at + LAST] = last;
    this.#fresh++;
    this.#tokens[id] = token;
    this.#lengths[id] = deviceWrites ? length : 0;
    if (++this.#next === this.size) {
      this.#next = 0;
      this.#wrap = !this.#wrap;
    }
  }

  publish(): boolean {
    const fresh = this.#fresh;
    if (fresh === 0) return false;
    this.#words[this.#firstAt] = this.#firstWord;
    this.#fresh = 0;
    fence();
    const event = Atomics.load(this.#words, this.#deviceEvent);
    const flags = (event >>> 16) & 3;
    if (flags !== EventFlags.DESCRIPTOR || !this.#eventIndex) return flags !== EventFlags.DISABLE;
    // Counted from this round's start, so that the last round's offsets are negative.
    const sameRound = ((event & EVENT_WRAP) !== 0) === this.#wrap;
    const offset = (event & (EVENT_WRAP - 1)) - (sameRound ? 0 : this.size);
    return eventPassed(offset & 0xffff, this.#next, (this.#next - fresh) & 0xffff);
  }

  take(): number {
    if (this.#free === this.size || this.#problem !== undefined) return -1;
    const at = this.#taken << WORDS_SHIFT;
    // The word that says that the others are written: first, once.
    const last = Atomics.load(this.#words, at + LAST);
    if (!this.#isUsed(last)) return -1;
    const id = last & 0xffff;
    const token = id < this.size ? (this.#tokens[id] as number) : -1;
    const limit = token < 0 ? 0 : (this.#lengths[id] as number);
    // Of a buffer that the device only reads the length says nothing; of others it counts whether WRITE is set or not, which
    // QEMU leaves out.
    const length = limit === 0 ? 0 : (this.#words[at + LENGTH] as number) >>> 0;
    if (token < 0 || length > limit) {
      this.#problem =
        token < 0
          ? `gave back buffer ${id}, which it does not have`
          : `wrote ${length} bytes to a buffer of ${this.#lengths[id]}`;
      return -1;
    }
    this.#tokens[id] = -1;
    this.#ids[this.#free++] = id;
    if (++this.#taken === this.size) {
      this.#taken = 0;
      this.#takenWrap = !this.#takenWrap;
    }
    this.length = length;
    return token;
  }

  arm(): void {
    const flags = this.#eventIndex ? EventFlags.DESCRIPTOR : EventFlags.ENABLE;
    const place = this.#taken | (this.#takenWrap ? EVENT_WRAP : 0);
    this.#words[this.#driverEvent] = place | (flags << 16);
    fence();
  }

  disarm(): void {
    this.#words[this.#driverEvent] = EventFlags.DISABLE << 16;
  }

  drain(give: (token: number) => void): void {
    for (const token of this.#tokens) if (token >= 0) give(token);
    this.#tokens.fill(-1);
  }
}

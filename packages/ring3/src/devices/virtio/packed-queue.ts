// The device's side of a packed virtqueue: virtio 1.3, section 2.8. Driver and device write into one ring of descriptors;
// two flag bits, compared with a wrap counter that turns at the ring's end, say whose a descriptor is. Hard about it: the
// first used descriptor of a batch is written last, since the driver looks at nothing behind a descriptor that is not used.
import {
  DESCRIPTOR_BYTES,
  DescriptorFlag,
  DescriptorWord,
  EVENT_SUPPRESSION_BYTES,
  EVENT_WRAP,
  EventFlags,
  eventPassed,
  RingAlignment,
} from "../../specs/virtio/rings.ts";
import { type DescriptorChain, ringViolation } from "./descriptor-chain.ts";
import { DescriptorTable } from "./descriptor-table.ts";
import { checkAlignment, type QueueSettings, RingArea } from "./ring-area.ts";
import type { QueuePosition, RingMemory, Virtqueue } from "./virtqueue.ts";

/** A packed virtqueue; `size` need not be a power of two. */
export class PackedQueue implements Virtqueue {
  readonly size: number;
  readonly #memory: RingMemory;
  readonly #settings: QueueSettings;
  readonly #indirect: DescriptorTable = new DescriptorTable();
  #ring: RingArea | undefined;
  #driverEvent: RingArea | undefined;
  #deviceEvent: RingArea | undefined;
  #nextAvailable = 0;
  #availableWrap = 1;
  #nextUsed = 0;
  #usedWrap = 1;
  /** Slots of buffers that were taken and not given back. */
  #held = 0;
  /** The batch since the last flush: its slots, and where and what its first word is that was not written yet. */
  #batchSlots = 0;
  #firstWord = 0;
  #firstValue = 0;

  /** Throws `VIRTIO_RING` where the size is out of range or an area is not aligned. */
  constructor(memory: RingMemory, settings: QueueSettings) {
    const { size } = settings;
    if (size < 1 || size > 32768) throw ringViolation(`a packed ring cannot have ${size} descriptors`);
    checkAlignment(settings, RingAlignment.PACKED);
    this.#memory = memory;
    this.#settings = settings;
    this.size = size;
  }

  get position(): QueuePosition {
    return {
      available: this.#nextAvailable | (this.#availableWrap << 15),
      used: this.#nextUsed | (this.#usedWrap << 15),
      held: this.#held,
    };
  }

  restorePosition({ available, used, held }: QueuePosition): void {
    if ((available & 0x7fff) >= this.size || (used & 0x7fff) >= this.size || held > this.size || held < 0) {
      throw ringViolation(`a saved position lies outside a ring of ${this.size}`);
    }
    this.#nextAvailable = available & 0x7fff;
    this.#availableWrap = (available >>> 15) & 1;
    this.#nextUsed = used & 0x7fff;
    this.#usedWrap = (used >>> 15) & 1;
    this.#held = held;
    this.#batchSlots = 0;
  }

  pop(chain: DescriptorChain): boolean {
    const ring = this.#ring ?? this.#attach();
    if (!this.#isAvailable(ring)) return false;
    this.#walk(ring, chain);
    this.#held += chain.span;
    this.#nextAvailable += chain.span;
    if (this.#nextAvailable >= this.size) {
      this.#nextAvailable -= this.size;
      this.#availableWrap ^= 1;
    }
    return true;
  }

  rewind({ available, held }: QueuePosition): void {
    this.#nextAvailable = available & 0x7fff;
    this.#availableWrap = (available >>> 15) & 1;
    this.#held = held;
  }

  use(head: number, span: number, written: number): void {
    const ring = this.#ring ?? this.#attach();
    const word = 4 * this.#nextUsed;
    const owner = this.#usedWrap === 1 ? DescriptorFlag.AVAIL | DescriptorFlag.USED : 0;
    const value = (head | ((owner | (written > 0 ? DescriptorFlag.WRITE : 0)) << 16)) >>> 0;
    ring.words[word + DescriptorWord.LENGTH] = written;
    if (this.#batchSlots === 0) {
      this.#firstWord = word + DescriptorWord.LAST;
      this.#firstValue = value;
      ring.publish(4 * (word + DescriptorWord.LENGTH), 4);
    } else {
      ring.words[word + DescriptorWord.LAST] = value;
      ring.publish(4 * (word + DescriptorWord.LENGTH), 8);
    }
    this.#batchSlots += span;
    this.#held -= span;
    this.#nextUsed += span;
    if (this.#nextUsed >= this.size) {
      this.#nextUsed -= this.size;
      this.#usedWrap ^= 1;
    }
  }

  flush(): boolean {
    const slots = this.#batchSlots;
    if (slots === 0) return false;
    const ring = this.#ring ?? this.#attach();
    this.#batchSlots = 0;
    // Also the barrier between the descriptor and the look at what the driver wants to be told.
    Atomics.exchange(ring.words, this.#firstWord, this.#firstValue);
    ring.publish(4 * this.#firstWord, 4);
    const area = this.#driverEvent as RingArea;
    if (area.remote) area.fetch(0, EVENT_SUPPRESSION_BYTES);
    const event = Atomics.load(area.words, 0);
    const flags = (event >>> 16) & 3;
    if (flags === EventFlags.DISABLE) return false;
    if (flags !== EventFlags.DESCRIPTOR || !this.#settings.eventIndex) return true;
    const wrap = (event & EVENT_WRAP) === 0 ? 0 : 1;
    const at = (event & 0x7fff) - (wrap === this.#usedWrap ? 0 : this.size);
    return eventPassed(at, this.#nextUsed, this.#nextUsed - slots);
  }

  rearm(): boolean {
    const ring = this.#ring ?? this.#attach();
    if (this.#settings.eventIndex) {
      const area = this.#deviceEvent as RingArea;
      const at = this.#nextAvailable | (this.#availableWrap === 1 ? EVENT_WRAP : 0);
      Atomics.exchange(area.words, 0, at | (EventFlags.DESCRIPTOR << 16));
      area.publish(0, EVENT_SUPPRESSION_BYTES);
    }
    return this.#isAvailable(ring);
  }

  unmapped(iova: number, size: number): void {
    const areas = [this.#ring, this.#driverEvent, this.#deviceEvent];
    if (areas.some((area) => area?.overlaps(iova, size))) {
      this.#ring = undefined;
      this.#driverEvent = undefined;
      this.#deviceEvent = undefined;
    }
    this.#indirect.close();
  }

  #isAvailable(ring: RingArea): boolean {
    if (ring.remote) ring.fetch(DESCRIPTOR_BYTES * this.#nextAvailable, DESCRIPTOR_BYTES);
    const last = Atomics.load(ring.words, 4 * this.#nextAvailable + DescriptorWord.LAST);
    const flags = last >>> 16;
    const available = (flags & DescriptorFlag.AVAIL) === 0 ? 0 : 1;
    const used = (flags & DescriptorFlag.USED) === 0 ? 0 : 1;
    return available === this.#availableWrap && used !== this.#availableWrap;
  }

  #walk(ring: RingArea, chain: DescriptorChain): void {
    const words = ring.words;
    const room = this.size - this.#held;
    chain.clear();
    let index = this.#nextAvailable;
    for (let slots = 1; ; slots++) {
      if (slots > room) throw ringViolation(`a chain is longer than the ${room} descriptors that can be available`);
      if (ring.remote && slots > 1) ring.fetch(DESCRIPTOR_BYTES * index, DESCRIPTOR_BYTES);
      const word = 4 * index;
      const low = words[word + DescriptorWord.ADDRESS_LOW] as number;
      const high = words[word + DescriptorWord.ADDRESS_HIGH] as number;
      const length = words[word + DescriptorWord.LENGTH] as number;
      const last = words[word + DescriptorWord.LAST] as number;
      const flags = last >>> 16;
      if ((flags & DescriptorFlag.INDIRECT) !== 0) {
        if (!this.#settings.indirect) throw ringViolation("an indirect descriptor without the feature");
        if (slots > 1 || (flags & DescriptorFlag.NEXT) !== 0) throw ringViolation("an indirect descriptor in a chain");
        this.#walkTable(low, high, length, chain);
      } else {
        chain.append(low, high, length, (flags & DescriptorFlag.WRITE) !== 0);
      }
      if ((flags & DescriptorFlag.NEXT) === 0) {
        chain.head = last & 0xffff;
        chain.span = slots;
        return;
      }
      index = index + 1 === this.size ? 0 : index + 1;
    }
  }

  /** Descriptors of a packed table follow each other; WRITE is their only flag. */
  #walkTable(low: number, high: number, length: number, chain: DescriptorChain): void {
    const table = this.#indirect;
    table.open(this.#memory, low, high, length);
    const words = table.words;
    for (let i = 0, word = table.first; i < table.count; i++, word += 4) {
      const flags = (words[word + DescriptorWord.LAST] as number) >>> 16;
      chain.append(
        words[word + DescriptorWord.ADDRESS_LOW] as number,
        words[word + DescriptorWord.ADDRESS_HIGH] as number,
        words[word + DescriptorWord.LENGTH] as number,
        (flags & DescriptorFlag.WRITE) !== 0,
      );
    }
  }

  #attach(): RingArea {
    const { descriptor, driver, device } = this.#settings;
    this.#driverEvent = new RingArea(this.#memory, driver, EVENT_SUPPRESSION_BYTES, "read");
    this.#deviceEvent = new RingArea(this.#memory, device, EVENT_SUPPRESSION_BYTES, "write");
    this.#ring = new RingArea(this.#memory, descriptor, DESCRIPTOR_BYTES * this.size, "read-write");
    return this.#ring;
  }
}

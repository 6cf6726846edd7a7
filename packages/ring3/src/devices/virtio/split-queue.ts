// The device's side of a split virtqueue: virtio 1.3, section 2.7. Hard about it: the driver writes while we read, so every
// word is read once; the used index is published with one atomic exchange, since the event index is read right after it and
// the processor would otherwise let that load pass the store.
//
//     available: |  taken, in flight  |  to take  |        used follows available, which follows the driver's index;
//            used ^          available ^     index ^       none is ever more than `size` ahead of the first
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
import { CHAIN_LIMIT, type DescriptorChain, ringViolation } from "./descriptor-chain.ts";
import { DescriptorTable } from "./descriptor-table.ts";
import { checkAlignment, type QueueSettings, RingArea } from "./ring-area.ts";
import type { QueuePosition, RingMemory, Virtqueue } from "./virtqueue.ts";

/** A split virtqueue. `size` is a power of two. */
export class SplitQueue implements Virtqueue {
  readonly size: number;
  readonly #mask: number;
  readonly #memory: RingMemory;
  readonly #settings: QueueSettings;
  readonly #indirect: DescriptorTable = new DescriptorTable();
  #descriptors: RingArea | undefined;
  #avail: RingArea | undefined;
  #used: RingArea | undefined;
  /** The driver's index when we last looked. */
  #index = 0;
  #nextAvailable = 0;
  #nextUsed = 0;
  /** What the driver has seen of `#nextUsed`. */
  #published = 0;

  /** Throws `VIRTIO_RING` where the size is no power of two or an area is not aligned. */
  constructor(memory: RingMemory, settings: QueueSettings) {
    const { size } = settings;
    if (size < 1 || size > 32768 || (size & (size - 1)) !== 0)
      throw ringViolation(`a split ring cannot have ${size} entries`);
    checkAlignment(settings, RingAlignment.SPLIT);
    this.#memory = memory;
    this.#settings = settings;
    this.size = size;
    this.#mask = size - 1;
  }

  get position(): QueuePosition {
    return {
      available: this.#nextAvailable,
      used: this.#nextUsed,
      held: (this.#nextAvailable - this.#nextUsed) & 0xffff,
    };
  }

  restorePosition({ available, used }: QueuePosition): void {
    if (((available - used) & 0xffff) > this.size) {
      throw ringViolation(`a saved position has more buffers in use than a ring of ${this.size} holds`);
    }
    this.#nextAvailable = available & 0xffff;
    this.#index = this.#nextAvailable;
    this.#nextUsed = used & 0xffff;
    this.#published = this.#nextUsed;
  }

  pop(chain: DescriptorChain): boolean {
    const avail = this.#avail ?? this.#attach();
    const position = this.#nextAvailable;
    if (position === this.#index && !this.#look(avail)) return false;
    const slot = position & this.#mask;
    if (avail.remote) avail.fetch(2 * (AvailHalfword.RING + slot), 2);
    const head = avail.halfwords[AvailHalfword.RING + slot] as number;
    if (head >= this.size) throw ringViolation(`descriptor ${head} was made available in a ring of ${this.size}`);
    this.#nextAvailable = (position + 1) & 0xffff;
    this.#walk(head, chain);
    return true;
  }

  rewind(position: QueuePosition): void {
    this.#nextAvailable = position.available;
  }

  use(head: number, _span: number, written: number): void {
    if (this.#used === undefined) this.#attach();
    const used = this.#used as RingArea;
    const word = UsedWord.RING + UsedWord.ENTRY * (this.#nextUsed & this.#mask);
    used.words[word + UsedWord.ID] = head;
    used.words[word + UsedWord.LENGTH] = written;
    used.publish(4 * word, 4 * UsedWord.ENTRY);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
  }

  flush(): boolean {
    const before = this.#published;
    const after = this.#nextUsed;
    if (before === after) return false;
    const avail = this.#avail ?? this.#attach();
    const used = this.#used as RingArea;
    // Also the barrier between the index and the look at what the driver wants to be told.
    Atomics.exchange(used.halfwords, UsedHalfword.INDEX, after);
    used.publish(2 * UsedHalfword.INDEX, 2);
    this.#published = after;
    if (this.#settings.eventIndex) {
      const event = AvailHalfword.RING + this.size;
      if (avail.remote) avail.fetch(2 * event, 2);
      return eventPassed(Atomics.load(avail.halfwords, event), after, before);
    }
    if (avail.remote) avail.fetch(2 * AvailHalfword.FLAGS, 2);
    return (Atomics.load(avail.halfwords, AvailHalfword.FLAGS) & AVAIL_NO_INTERRUPT) === 0;
  }

  rearm(): boolean {
    const avail = this.#avail ?? this.#attach();
    if (this.#settings.eventIndex) {
      const used = this.#used as RingArea;
      const event = 2 * UsedWord.RING + 2 * UsedWord.ENTRY * this.size;
      Atomics.exchange(used.halfwords, event, this.#nextAvailable);
      used.publish(2 * event, 2);
    }
    return this.#nextAvailable !== this.#index || this.#look(avail);
  }

  unmapped(iova: number, size: number): void {
    const areas = [this.#descriptors, this.#avail, this.#used];
    if (areas.some((area) => area?.overlaps(iova, size))) {
      this.#descriptors = undefined;
      this.#avail = undefined;
      this.#used = undefined;
    }
    this.#indirect.close();
  }

  /** Reads the driver's index; whether there is something to take. */
  #look(avail: RingArea): boolean {
    if (avail.remote) avail.fetch(2 * AvailHalfword.INDEX, 2);
    const index = Atomics.load(avail.halfwords, AvailHalfword.INDEX);
    const ahead = (index - this.#nextUsed) & 0xffff;
    if (ahead > this.size || ahead < ((this.#nextAvailable - this.#nextUsed) & 0xffff)) {
      throw ringViolation(
        `its index went to ${index} while buffers ${this.#nextUsed} to ${this.#nextAvailable} of a ring of ${this.size} are in use`,
      );
    }
    this.#index = index;
    return index !== this.#nextAvailable;
  }

  #walk(head: number, chain: DescriptorChain): void {
    const direct = this.#descriptors as RingArea;
    const { indirect } = this.#settings;
    chain.clear();
    chain.head = head;
    let words = direct.words;
    let first = 0;
    let count = this.size;
    let limit = this.size;
    let inTable = false;
    let index = head;
    for (let steps = 1; ; steps++) {
      if (steps > limit) throw ringViolation(`the chain of descriptor ${head} is longer than ${limit}: it loops`);
      if (!inTable && direct.remote) direct.fetch(DESCRIPTOR_BYTES * index, DESCRIPTOR_BYTES);
      const word = first + 4 * index;
      const low = words[word + DescriptorWord.ADDRESS_LOW] as number;
      const high = words[word + DescriptorWord.ADDRESS_HIGH] as number;
      const length = words[word + DescriptorWord.LENGTH] as number;
      const last = words[word + DescriptorWord.LAST] as number;
      if ((last & DescriptorFlag.INDIRECT) !== 0) {
        if (!indirect) throw ringViolation("an indirect descriptor without the feature");
        if (inTable) throw ringViolation("an indirect table inside an indirect table");
        if ((last & DescriptorFlag.NEXT) !== 0) throw ringViolation("an indirect descriptor that has a next one");
        this.#indirect.open(this.#memory, low, high, length);
        words = this.#indirect.words;
        first = this.#indirect.first;
        count = this.#indirect.count;
        limit = Math.min(steps + count, CHAIN_LIMIT + this.size);
        inTable = true;
        index = 0;
        continue;
      }
      chain.append(low, high, length, (last & DescriptorFlag.WRITE) !== 0);
      if ((last & DescriptorFlag.NEXT) === 0) return;
      index = last >>> 16;
      if (index >= count) throw ringViolation(`descriptor ${index} follows in a table of ${count}`);
    }
  }

  #attach(): RingArea {
    const { descriptor, driver, device } = this.#settings;
    this.#descriptors = new RingArea(this.#memory, descriptor, DESCRIPTOR_BYTES * this.size, "read");
    // The event index is the last halfword, there only where it was negotiated.
    const event = this.#settings.eventIndex ? 0 : 2;
    this.#used = new RingArea(this.#memory, device, usedBytes(this.size) - event, "write");
    this.#avail = new RingArea(this.#memory, driver, availBytes(this.size) - event, "read");
    return this.#avail;
  }
}

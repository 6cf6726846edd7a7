// The driver's side of both kinds of virtqueue, for tests: as plain as can be, with the numbers of virtio 1.3, sections 2.7
// and 2.8, written out once more, so that a wrong constant of `specs/` does not cancel out.
import { GuestMemory, type MapBacking } from "../../virtual/guest-memory.ts";

/** A run of guest memory. */
export interface Segment {
  readonly iova: number;
  readonly size: number;
}

export interface FakeGuestOptions {
  readonly base?: number;
  readonly size?: number;
  /** The device reaches the memory by messages only. */
  readonly remote?: boolean;
  readonly memory?: GuestMemory;
}

/** Guest memory of `size` bytes at IOVA `base`, handed out from its start on. */
export class FakeGuest {
  readonly memory: GuestMemory;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly base: number;
  /** Called before each message of the device for memory, as something else that is served meanwhile. */
  meanwhile: (() => void) | undefined;
  #next = 0;

  constructor(options: FakeGuestOptions = {}) {
    const { base = 0x10000, size = 1 << 20, remote = false, memory = new GuestMemory() } = options;
    this.base = base;
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
    this.memory = memory;
    if (options.memory === undefined) this.memory.busMaster = true;
    this.memory.map(base, size, "read-write", remote ? this.#messages() : { bytes: this.bytes });
  }

  #messages(): MapBacking {
    return {
      transfer: {
        read: (offset, target) => {
          this.meanwhile?.();
          target.set(this.bytes.subarray(offset, offset + target.length));
        },
        write: (offset, source) => {
          this.meanwhile?.();
          this.bytes.set(source, offset);
        },
      },
    };
  }

  allocate(size: number, alignment = 16): number {
    this.#next = Math.ceil(this.#next / alignment) * alignment;
    const iova = this.base + this.#next;
    this.#next += size;
    if (this.#next > this.bytes.length) throw new Error("the fake guest is out of memory");
    return iova;
  }

  /** Frees everything from `mark` on. */
  get mark(): number {
    return this.#next;
  }
  release(mark: number): void {
    this.#next = mark;
  }

  segment(size: number, alignment = 1): Segment {
    return { iova: this.allocate(size, alignment), size };
  }

  put(content: Uint8Array): Segment {
    const segment = this.segment(content.length);
    this.at(segment).set(content);
    return segment;
  }

  at({ iova, size }: Segment): Uint8Array {
    return this.bytes.subarray(iova - this.base, iova - this.base + size);
  }

  offset(iova: number): number {
    return iova - this.base;
  }
}

export interface FakeRingOptions {
  readonly eventIndex?: boolean;
}

/** What a driver gets back. */
export interface FakeUsed {
  readonly id: number;
  readonly length: number;
}

/** The driver's side of a ring. */
export interface FakeRing {
  readonly size: number;
  readonly areas: { readonly descriptor: number; readonly driver: number; readonly device: number };
  /** Puts a buffer into the ring, and makes it available; its id, or `undefined` where the ring is full. */
  add(readable: readonly Segment[], writable: readonly Segment[], indirect?: boolean): number | undefined;
  /** Whether the device wants to be notified of what was added since the last call. */
  wantsNotification(): boolean;
  /** The next used buffer. */
  take(): FakeUsed | undefined;
  /** Asks for an interrupt for the next used buffer. */
  armInterrupt(): void;
  /** Asks for none. */
  disarmInterrupt(): void;
}

/** Section 2.7. */
export class FakeSplitRing implements FakeRing {
  readonly size: number;
  readonly areas: { readonly descriptor: number; readonly driver: number; readonly device: number };
  readonly guest: FakeGuest;
  readonly #eventIndex: boolean;
  readonly #free: number[];
  readonly #chains = new Map<number, readonly number[]>();
  #added = 0;
  #notified = 0;
  #taken = 0;

  constructor(guest: FakeGuest, size: number, { eventIndex = false }: FakeRingOptions = {}) {
    this.guest = guest;
    this.size = size;
    this.#eventIndex = eventIndex;
    this.areas = {
      descriptor: guest.allocate(16 * size, 16),
      driver: guest.allocate(6 + 2 * size, 2),
      device: guest.allocate(6 + 8 * size, 4),
    };
    this.#free = Array.from({ length: size }, (_, i) => size - 1 - i);
  }

  writeDescriptor(iova: number, address: number, length: number, flags: number, next: number): void {
    const at = this.guest.offset(iova);
    this.guest.view.setBigUint64(at, BigInt(address), true);
    this.guest.view.setUint32(at + 8, length, true);
    this.guest.view.setUint16(at + 12, flags, true);
    this.guest.view.setUint16(at + 14, next, true);
  }

  add(readable: readonly Segment[], writable: readonly Segment[], indirect = false): number | undefined {
    const list = [
      ...readable.map((segment) => ({ ...segment, flags: 0 })),
      ...writable.map((segment) => ({ ...segment, flags: 2 })),
    ];
    const needed = indirect ? 1 : list.length;
    if (this.#free.length < needed) return undefined;
    const slots = Array.from({ length: needed }, () => this.#free.pop() as number);
    const table = indirect ? this.guest.allocate(16 * list.length, 16) : this.areas.descriptor;
    for (const [i, { iova, size, flags }] of list.entries()) {
      const next = indirect ? i + 1 : (slots[i + 1] ?? 0);
      const more = i + 1 < list.length;
      const at = indirect ? i : (slots[i] as number);
      this.writeDescriptor(table + 16 * at, iova, size, flags | (more ? 1 : 0), more ? next : 0);
    }
    const head = slots[0] as number;
    if (indirect) this.writeDescriptor(this.areas.descriptor + 16 * head, table, 16 * list.length, 4, 0);
    this.#chains.set(head, slots);
    this.publish(head);
    return head;
  }

  /** Puts any number into the available ring. */
  publish(head: number): void {
    const at = this.guest.offset(this.areas.driver);
    this.guest.view.setUint16(at + 4 + 2 * (this.#added % this.size), head, true);
    this.#added = (this.#added + 1) & 0xffff;
    this.guest.view.setUint16(at + 2, this.#added, true);
  }

  wantsNotification(): boolean {
    const at = this.guest.offset(this.areas.device);
    const before = this.#notified;
    this.#notified = this.#added;
    if (!this.#eventIndex) return (this.guest.view.getUint16(at, true) & 1) === 0;
    const event = this.guest.view.getUint16(at + 4 + 8 * this.size, true);
    return ((this.#added - event - 1) & 0xffff) < ((this.#added - before) & 0xffff);
  }

  take(): FakeUsed | undefined {
    const at = this.guest.offset(this.areas.device);
    if (this.guest.view.getUint16(at + 2, true) === this.#taken) return undefined;
    const entry = at + 4 + 8 * (this.#taken % this.size);
    const id = this.guest.view.getUint32(entry, true);
    this.#taken = (this.#taken + 1) & 0xffff;
    for (const slot of this.#chains.get(id) ?? []) this.#free.push(slot);
    this.#chains.delete(id);
    return { id, length: this.guest.view.getUint32(entry + 4, true) };
  }

  armInterrupt(): void {
    const at = this.guest.offset(this.areas.driver);
    if (this.#eventIndex) this.guest.view.setUint16(at + 4 + 2 * this.size, this.#taken, true);
    else this.guest.view.setUint16(at, 0, true);
  }

  disarmInterrupt(): void {
    const at = this.guest.offset(this.areas.driver);
    if (this.#eventIndex) this.guest.view.setUint16(at + 4 + 2 * this.size, (this.#taken - 1) & 0xffff, true);
    else this.guest.view.setUint16(at, 1, true);
  }
}

/** Section 2.8. */
export class FakePackedRing implements FakeRing {
  readonly size: number;
  readonly areas: { readonly descriptor: number; readonly driver: number; readonly device: number };
  readonly guest: FakeGuest;
  readonly #eventIndex: boolean;
  readonly #spans = new Map<number, number>();
  readonly #ids: number[];
  #next = 0;
  #wrap = 1;
  #free: number;
  #added = 0;
  #taken = 0;
  #takenWrap = 1;

  constructor(guest: FakeGuest, size: number, { eventIndex = false }: FakeRingOptions = {}) {
    this.guest = guest;
    this.size = size;
    this.#eventIndex = eventIndex;
    this.#free = size;
    this.areas = {
      descriptor: guest.allocate(16 * size, 16),
      driver: guest.allocate(4, 4),
      device: guest.allocate(4, 4),
    };
    this.#ids = Array.from({ length: size }, (_, i) => i);
  }

  writeDescriptor(iova: number, address: number, length: number, id: number, flags: number): void {
    const at = this.guest.offset(iova);
    this.guest.view.setBigUint64(at, BigInt(address), true);
    this.guest.view.setUint32(at + 8, length, true);
    this.guest.view.setUint16(at + 12, id, true);
    this.guest.view.setUint16(at + 14, flags, true);
  }

  add(readable: readonly Segment[], writable: readonly Segment[], indirect = false): number | undefined {
    const list = [
      ...readable.map((segment) => ({ ...segment, flags: 0 })),
      ...writable.map((segment) => ({ ...segment, flags: 2 })),
    ];
    const needed = indirect ? 1 : list.length;
    if (this.#free < needed) return undefined;
    const id = this.#ids.shift() as number;
    let slots = list;
    if (indirect) {
      const table = this.guest.allocate(16 * list.length, 16);
      for (const [i, { iova, size, flags }] of list.entries())
        this.writeDescriptor(table + 16 * i, iova, size, 0, flags);
      slots = [{ iova: table, size: 16 * list.length, flags: 4 }];
    }
    const first = this.areas.descriptor + 16 * this.#next;
    let firstFlags = 0;
    for (const [i, { iova, size, flags }] of slots.entries()) {
      const owner = this.#wrap === 1 ? 0x80 : 0x8000;
      const all = flags | owner | (i + 1 < slots.length ? 1 : 0);
      if (i === 0) firstFlags = all;
      // The first descriptor becomes available last; until then its flags say that it is not.
      const shown = i === 0 ? all ^ 0x8080 : all;
      this.writeDescriptor(this.areas.descriptor + 16 * this.#next, iova, size, id, shown);
      this.#next++;
      if (this.#next === this.size) {
        this.#next = 0;
        this.#wrap ^= 1;
      }
    }
    this.guest.view.setUint16(this.guest.offset(first) + 14, firstFlags, true);
    this.#free -= needed;
    this.#added += needed;
    this.#spans.set(id, needed);
    return id;
  }

  wantsNotification(): boolean {
    const at = this.guest.offset(this.areas.device);
    const added = this.#added;
    this.#added = 0;
    const flags = this.guest.view.getUint16(at + 2, true);
    if (flags === 1) return false;
    if (flags !== 2) return true;
    const event = this.guest.view.getUint16(at, true);
    const position = (event & 0x7fff) - (event >>> 15 === this.#wrap ? 0 : this.size);
    return ((this.#next - position - 1) & 0xffff) < (added & 0xffff);
  }

  take(): FakeUsed | undefined {
    const at = this.guest.offset(this.areas.descriptor) + 16 * this.#taken;
    const flags = this.guest.view.getUint16(at + 14, true);
    const available = (flags & 0x80) === 0 ? 0 : 1;
    const used = (flags & 0x8000) === 0 ? 0 : 1;
    if (used !== this.#takenWrap || available !== used) return undefined;
    const id = this.guest.view.getUint16(at + 12, true);
    const span = this.#spans.get(id);
    if (span === undefined) throw new Error(`the device used buffer ${id}, which is not in the ring`);
    this.#spans.delete(id);
    this.#ids.push(id);
    this.#free += span;
    this.#taken += span;
    if (this.#taken >= this.size) {
      this.#taken -= this.size;
      this.#takenWrap ^= 1;
    }
    return { id, length: (flags & 2) === 0 ? 0 : this.guest.view.getUint32(at + 8, true) };
  }

  armInterrupt(): void {
    const at = this.guest.offset(this.areas.driver);
    this.guest.view.setUint16(at, this.#taken | (this.#takenWrap << 15), true);
    this.guest.view.setUint16(at + 2, this.#eventIndex ? 2 : 0, true);
  }

  disarmInterrupt(): void {
    this.guest.view.setUint16(this.guest.offset(this.areas.driver) + 2, 1, true);
  }
}

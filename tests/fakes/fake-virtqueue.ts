// A device's side of a virtqueue, in the test's hands: the numbers of virtio 1.3 sections 2.7 and 2.8 written out once more. It sees
// what was made available, gives it back in any order, and asks to be notified; to lie, a test writes to its memory.
import { type BufferRing, ringProblem } from "../../packages/ring3/src/drivers/virtio/buffer-ring.ts";
import { PackedRing, packedAddresses, packedRingBytes } from "../../packages/ring3/src/drivers/virtio/packed-ring.ts";
import { type RingKind, type RingPlace, ringStateBytes } from "../../packages/ring3/src/drivers/virtio/queue-place.ts";
import { SplitRing, splitAddresses, splitRingBytes } from "../../packages/ring3/src/drivers/virtio/split-ring.ts";
import type { QueueAddresses } from "../../packages/ring3/src/drivers/virtio/transport.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";

export interface AvailableBuffer {
  readonly id: number;
  readonly iova: number;
  readonly length: number;
  readonly write: boolean;
}

/** Memory of a ring, and its device. */
export class FakeVirtqueue implements Disposable {
  readonly place: RingPlace;
  readonly size: number;
  /** What the device reaches. */
  readonly view: DataView;
  readonly addresses: QueueAddresses;
  readonly #arena: Arena;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #release: (() => void)[] = [];
  /** The next to see and to use: indices of a split ring; places and wrap counters of a packed one. */
  #seen = 0;
  #seenWrap = true;
  #used = 0;
  #usedWrap = true;

  constructor(arena: Arena, kind: RingKind, size: number, iova = 0x1_2345_0000) {
    const bytes = Math.ceil((kind === "split" ? splitRingBytes(size) : packedRingBytes(size)) / 64) * 64;
    const memory = arena.reserve(bytes, 64);
    const state = arena.reserve(ringStateBytes(size), 64);
    this.#arena = arena;
    this.size = size;
    this.place = { kind, size, memory: memory.offset, iova, state: state.offset };
    this.addresses = (kind === "split" ? splitAddresses : packedAddresses)(size, iova);
    this.#bytes = memory.bytes;
    this.#words = arena.words(state.offset, ringStateBytes(size) / 4);
    this.view = new DataView(memory.bytes.buffer, memory.offset, bytes);
    this.#release.push(
      () => memory[Symbol.dispose](),
      () => state[Symbol.dispose](),
    );
  }

  /** The driver's side, in TypeScript. */
  ring(): BufferRing {
    const { place } = this;
    return place.kind === "split" ? new SplitRing(this.#arena, place) : new PackedRing(this.#arena, place);
  }

  get problem(): string | undefined {
    return ringProblem(this.#arena, this.place);
  }

  /** Everything that the two sides keep, to be compared. */
  snapshot(): number[] {
    return [...this.#bytes, ...this.#words];
  }

  /** Where an address of the device's lies in {@link view}. */
  at(iova: number): number {
    return iova - this.place.iova;
  }

  /** The device was reset, and the driver starts anew. */
  reset(): void {
    this.#bytes.fill(0);
    [this.#seen, this.#used] = [0, 0];
    [this.#seenWrap, this.#usedWrap] = [true, true];
  }

  /** Buffers that were made available, in order, that this device has not seen before. */
  see(): AvailableBuffer[] {
    const found: AvailableBuffer[] = [];
    const { view } = this;
    const descriptor = this.at(this.addresses.descriptor);
    const driver = this.at(this.addresses.driver);
    for (;;) {
      if (this.place.kind === "split") {
        if (this.#seen === view.getUint16(driver + 2, true)) return found;
        const id = view.getUint16(driver + 4 + 2 * (this.#seen % this.size), true);
        found.push(this.#buffer(descriptor + 16 * id, id, view.getUint16(descriptor + 16 * id + 12, true)));
        this.#seen = (this.#seen + 1) & 0xffff;
        continue;
      }
      const at = descriptor + 16 * this.#seen;
      const flags = view.getUint16(at + 14, true);
      if (((flags & 0x80) !== 0) !== this.#seenWrap || ((flags & 0x8000) !== 0) === this.#seenWrap) return found;
      found.push(this.#buffer(at, view.getUint16(at + 12, true), flags));
      if (++this.#seen === this.size) [this.#seen, this.#seenWrap] = [0, !this.#seenWrap];
    }
  }

  #buffer(at: number, id: number, flags: number): AvailableBuffer {
    const { view } = this;
    return {
      id,
      iova: Number(view.getBigUint64(at, true)),
      length: view.getUint32(at + 8, true),
      write: (flags & 2) !== 0,
    };
  }

  /** Gives a buffer back, or any other number. */
  use(id: number, length: number): void {
    const { view } = this;
    if (this.place.kind === "split") {
      const device = this.at(this.addresses.device);
      view.setUint32(device + 4 + 8 * (this.#used % this.size), id, true);
      view.setUint32(device + 8 + 8 * (this.#used % this.size), length, true);
      this.#used = (this.#used + 1) & 0xffff;
      view.setUint16(device + 2, this.#used, true);
      return;
    }
    const at = this.at(this.addresses.descriptor) + 16 * this.#used;
    view.setUint32(at + 8, length, true);
    view.setUint16(at + 12, id, true);
    view.setUint16(at + 14, this.#usedWrap ? 0x8080 : 0, true);
    if (++this.#used === this.size) [this.#used, this.#usedWrap] = [0, !this.#usedWrap];
  }

  /** Asks to be notified of the next buffer, with the event index. */
  wantNext(): void {
    const { view } = this;
    const device = this.at(this.addresses.device);
    if (this.place.kind === "split") {
      view.setUint16(device + 4 + 8 * this.size, this.#seen, true);
      return;
    }
    view.setUint16(device, this.#seen | (this.#seenWrap ? 0x8000 : 0), true);
    view.setUint16(device + 2, 2, true);
  }

  /** Asks for no notifications, without the event index. */
  wantNothing(): void {
    const device = this.at(this.addresses.device);
    this.view.setUint16(this.place.kind === "split" ? device : device + 2, 1, true);
  }

  [Symbol.dispose](): void {
    for (const release of this.#release) release();
  }
}

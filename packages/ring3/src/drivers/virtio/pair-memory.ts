// The memory of a pair of virtqueues: rings that the device reaches, which are the device's from its start on, whether anybody
// uses them or not; and what a pair in use has besides, which only the driver sees.
import { Ring3Error } from "../../binary/error.ts";
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import type { PacketPool } from "../net/packet-pool.ts";
import { QUEUE_WORDS } from "../net/queue-state.ts";
import type { WorkerQueueMemory } from "../net/worker-queue.ts";
import { packedAddresses, packedRingBytes } from "./packed-ring.ts";
import {
  NET_HEADER_BYTES,
  pairStateBytes,
  type RingKind,
  type RingPlace,
  ringStateBytes,
  type VirtioQueuePlace,
} from "./queue-place.ts";
import { splitAddresses, splitRingBytes } from "./split-ring.ts";
import type { QueueAddresses } from "./transport.ts";

const PAGE = 4096;

/** What all rings of a device are. */
export interface RingShape {
  readonly kind: RingKind;
  readonly size: number;
}

/** The two rings of a pair in one run of DMA memory. */
export class PairRings implements Disposable {
  /** Where a device that has the rings wants its notifications. */
  notifyOffsets: readonly [receive: number, transmit: number] = [0, 0];
  readonly #buffer: DmaBuffer;
  readonly #shape: RingShape;
  readonly #step: number;

  constructor(fn: PciFunction, shape: RingShape) {
    const { kind, size } = shape;
    this.#shape = shape;
    this.#step = Math.ceil((kind === "packed" ? packedRingBytes(size) : splitRingBytes(size)) / PAGE) * PAGE;
    this.#buffer = fn.dma.allocate(2 * this.#step);
  }

  /** Empties both rings, for a device that does not have them. */
  clear(): void {
    this.#buffer.bytes.fill(0);
  }

  get addresses(): readonly [receive: QueueAddresses, transmit: QueueAddresses] {
    const { kind, size } = this.#shape;
    const { iova } = this.#buffer;
    const addresses = kind === "packed" ? packedAddresses : splitAddresses;
    return [addresses(size, iova), addresses(size, iova + this.#step)];
  }

  /** The rings with their words at `state`, an arena offset. */
  places(state: number): { readonly receive: RingPlace; readonly transmit: RingPlace } {
    const { kind, size } = this.#shape;
    const { arenaOffset, iova } = this.#buffer;
    const at = (step: number, words: number): RingPlace => ({
      kind,
      size,
      memory: arenaOffset + step,
      iova: iova + step,
      state: words,
    });
    return { receive: at(0, state), transmit: at(this.#step, state + ringStateBytes(size)) };
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

/** A pair that a queue uses. */
export interface PairMemory extends WorkerQueueMemory {
  readonly place: VirtioQueuePlace;
  readonly rings: PairRings;
}

/**
 * Gives a pair with `rings`, which are its own from now on, a pool. Throws `NET_INVALID` where the pool has no room for headers or
 * lies elsewhere, `ARENA_FULL`, and what DMA throws.
 */
export function allocatePair(
  fn: PciFunction,
  index: number,
  shape: RingShape,
  rings: PairRings,
  pool: PacketPool,
): PairMemory {
  const { arena } = fn.dma;
  using reached = new DisposableStack();
  reached.use(rings);
  if (pool.arena !== arena) {
    throw new Ring3Error("NET_INVALID", "the packet pool lies in another arena: make it with the function's dma.arena");
  }
  if (pool.headroom < NET_HEADER_BYTES) {
    throw new Ring3Error(
      "NET_INVALID",
      `virtio puts ${NET_HEADER_BYTES} bytes before each frame, and the pool has a headroom of ${pool.headroom}`,
    );
  }
  using owned = new DisposableStack();
  const mapping = reached.use(pool.map(fn.dma));
  const state = owned.use(arena.reserve(pairStateBytes(shape.size), 64));
  const place = {
    index,
    ...rings.places(state.offset + 4 * QUEUE_WORDS),
    state: state.offset,
    pool: pool.handle(),
    poolIova: mapping.iova,
  };
  const device = owned.use(reached.move());
  const kept = owned.move();
  return { place, rings, unmap: () => device.dispose(), [Symbol.dispose]: () => kept.dispose() };
}

// The memory of one queue: descriptors that the device reaches, and state that only the driver does.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import type { PacketPool } from "../net/packet-pool.ts";
import type { Chip, RingAddresses } from "./chip.ts";
import { descriptorBytes, privateBytes, type QueuePlace } from "./queue-place.ts";

/** An Ethernet header with a VLAN tag. */
const HEADER_BYTES = 18;

export interface QueueMemory extends Disposable {
  readonly place: QueuePlace;
  readonly addresses: RingAddresses;
  /** Takes everything away from the device; what the driver sees stays until disposal. */
  unmap(): void;
}

/** Allocates it. Throws `NET_INVALID` where the pool is too small or lies elsewhere, `ARENA_FULL`, and what DMA throws. */
export function allocateQueue(
  fn: PciFunction,
  chip: Chip,
  pool: PacketPool,
  { index, entries }: { readonly index: number; readonly entries: number },
): QueueMemory {
  const { arena } = fn.dma;
  if (pool.arena !== arena) {
    throw new Ring3Error("NET_INVALID", "the packet pool lies in another arena: make it with the function's dma.arena");
  }
  using owned = new DisposableStack();
  const state = owned.use(arena.reserve(privateBytes(entries), 64));
  const reached = owned.use(new DisposableStack());
  const mapping = reached.use(pool.map(fn.dma));
  const descriptors = reached.use(fn.dma.allocate(descriptorBytes(entries)));
  const tails = chip.tails(index);
  const frameBytes = chip.maxMtu(pool.room) + HEADER_BYTES;
  const place: QueuePlace = {
    index,
    format: chip.format,
    entries,
    receive: descriptors.arenaOffset,
    transmit: descriptors.arenaOffset + descriptorBytes(entries) / 2,
    state: state.offset,
    pool: pool.handle(),
    poolIova: mapping.iova,
    // What a buffer takes; the device keeps to the MTU.
    receiveBytes: Math.min(pool.room, frameBytes),
    frameBytes: Math.min(pool.bufferBytes, frameBytes),
    receiveTail: tails.receive,
    transmitTail: tails.transmit,
  };
  const addresses = {
    index,
    entries,
    receiveIova: descriptors.iova,
    transmitIova: descriptors.iova + descriptorBytes(entries) / 2,
  };
  const kept = owned.move();
  return { place, addresses, unmap: () => reached.dispose(), [Symbol.dispose]: () => kept[Symbol.dispose]() };
}

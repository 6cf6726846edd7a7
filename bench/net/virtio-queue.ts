// A pair of virtqueues over the memory of a device process.
import { QUEUE_WORDS } from "../../packages/ring3/src/drivers/net/queue-state.ts";
import { VirtioNetQueue } from "../../packages/ring3/src/drivers/virtio/net-queue.ts";
import {
  PairFeature,
  PairWord,
  pairStateBytes,
  type RingKind,
  type RingPlace,
  ringStateBytes,
} from "../../packages/ring3/src/drivers/virtio/queue-place.ts";
import type { DeviceWindow } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { type BenchPool, type BenchQueue, overPool } from "./contender.ts";
import {
  BUFFER_BYTES,
  BUFFERS,
  ENTRIES,
  HEADROOM,
  MAXIMUM_FRAME,
  NOTIFY_OFFSET,
  POOL_OFFSET,
  RECEIVE_OFFSET,
  TRANSMIT_OFFSET,
} from "./virtio-layout.ts";

const POOL: BenchPool = { offset: POOL_OFFSET, buffers: BUFFERS, bufferBytes: BUFFER_BYTES, headroom: HEADROOM };

/** A pair as a driver makes it. Throws `BenchmarkUnavailable` where loops cannot be emitted. */
export function virtioBenchQueue(arena: Arena, window: DeviceWindow, kind: RingKind, emit: boolean): BenchQueue {
  return overPool(arena, window, POOL, emit, (pool) => {
    const state = arena.reserve(pairStateBytes(ENTRIES), 4096);
    const rings = state.offset + 4 * QUEUE_WORDS;
    const ring = (at: number, words: number): RingPlace => {
      return { kind, size: ENTRIES, memory: window.arenaOffset + at, iova: at, state: words };
    };
    const place = {
      index: 0,
      receive: ring(RECEIVE_OFFSET, rings),
      transmit: ring(TRANSMIT_OFFSET, rings + ringStateBytes(ENTRIES)),
      state: state.offset,
      pool: pool.handle(),
      poolIova: POOL_OFFSET,
    };
    const words = arena.words(state.offset, QUEUE_WORDS);
    const start = (): void => {
      words[PairWord.FEATURES] = PairFeature.MERGEABLE | PairFeature.CHECKSUM;
      words[PairWord.FRAME_BYTES] = MAXIMUM_FRAME;
      words[PairWord.RX_NOTIFY_AT] = NOTIFY_OFFSET;
      words[PairWord.TX_NOTIFY_AT] = NOTIFY_OFFSET;
    };
    const ended = (): Error => new Error("the queue has ended");
    return { queue: new VirtioNetQueue(pool, place, window, { emit, ended }), state: state.bytes, start };
  });
}

// Virtqueues in shared memory, for the cost of a packet in the driver alone.
import { QUEUE_WORDS } from "../../packages/ring3/src/drivers/net/queue-state.ts";
import { VirtioNetQueue } from "../../packages/ring3/src/drivers/virtio/net-queue.ts";
import {
  PairFeature,
  PairWord,
  pairStateBytes,
  type RingKind,
  ringStateBytes,
} from "../../packages/ring3/src/drivers/virtio/queue-place.ts";
import type { CostLayout } from "./driver-cost.ts";
import {
  ASKED_OFFSET,
  BUFFER_BYTES,
  BUFFERS,
  DONE_OFFSET,
  ENTRIES,
  HEADROOM,
  MAXIMUM_FRAME,
  NOTIFY_OFFSET,
  POOL_OFFSET,
  RECEIVE_OFFSET,
  SHARED_SIZE,
  STOP_OFFSET,
  TRANSMIT_OFFSET,
} from "./virtio-layout.ts";

export function virtioLayout(kind: RingKind): CostLayout {
  return {
    label: `the driver alone, ${kind} rings, `,
    device: "virtio-device",
    driver: "virtio-driver",
    programArguments: [kind],
    sharedBytes: SHARED_SIZE,
    poolOffset: POOL_OFFSET,
    buffers: BUFFERS,
    bufferBytes: BUFFER_BYTES,
    headroom: HEADROOM,
    askedOffset: ASKED_OFFSET,
    doneOffset: DONE_OFFSET,
    stopOffset: STOP_OFFSET,
    packetsPerTurn: ENTRIES,
    queue: (arena, window, pool, emit) => {
      const state = arena.reserve(pairStateBytes(ENTRIES), 4096);
      const rings = state.offset + 4 * QUEUE_WORDS;
      const ring = (
        at: number,
        words: number,
      ): { kind: RingKind; size: number; memory: number; iova: number; state: number } => ({
        kind,
        size: ENTRIES,
        memory: window.arenaOffset + at,
        iova: at,
        state: words,
      });
      const place = {
        index: 0,
        receive: ring(RECEIVE_OFFSET, rings),
        transmit: ring(TRANSMIT_OFFSET, rings + ringStateBytes(ENTRIES)),
        state: state.offset,
        pool: pool.handle(),
        poolIova: POOL_OFFSET,
      };
      const ended = (): Error => new Error("the queue has ended");
      const words = arena.words(state.offset, QUEUE_WORDS);
      const start = (): void => {
        words[PairWord.FEATURES] = PairFeature.MERGEABLE | PairFeature.CHECKSUM;
        words[PairWord.FRAME_BYTES] = MAXIMUM_FRAME;
        words[PairWord.RX_NOTIFY_AT] = NOTIFY_OFFSET;
        words[PairWord.TX_NOTIFY_AT] = NOTIFY_OFFSET;
      };
      return { queue: new VirtioNetQueue(pool, place, window, { emit, ended }), state: state.bytes, start };
    },
  };
}

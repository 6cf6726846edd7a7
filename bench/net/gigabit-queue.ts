// A gigabit queue over the memory of a device process.
import { GigabitQueue } from "../../packages/ring3/src/drivers/gigabit/queue.ts";
import { privateBytes, type QueuePlace } from "../../packages/ring3/src/drivers/gigabit/queue-place.ts";
import type { DeviceWindow } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { type BenchPool, type BenchQueue, overPool } from "./contender.ts";
import {
  BUFFER_BYTES,
  BUFFERS,
  ENTRIES,
  HEADROOM,
  POOL_OFFSET,
  RECEIVE_OFFSET,
  RECEIVE_TAIL,
  REGISTERS_OFFSET,
  TRANSMIT_OFFSET,
  TRANSMIT_TAIL,
} from "./layout.ts";

const POOL: BenchPool = { offset: POOL_OFFSET, buffers: BUFFERS, bufferBytes: BUFFER_BYTES, headroom: HEADROOM };

/** A queue as a driver makes it. Throws `BenchmarkUnavailable` where loops cannot be emitted. */
export function gigabitBenchQueue(arena: Arena, window: DeviceWindow, emit: boolean): BenchQueue {
  return overPool(arena, window, POOL, emit, (pool) => {
    const state = arena.reserve(privateBytes(ENTRIES), 4096);
    const base = window.arenaOffset;
    const place: QueuePlace = {
      index: 0,
      format: "igb",
      entries: ENTRIES,
      receive: base + RECEIVE_OFFSET,
      transmit: base + TRANSMIT_OFFSET,
      state: state.offset,
      pool: pool.handle(),
      poolIova: POOL_OFFSET,
      receiveBytes: BUFFER_BYTES - HEADROOM,
      frameBytes: 1518,
      receiveTail: REGISTERS_OFFSET + RECEIVE_TAIL,
      transmitTail: REGISTERS_OFFSET + TRANSMIT_TAIL,
    };
    const ended = (): Error => new Error("the queue has ended");
    return { queue: new GigabitQueue(pool, place, window, { emit, ended }), state: state.bytes };
  });
}

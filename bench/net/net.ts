// The cost of a packet on a gigabit queue in shared memory, with a device process in C on the other side.
import { GigabitQueue } from "../../packages/ring3/src/drivers/gigabit/queue.ts";
import { privateBytes, type QueuePlace } from "../../packages/ring3/src/drivers/gigabit/queue-place.ts";
import type { BenchmarkContext, BenchmarkResult } from "../benchmark.ts";
import { type CostLayout, measureCost, peerCompiler } from "./driver-cost.ts";
import {
  ASKED_OFFSET,
  BUFFER_BYTES,
  BUFFERS,
  DONE_OFFSET,
  ENTRIES,
  HEADROOM,
  POOL_OFFSET,
  RECEIVE_OFFSET,
  RECEIVE_TAIL,
  REGISTERS_OFFSET,
  SHARED_SIZE,
  STOP_OFFSET,
  TRANSMIT_OFFSET,
  TRANSMIT_TAIL,
} from "./layout.ts";

export const name = "net";
export const title = "packets received, touched and sent, against the same loops in C -O2 with a C device process";

const LAYOUT: CostLayout = {
  label: "",
  device: "device",
  driver: "driver",
  programArguments: [],
  sharedBytes: SHARED_SIZE,
  poolOffset: POOL_OFFSET,
  buffers: BUFFERS,
  bufferBytes: BUFFER_BYTES,
  headroom: HEADROOM,
  askedOffset: ASKED_OFFSET,
  doneOffset: DONE_OFFSET,
  stopOffset: STOP_OFFSET,
  packetsPerTurn: ENTRIES - 1,
  queue: (arena, window, pool, emit) => {
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
  },
};

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const sections = await measureCost(LAYOUT, context, () => context.begin());
  return {
    sections,
    machine: { compiler: peerCompiler() },
    notes: [
      "The device has a core of its own; it writes a word of each frame, and descriptors whole, and works between the turns " +
        "that are timed: the lines come from the other core, but the driver never waits, and every burst is full.",
    ],
  };
}

// The cost of a packet on a gigabit queue in shared memory, with a device process in C on the other side.
import type { BenchmarkContext, BenchmarkResult } from "../benchmark.ts";
import { type CostPlan, measureCost } from "./driver-cost.ts";
import { gigabitBenchQueue } from "./gigabit-queue.ts";
import { ASKED_OFFSET, DONE_OFFSET, ENTRIES, POOL_OFFSET, SHARED_SIZE, STOP_OFFSET } from "./layout.ts";

export const name = "net";
export const title = "packets received, touched and sent, against the same loops in C -O2 with a C device process";

const PLAN: CostPlan = {
  label: "",
  folder: import.meta.dirname,
  device: "device",
  driver: "driver",
  sharedBytes: SHARED_SIZE,
  freshBytes: POOL_OFFSET,
  stopOffset: STOP_OFFSET,
  askedOffset: ASKED_OFFSET,
  doneOffset: DONE_OFFSET,
  packetsPerTurn: ENTRIES - 1,
  queue: ({ arena, window }, emit) => gigabitBenchQueue(arena, window, emit),
};

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const { sections, compiler } = await measureCost(PLAN, context, () => context.begin());
  return {
    sections,
    machine: { compiler },
    notes: [
      "The device has a core of its own; it writes a word of each frame, and descriptors whole, and works between the turns " +
        "that are timed: the lines come from the other core, but the driver never waits, and every burst is full.",
    ],
  };
}

// Receive, touch a byte, send: the cost of a packet on a gigabit queue in shared memory, with a device process in C on the other
// side. The loops in C, ring3's forwarder with the packet code emitted too, its emitted bursts with the packet code in TypeScript,
// and the rings in TypeScript, in turn, each against a fresh device.
import { readFileSync } from "node:fs";
import type { BenchmarkContext, BenchmarkResult, Section } from "../benchmark.ts";
import { DeviceProcess } from "../device-process.ts";
import { type Contender, contender, turns } from "./contender.ts";
import { ENTRIES, POOL_OFFSET, SHARED_SIZE, STOP_OFFSET } from "./layout.ts";

export const name = "net";
export const title = "packets received, touched and sent, against the same loops in C -O2 with a C device process";

const BATCHES = [1, 8, 32, 256] as const;
/** Each round is that many short turns of each contender: how near the two processors are may change between turns. */
const TURNS = 5;
const CYCLE_LIMIT = 150;

export async function run({ rounds, quick, progress, begin }: BenchmarkContext): Promise<BenchmarkResult> {
  using device = new DeviceProcess({
    folder: import.meta.dirname,
    device: "device",
    driver: "driver",
    sharedBytes: SHARED_SIZE,
    freshBytes: POOL_OFFSET,
    stopOffset: STOP_OFFSET,
  });
  const { arena, window, words } = device;
  const contenders = {
    emitted: contender(arena, window, { emit: true, touch: "emitted" }),
    mixed: contender(arena, window, { emit: true, touch: "typescript" }),
    typescript: contender(arena, window, { emit: false, touch: "typescript" }),
  };
  const packets = quick ? 200_000 : 500_000;

  /** Nanoseconds a packet: the device fills and empties its rings between turns, and only the turns are timed. */
  const timed = (one: Contender, batch: number, count: number): Promise<number> =>
    device.against(() => {
      one.reset();
      const half = Math.ceil(count / ENTRIES);
      turns(words, one, batch, 0, half);
      return (turns(words, one, batch, half, half) * 1e6) / half / (Math.floor((ENTRIES - 1) / batch) * batch);
    });
  const inC = (batch: number, count: number): Promise<number> => device.against(() => Number(device.inC(batch, count)));

  // All tiers of the compiler before anything counts.
  for (const batch of BATCHES.toReversed()) {
    for (const one of Object.values(contenders)) await timed(one, batch, 300_000);
  }
  begin();
  const sections: Section[] = [];
  const gigahertz = cpuGigahertz();
  for (const batch of BATCHES) {
    const count = Math.floor(packets / (batch === 1 ? 4 : 1));
    const samples = { c: [] as number[], emitted: [] as number[], mixed: [] as number[], typescript: [] as number[] };
    for (let turn = 0; turn < rounds * TURNS; turn++) {
      if (turn % TURNS === 0) progress(`net: batch ${batch}, round ${turn / TURNS + 1} of ${rounds}`);
      samples.c.push(await inC(batch, count));
      samples.emitted.push(await timed(contenders.emitted, batch, count));
      samples.mixed.push(await timed(contenders.mixed, batch, count));
      samples.typescript.push(await timed(contenders.typescript, batch, count));
    }
    const names = {
      c: "C -O2",
      emitted: "emitted",
      mixed: "emitted, packet code in TypeScript",
      typescript: "TypeScript",
    };
    const to = [names.c];
    const goal = (value: number): { readonly at: "most"; readonly value: number } => ({ at: "most", value });
    sections.push({
      title: `batch ${batch}`,
      unit: "ns per packet",
      better: "less",
      series: [
        { name: names.c, samples: samples.c },
        { name: names.emitted, samples: samples.emitted },
        { name: names.mixed, samples: samples.mixed },
        { name: names.typescript, samples: samples.typescript },
      ],
      comparisons: [
        { kind: "ratio", of: names.emitted, to, ...(batch >= 8 ? { goal: goal(1.15) } : {}) },
        { kind: "ratio", of: names.mixed, to, ...(batch === 32 ? { goal: goal(1.4) } : {}) },
        { kind: "ratio", of: names.typescript, to },
      ],
    });
    if (gigahertz === undefined) continue;
    const cycles = (nanoseconds: readonly number[]): number[] => nanoseconds.map((value) => value * gigahertz);
    sections.push({
      title: `batch ${batch}, in cycles of the processor's nominal clock`,
      unit: "cycles per packet",
      better: "less",
      series: [
        { name: names.c, samples: cycles(samples.c) },
        { name: names.emitted, samples: cycles(samples.emitted) },
        { name: names.mixed, samples: cycles(samples.mixed) },
        { name: names.typescript, samples: cycles(samples.typescript) },
      ],
      comparisons: [names.emitted, names.mixed].map((of) => ({
        kind: "value",
        of,
        to: [],
        ...(batch === 32 ? { goal: goal(CYCLE_LIMIT) } : {}),
      })),
    });
  }
  return {
    sections,
    machine: { compiler: device.compiler },
    notes: [
      "The device has a core of its own; it writes a word of each frame, and descriptors whole, and works between the turns " +
        "that are timed: the lines come from the other core, but the driver never waits, and every burst is full.",
    ],
  };
}

function cpuGigahertz(): number | undefined {
  const found = /^cpu MHz\s*:\s*([\d.]+)/m.exec(readFileSync("/proc/cpuinfo", "utf8"));
  return found === null ? undefined : Number(found[1]) / 1000;
}

// The cost of a packet in a driver alone: receive, touch a byte, send, over rings in shared memory with a device process in C on the
// other side. The loops in C, ring3's forwarder with the packet code emitted too, its emitted bursts with the packet code in
// TypeScript, and the rings in TypeScript, in turn, each against a fresh device. The device fills and empties its rings between
// turns, and only the turns are timed.
import { readFileSync } from "node:fs";
import type { BenchmarkContext, Section } from "../benchmark.ts";
import { type DevicePlan, DeviceProcess } from "../device-process.ts";
import { type BenchQueue, type Contender, contender } from "./contender.ts";

const BATCHES = [1, 8, 32, 256] as const;
/** Each round is that many short turns of each contender: how near the two processors are may change between turns. */
const TURNS = 5;
const CYCLE_LIMIT = 150;

/** Rings of one kind, as two programs in C know them. */
export interface CostPlan extends DevicePlan {
  /** What stands before the batch in each title. */
  readonly label: string;
  /** Where a turn is asked for, and where the device says that it is done. */
  readonly askedOffset: number;
  readonly doneOffset: number;
  /** Packets that the device gives in one turn. */
  readonly packetsPerTurn: number;
  readonly queue: (device: DeviceProcess, emit: boolean) => BenchQueue;
}

/** Measures one kind; calls `begin` when the compilers have done their work. Throws `BenchmarkUnavailable`. */
export async function measureCost(
  plan: CostPlan,
  { rounds, quick, progress }: BenchmarkContext,
  begin: () => void,
): Promise<{ readonly sections: Section[]; readonly compiler: string }> {
  using device = new DeviceProcess(plan);
  const contenders = {
    emitted: contender(plan.queue(device, true), "emitted"),
    mixed: contender(plan.queue(device, true), "typescript"),
    typescript: contender(plan.queue(device, false), "typescript"),
  };
  const packets = quick ? 200_000 : 500_000;

  /** Nanoseconds a packet. */
  const timed = (one: Contender, batch: number, count: number): Promise<number> =>
    device.against(() => {
      one.reset();
      const half = Math.ceil(count / plan.packetsPerTurn);
      const bursts = Math.floor(plan.packetsPerTurn / batch);
      turns(plan, device.words, one, { batch, bursts, first: 0, count: half });
      const spentMs = turns(plan, device.words, one, { batch, bursts, first: half, count: half });
      return (spentMs * 1e6) / half / (bursts * batch);
    });
  const inC = (batch: number, count: number): Promise<number> => device.against(() => Number(device.inC(batch, count)));

  // All tiers of the compiler before anything counts.
  for (const batch of BATCHES.toReversed()) {
    for (const one of Object.values(contenders)) await timed(one, batch, 300_000);
  }
  begin();
  const sections: Section[] = [];
  for (const batch of BATCHES) {
    const title = `${plan.label}batch ${batch}`;
    const count = Math.floor(packets / (batch === 1 ? 4 : 1));
    const samples: Samples = { c: [], emitted: [], mixed: [], typescript: [] };
    for (let turn = 0; turn < rounds * TURNS; turn++) {
      if (turn % TURNS === 0) progress(`${title}, round ${turn / TURNS + 1} of ${rounds}`);
      samples.c.push(await inC(batch, count));
      samples.emitted.push(await timed(contenders.emitted, batch, count));
      samples.mixed.push(await timed(contenders.mixed, batch, count));
      samples.typescript.push(await timed(contenders.typescript, batch, count));
    }
    sections.push(...report(title, batch, samples));
  }
  return { sections, compiler: device.compiler };
}

/** The device fills and empties its rings, then the contender forwards what is there; gives the milliseconds that it took. */
function turns(
  { askedOffset, doneOffset }: CostPlan,
  words: Uint32Array,
  one: Contender,
  part: { readonly batch: number; readonly bursts: number; readonly first: number; readonly count: number },
): number {
  let spentMs = 0;
  for (let turn = part.first + 1; turn <= part.first + part.count; turn++) {
    Atomics.store(words, askedOffset / 4, turn);
    while (Atomics.load(words, doneOffset / 4) !== turn);
    const start = performance.now();
    drive(one, part.batch, part.bursts);
    spentMs += performance.now() - start;
  }
  return spentMs;
}

/** One loop for all, so that V8 compiles each burst as a function and not as a part of this loop. */
function drive(one: Contender, batch: number, bursts: number): void {
  for (let i = 0; i < bursts; i++) if (one.forward(batch) !== batch) throw new Error("a burst was not full");
}

type Samples = Record<"c" | "emitted" | "mixed" | "typescript", number[]>;

const NAMES = {
  c: "C -O2",
  emitted: "emitted",
  mixed: "emitted, packet code in TypeScript",
  typescript: "TypeScript",
} as const;

function report(title: string, batch: number, samples: Samples): Section[] {
  const goal = (value: number): { readonly at: "most"; readonly value: number } => ({ at: "most", value });
  const to = [NAMES.c];
  const kinds = Object.keys(NAMES) as (keyof typeof NAMES)[];
  const costs: Section = {
    title,
    unit: "ns per packet",
    better: "less",
    series: kinds.map((kind) => ({ name: NAMES[kind], samples: samples[kind] })),
    comparisons: [
      { kind: "ratio", of: NAMES.emitted, to, ...(batch >= 8 ? { goal: goal(1.15) } : {}) },
      { kind: "ratio", of: NAMES.mixed, to, ...(batch === 32 ? { goal: goal(1.4) } : {}) },
      { kind: "ratio", of: NAMES.typescript, to },
    ],
  };
  const gigahertz = cpuGigahertz();
  if (gigahertz === undefined) return [costs];
  const cycles: Section = {
    title: `${title}, in cycles of the processor's nominal clock`,
    unit: "cycles per packet",
    better: "less",
    series: kinds.map((kind) => ({ name: NAMES[kind], samples: samples[kind].map((value) => value * gigahertz) })),
    comparisons: [NAMES.emitted, NAMES.mixed].map((of) => ({
      kind: "value",
      of,
      to: [],
      ...(batch === 32 ? { goal: goal(CYCLE_LIMIT) } : {}),
    })),
  };
  return [costs, cycles];
}

function cpuGigahertz(): number | undefined {
  const found = /^cpu MHz\s*:\s*([\d.]+)/m.exec(readFileSync("/proc/cpuinfo", "utf8"));
  return found === null ? undefined : Number(found[1]) / 1000;
}

// What the mediator costs: config space access by access, on the host without any hardware and in the guest over VFIO, and
// reads of an NVMe controller in the guest, whose pages are mapped to the user or trapped.
import { inProcess, VirtualFunction } from "ring3/virtual";
import type { Guest } from "../../tests/guest/guest.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { ADDRESS, bindVfio, bootForBenchmark, NAMESPACE_ID } from "../guest/machine.ts";
import { type Face, type ReadFigure, type ReadPlan, type Ring3Case, ring3Name } from "../guest/plan.ts";
import { ACCESSES, type ConfigCost, MEDIATORS, measureConfig, SELF } from "./config.ts";

export const name = "mediation";
export const title =
  "a function behind the mediator against the function itself: config space, and 4 KiB reads of NVMe";

const GOAL = 0.95;
const DEPTHS: readonly number[] = [1, 32];
const FACES: readonly Face[] = ["ring", "interrupt"];
const QUEUE_ENTRIES = 256;
const WAYS = ["direct", "mapped", "trapped"] as const;
type Way = (typeof WAYS)[number];
const WAY_NAMES: Readonly<Record<Way, string>> = {
  direct: "VFIO",
  mapped: "mediator, pages mapped",
  trapped: "mediator, all trapped",
};

interface Figure {
  readonly way: Way;
  readonly face: Face;
  readonly depth: number;
  readonly perSecond: number;
}

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const { rounds, quick, begin, progress } = context;
  begin();
  const onHost = await measureHost(rounds, quick ? 20_000 : 500_000);
  progress("config space on the host");
  const sections = configSections("in one process, on the host", onHost);
  const notes = ["the user of a mediator, the mediator and what is behind it share a process."];
  try {
    await using guest = await bootForBenchmark({ progress });
    begin();
    await bindVfio(guest);
    sections.push(...configSections("over VFIO, in the guest", await measureGuestConfig(guest, rounds, quick)));
    progress("config space in the guest");
    const reads: Figure[] = [];
    for (let round = 0; round < rounds; round++) {
      for (const way of round % 2 === 0 ? WAYS : WAYS.toReversed()) {
        progress(`round ${round + 1} of ${rounds}: ${WAY_NAMES[way]}`);
        reads.push(...(await measureReads(guest, way, quick)));
      }
    }
    sections.push(...readSections(reads));
    notes.push("the guest's device and processors are emulated: ratios mean something, the figures themselves do not.");
  } catch (error) {
    if (!(error instanceof BenchmarkUnavailable)) throw error;
    notes.push(`not run in the guest: ${error.message}`);
  }
  return { sections, machine: {}, notes };
}

async function measureHost(rounds: number, accesses: number): Promise<ConfigCost[]> {
  const costs: ConfigCost[] = [];
  // The first round compiles.
  for (let round = -1; round < rounds; round++) {
    const declaration = { vendorId: 0x1234, deviceId: 0x0add, classCode: 0x010802, bars: { 0: { size: 4096 } } };
    await using fn = inProcess(new VirtualFunction(declaration));
    const cost = await measureConfig(fn, accesses);
    if (round >= 0) costs.push(cost);
  }
  return costs;
}

async function measureGuestConfig(guest: Guest, rounds: number, quick: boolean): Promise<ConfigCost[]> {
  const words = [ADDRESS, String(quick ? 500 : 2000), String(rounds)];
  return await inGuest<ConfigCost>(guest, ["/ring3/bench/mediation/config.bench.js", ...words], 120_000 * rounds);
}

async function measureReads(guest: Guest, way: Way, quick: boolean): Promise<Figure[]> {
  const cases = FACES.flatMap((face) =>
    DEPTHS.map((depth): Ring3Case => ({ name: ring3Name(face), face, pattern: "random", depth })),
  );
  const times = quick ? { warmUpMs: 500, measureMs: 500 } : { warmUpMs: 1000, measureMs: 2000 };
  const plan: ReadPlan = {
    address: ADDRESS,
    namespaceId: NAMESPACE_ID,
    queueEntries: QUEUE_ENTRIES,
    ...times,
    cases,
    ...(way === "direct" ? {} : { mediation: way }),
  };
  const words = ["/ring3/bench/guest/reads.bench.js", JSON.stringify(plan)];
  const figures = await inGuest<ReadFigure>(guest, words, 60_000 + 6 * cases.length * times.measureMs);
  return cases.map(({ face, depth }, index) => {
    const { operations, seconds } = figures[index] as ReadFigure;
    return { way, face, depth, perSecond: operations / seconds };
  });
}

/** Runs a program in the guest as an ordinary user, and gives the lines of JSON that it printed. */
async function inGuest<T>(guest: Guest, words: readonly string[], timeoutMs: number): Promise<T[]> {
  const { code, signal, stdout, stderr } = await guest.run(["node", ...words], { timeoutMs });
  if (code !== 0) throw new Error(`${words[0]} in the guest ended with ${signal ?? code}\n${stdout}${stderr}`);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}

function configSections(where: string, costs: readonly ConfigCost[]): Section[] {
  return Object.keys(ACCESSES).map((what) => ({
    title: `config space ${where}: ${what}`,
    unit: "ns an access",
    better: "less",
    series: [SELF, ...Object.keys(MEDIATORS)].map((who) => ({
      name: who,
      samples: costs.map((cost) => cost[what]?.[who] ?? Number.NaN),
    })),
    comparisons: Object.keys(MEDIATORS).map((of) => ({ kind: "difference", of, to: [SELF] })),
  }));
}

function readSections(figures: readonly Figure[]): Section[] {
  return FACES.flatMap((face) =>
    DEPTHS.map((depth): Section => {
      const series = WAYS.map((way) => ({
        name: WAY_NAMES[way],
        samples: figures
          .filter((figure) => figure.way === way && figure.face === face && figure.depth === depth)
          .map(({ perSecond }) => perSecond),
      }));
      const to = [WAY_NAMES.direct];
      // Interrupts are heard by the mediator and passed on where its user has no eventfd, as here.
      const goal = face === "ring" ? ({ at: "least", value: GOAL } as const) : undefined;
      return {
        title: `random reads of 4 KiB in the guest, ${depth} in flight: ${ring3Name(face)}`,
        unit: "reads/s",
        better: "more",
        series,
        comparisons: [
          { kind: "ratio", of: WAY_NAMES.mapped, to, ...(goal === undefined ? {} : { goal }) },
          { kind: "ratio", of: WAY_NAMES.trapped, to },
        ],
      };
    }),
  );
}

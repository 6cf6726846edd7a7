// What the mediator costs: config space access by access, on the host without any hardware and in the guest over VFIO, and
// reads of an NVMe controller in the guest, whose pages are mapped to the user or trapped.
import { inProcess, VirtualFunction } from "ring3/virtual";
import type { Guest } from "../../tests/guest/guest.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { ADDRESS, bindVfio, bootForBenchmark, NAMESPACE_ID } from "../guest/machine.ts";
import { ring3Name } from "../guest/plan.ts";
import { ACCESSES, type ConfigCost, MEDIATORS, measureConfig, SELF } from "./config.ts";
import { DEPTHS, FACES, type Turn, type TurnPlan, type Way } from "./plan.ts";

export const name = "mediation";
export const title =
  "a function behind the mediator against the function itself: config space, and 4 KiB reads of NVMe";

const GOAL = 0.95;
/** Short turns for each round. */
const TURNS = 4;
const WAYS: Readonly<Record<Way, string>> = {
  mapped: "mediator, pages mapped",
  trapped: "mediator, all trapped",
};
const DIRECT = "VFIO";

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
    for (const way of ["mapped", "trapped"] as const) {
      progress(`reads: ${WAYS[way]}`);
      sections.push(...readSections(way, await measureReads(guest, way, rounds, quick)));
    }
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

async function measureReads(guest: Guest, way: Way, rounds: number, quick: boolean): Promise<Turn[]> {
  const plan: TurnPlan = {
    address: ADDRESS,
    namespaceId: NAMESPACE_ID,
    way,
    turns: TURNS * rounds,
    turnMs: quick ? 100 : 400,
  };
  const words = ["/ring3/bench/mediation/reads.bench.js", JSON.stringify(plan)];
  return await inGuest<Turn>(guest, words, 60_000 + 30_000 * plan.turns);
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
    unit: "ns of processor time an access",
    better: "less",
    series: [SELF, ...Object.keys(MEDIATORS)].map((who) => ({
      name: who,
      samples: costs.map((cost) => cost[what]?.[who] ?? Number.NaN),
    })),
    comparisons: Object.keys(MEDIATORS).map((of) => ({ kind: "difference", of, to: [SELF] })),
  }));
}

function readSections(way: Way, turns: readonly Turn[]): Section[] {
  return FACES.flatMap((face) =>
    DEPTHS.map((depth): Section => {
      const own = turns.filter((turn) => turn.face === face && turn.depth === depth);
      const of = WAYS[way];
      // Interrupts are heard by the mediator and passed on where its user has no eventfd, as here.
      const judged = way === "mapped" && face === "ring";
      return {
        title: `random reads of 4 KiB in the guest, ${depth} in flight: ${ring3Name(face)}, ${of}`,
        unit: "reads/s",
        better: "more",
        series: [
          { name: DIRECT, samples: own.map(({ direct }) => direct) },
          { name: of, samples: own.map(({ mediated }) => mediated) },
        ],
        comparisons: [{ kind: "ratio", of, to: [DIRECT], ...(judged ? { goal: { at: "least", value: GOAL } } : {}) }],
      };
    }),
  );
}

// Memory of a driver process in the guest: what an idle one takes over bare node, and what two million reads leave behind.
// The idle process runs the library as it is published; its sources, many more modules, stand beside it.
import { buildPackage } from "../../scripts/build.ts";
import type { Guest } from "../../tests/guest/guest.ts";
import type { BenchmarkContext, BenchmarkResult, Section } from "../benchmark.ts";
import { ADDRESS, asRoot, bindVfio, bootForBenchmark } from "../guest/machine.ts";
import type { Face } from "../guest/plan.ts";
import { type Growth, type Mark, type Resident, STAGES, type Stage } from "./plan.ts";

export const name = "memory";
export const title = "memory of a driver process in the guest: idle, and over two million reads";

const MEBIBYTE = 2 ** 20;
const IDLE_GOAL_MEBIBYTES = 20;
/** Over a million reads: about a byte for each. */
const GROWTH_GOAL_MEBIBYTES = 1;
/** The first half lets V8 compile; what grows in the second would grow for ever. */
const READS = 2_000_000;
const JUDGED_FROM = 2;
/** V8 doubles its young generation when it sees fit, here after a million reads: it has its full size from the start instead. */
const YOUNG_GENERATION = ["--min-semi-space-size=16", "--max-semi-space-size=16"];
const FACES: readonly Face[] = ["ring", "adaptive"];

/** Where the published library is installed in the guest, and how. */
const PUBLISHED = "/published";
const INSTALL = `
  mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000 published /mnt
  mkdir -p ${PUBLISHED}/node_modules
  cp -r /mnt ${PUBLISHED}/node_modules/ring3
  umount /mnt
  ln -s /ring3/node_modules/koffi /ring3/node_modules/@koromix ${PUBLISHED}/node_modules/
  cp /ring3/bench/memory/*.js ${PUBLISHED}
  echo '{"type":"module"}' > ${PUBLISHED}/package.json`;
const FROM_SOURCES = "the same from the sources";

const STAGE_NAMES: Readonly<Record<Stage, string>> = {
  bare: "bare node",
  imported: "ring3 and its NVMe driver imported",
  opened: "function open",
  started: "NVMe started, one read done",
};

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const share = `local,id=published,path=${await buildPackage("ring3")},security_model=none,readonly=on`;
  const device = "virtio-9p-pci-non-transitional,fsdev=published,mount_tag=published,bus=pcie.0,addr=0x10";
  await using guest = await bootForBenchmark({
    progress: context.progress,
    machine: { args: ["-fsdev", share, "-device", device] },
  });
  await asRoot(guest, INSTALL);
  await bindVfio(guest);
  context.begin();
  const idle = new Map<Stage, Resident[]>(STAGES.map((stage) => [stage, []]));
  const sources: Resident[] = [];
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`round ${round + 1} of ${context.rounds}: idle processes`);
    for (const stage of STAGES) {
      idle.get(stage)?.push(await inGuest<Resident>(guest, [`${PUBLISHED}/idle.bench.js`, stage, ADDRESS]));
    }
    sources.push(await inGuest<Resident>(guest, ["/ring3/bench/memory/idle.bench.js", "started", ADDRESS]));
  }
  const reads = context.quick ? 40_000 : READS;
  const growth: Section[] = [];
  for (const face of FACES) {
    context.progress(`${reads} reads, ${face}`);
    const program = [
      ...YOUNG_GENERATION,
      "--expose-gc",
      "/ring3/bench/memory/growth.bench.js",
      ADDRESS,
      face,
      String(reads),
    ];
    growth.push(growthSection(face, await inGuest<Growth>(guest, program)));
  }
  return {
    sections: [idleSection(idle, sources), ...growth],
    machine: { guest: `Linux ${guest.release}` },
    notes: NOTES,
  };
}

async function inGuest<T>(guest: Guest, args: readonly string[]): Promise<T> {
  const { code, signal, stdout, stderr } = await guest.run(["node", ...args], { timeoutMs: 900_000 });
  if (code !== 0) throw new Error(`${args.join(" ")} in the guest ended with ${signal ?? code}\n${stdout}${stderr}`);
  return JSON.parse(stdout) as T;
}

function idleSection(idle: ReadonlyMap<Stage, readonly Resident[]>, sources: readonly Resident[]): Section {
  const inMebibytes = (pick: (entry: Resident) => number, stage: Stage): number[] => {
    return (idle.get(stage) ?? []).map((entry) => pick(entry) / MEBIBYTE);
  };
  const whole = STAGES.map((stage) => ({
    name: STAGE_NAMES[stage],
    samples: inMebibytes(({ total }) => total, stage),
  }));
  const parts = (["anonymous", "file", "shared"] as const).map((part) => ({
    name: `${STAGE_NAMES.started}: more ${part} memory`,
    samples: inMebibytes((entry) => entry[part], "started").map(
      (value, round) => value - (inMebibytes((entry) => entry[part], "bare")[round] ?? 0),
    ),
  }));
  return {
    title: "resident memory of an idle process",
    unit: "MiB",
    better: "less",
    series: [...whole, { name: FROM_SOURCES, samples: sources.map(({ total }) => total / MEBIBYTE) }, ...parts],
    comparisons: [
      ...(["imported", "opened", "started"] as const).map((stage) => ({
        kind: "difference" as const,
        of: STAGE_NAMES[stage],
        to: [STAGE_NAMES.bare],
        ...(stage === "started" ? { goal: { at: "most", value: IDLE_GOAL_MEBIBYTES } as const } : {}),
      })),
      { kind: "difference", of: FROM_SOURCES, to: [STAGE_NAMES.bare] },
    ],
  };
}

/** What must not grow. */
const KINDS: readonly { readonly what: string; readonly pick: (mark: Mark) => number }[] = [
  { what: "heap and external in use", pick: ({ heap, external }) => heap + external },
  { what: "resident", pick: (mark) => mark.resident.total },
];

function growthSection(face: Face, { marks, collections, operationsBetween }: Growth): Section {
  const series = KINDS.flatMap(({ what, pick }) =>
    marks.map((mark) => ({ name: `${what} after ${mark.operations} reads`, samples: [pick(mark) / MEBIBYTE] })),
  );
  const grown = KINDS.map(({ what, pick }) => {
    const [start, end] = [marks[JUDGED_FROM] as Mark, marks.at(-1) as Mark];
    const span = `from ${start.operations} to ${end.operations} reads`;
    return { name: `growth of ${what} ${span}`, samples: [(pick(end) - pick(start)) / MEBIBYTE] };
  });
  const name = face === "ring" ? "ring face" : `promises, ${face}`;
  return {
    title: `memory over many reads, ${name}; ${collections} collections in the last ${operationsBetween}`,
    unit: "MiB after a full collection",
    better: "less",
    series: [...series, ...grown],
    comparisons: grown.map(({ name: of }) => ({
      kind: "value",
      of,
      to: [],
      goal: { at: "most", value: GROWTH_GOAL_MEBIBYTES },
    })),
  };
}

const NOTES: readonly string[] = [
  "idle: no collection is asked for; each stage is a process of its own, two seconds after it has got there.",
  "resident memory includes file pages that the process shares with others, such as node's and koffi's code.",
];

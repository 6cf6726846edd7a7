// Reads of 4 KiB from one emulated NVMe controller in one guest, which changes hands in every round: ring3 as an ordinary
// user, the kernel's driver with and without an IOMMU mapping for each read, and QEMU's own user-space driver.
import type { Guest } from "../../tests/guest/guest.ts";
import type { BenchmarkContext, BenchmarkResult, Comparison, Section, Series } from "../benchmark.ts";
import { kernelName, measureKernel, type PeerFigure } from "./kernel-peer.ts";
import { ADDRESS, asRoot, bindVfio, bootForBenchmark, NAMESPACE_ID, peerProgram } from "./machine.ts";
import { DEPTHS, type Face, type Pattern, type ReadFigure, type ReadPlan, ring3Cases, ring3Name } from "./plan.ts";
import { measureQemu, QEMU_NAME } from "./qemu-peer.ts";

export const name = "guest";
export const title = "4 KiB reads in the guest: ring3 against the kernel's driver and QEMU's";

/** More than commands in flight, so that no queue is ever full. */
const QUEUE_ENTRIES = 256;

interface Times {
  readonly warmUpMs: number;
  readonly measureMs: number;
}

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const times = context.quick ? { warmUpMs: 500, measureMs: 500 } : { warmUpMs: 1000, measureMs: 2000 };
  await using guest = await bootForBenchmark({ peers: true, progress: context.progress });
  context.begin();
  const figures: PeerFigure[][] = [];
  const turns: readonly (readonly [string, () => Promise<PeerFigure[]>])[] = [
    ["the kernel's driver", () => measureKernel(guest, "DMA", times)],
    ["ring3", () => measureRing3(guest, times)],
    ["the kernel's driver without IOMMU", () => measureKernel(guest, "identity", times)],
    ["QEMU's driver", () => measureQemu(guest, times)],
  ];
  for (let round = 0; round < context.rounds; round++) {
    const order = round % 2 === 0 ? turns : turns.toReversed();
    const measured: PeerFigure[] = [];
    for (const [what, measure] of order) {
      context.progress(`round ${round + 1} of ${context.rounds}: ${what}`);
      measured.push(...(await measure()));
    }
    figures.push(measured);
  }
  return { sections: sections(figures), machine: await machine(guest), notes: NOTES };
}

async function measureRing3(guest: Guest, times: Times): Promise<PeerFigure[]> {
  await bindVfio(guest);
  const cases = ring3Cases();
  const plan: ReadPlan = { address: ADDRESS, namespaceId: NAMESPACE_ID, queueEntries: QUEUE_ENTRIES, ...times, cases };
  const { code, signal, stdout, stderr } = await guest.run(
    ["node", "/ring3/bench/guest/reads.bench.js", JSON.stringify(plan)],
    { timeoutMs: 60_000 + 3 * cases.length * (times.warmUpMs + times.measureMs) },
  );
  if (code !== 0) throw new Error(`ring3 in the guest ended with ${signal ?? code}\n${stdout}${stderr}`);
  const done = stdout.trim().split("\n");
  return cases.map(({ name, pattern, depth }, index) => {
    const { operations, seconds } = JSON.parse(done[index] ?? "") as ReadFigure;
    return { name, pattern, depth, perSecond: operations / seconds };
  });
}

function sections(rounds: readonly (readonly PeerFigure[])[]): Section[] {
  return (["random", "sequential"] as const).flatMap((pattern) =>
    DEPTHS.map((depth) => section(rounds, pattern, depth)),
  );
}

function section(rounds: readonly (readonly PeerFigure[])[], pattern: Pattern, depth: number): Section {
  const samples = Map.groupBy(
    rounds.flat().filter((figure) => figure.pattern === pattern && figure.depth === depth),
    (figure) => figure.name,
  );
  const series: Series[] = [...samples].map(([of, list]) => ({
    name: of,
    samples: list.map((figure) => figure.perSecond),
  }));
  // ring3 first, whatever was measured first.
  series.sort((a, b) => Number(b.name.startsWith("ring3")) - Number(a.name.startsWith("ring3")));
  const comparisons = pattern === "random" ? againstKernel(depth) : againstQemu();
  return {
    title: `${pattern} reads of 4 KiB, ${depth} in flight`,
    unit: "reads/s",
    better: "more",
    series,
    comparisons,
  };
}

function againstKernel(depth: number): Comparison[] {
  const engines = depth === 1 ? ["psync", "io_uring"] : ["libaio", "io_uring"];
  const ratio = (face: Face, to: readonly string[], least?: number): Comparison => ({
    kind: "ratio",
    of: ring3Name(face),
    to,
    ...(least === undefined ? {} : { goal: { at: "least", value: least } }),
  });
  const kernel = engines.map((engine) => kernelName(engine));
  const [polledGoal, adaptiveGoal] = depth === 1 ? [3, 1] : [undefined, undefined];
  return [
    ratio("ring", kernel, polledGoal),
    ratio("polled", kernel, polledGoal),
    ratio("adaptive", kernel, adaptiveGoal),
    ratio("interrupt", kernel),
    ratio("ring", [kernelName("io_uring, polled")]),
    ratio("ring", [kernelName("psync", "identity"), kernelName("io_uring", "identity")].slice(depth === 1 ? 0 : 1)),
  ];
}

function againstQemu(): Comparison[] {
  const faces: readonly Face[] = ["ring", "polled", "adaptive"];
  const goal = { at: "least", value: 1 } as const;
  return faces.map((face) => ({ kind: "ratio", of: ring3Name(face), to: [QEMU_NAME], goal }));
}

async function machine(guest: Guest): Promise<Record<string, string>> {
  const first = async (program: string): Promise<string> => {
    return (await asRoot(guest, `${peerProgram(program)} --version`)).split("\n")[0] ?? "unknown";
  };
  const guestText = `Linux ${guest.release}, 2 emulated processors (TCG, no KVM), intel-iommu with caching mode`;
  return { guest: guestText, peers: `${await first("fio")}; ${await first("qemu-img")}` };
}

const NOTES: readonly string[] = [
  "the device and the processors are emulated: ratios mean something, the figures themselves do not.",
  "`kernel` maps and unmaps each read's memory in the IOMMU, as Linux does by default; here each mapping is an exit to the emulator. " +
    "`without IOMMU` is the same driver in an identity domain (iommu=pt), which protects nobody from the device.",
  "`io_uring, polled` is the kernel's driver with a polled queue (nvme.poll_queues=1, --hipri).",
  "the peer of a ratio is the fastest of fio's engines without polling, unless it is named.",
];

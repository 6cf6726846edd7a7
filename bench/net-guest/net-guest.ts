// Frames forwarded between two cards of one guest, wired to each other: ring3 as an ordinary user and DPDK's testpmd have the same
// cards by turns.
import { GuestUnavailable } from "../../tests/guest/cache.ts";
import { bootGuest, type Guest } from "../../tests/guest/guest.ts";
import { HOTPLUG } from "../../tests/guest/machine.ts";
import { GROUPS, packageRoot } from "../../tests/guest/packages.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { FORWARDERS, type ForwardFigure, type ForwardPlan } from "./plan.ts";

export const name = "net-guest";
export const title = "frames forwarded between two cards in the guest: ring3 against DPDK's testpmd";

const CARDS = ["igb", "e1000e"] as const;
/** More ports behind those of the rig's machine. */
const MORE_PORTS = [
  { port: "rp12", address: "0000:0d:00.0" },
  { port: "rp13", address: "0000:0e:00.0" },
];
const PLACES = [...HOTPLUG, ...MORE_PORTS];
/** testpmd's start and end, which each of its turns has. */
const TURN_MS = 120_000;

export async function run({ rounds, quick, begin, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  await using guest = await boot(progress);
  begin();
  const sections: Section[] = [];
  for (const [i, card] of CARDS.entries()) {
    progress(`${card}: ${rounds} rounds`);
    const [first, second] = PLACES.slice(2 * i);
    if (first === undefined || second === undefined) throw new Error("two places for each card");
    const times = quick ? { warmUpMs: 1000, measureMs: 2000 } : { warmUpMs: 3000, measureMs: 10_000 };
    const plan: ForwardPlan = { name: card, addresses: [first.address, second.address], rounds, ...times };
    sections.push(section(card, await measure(guest, plan)));
  }
  const machine = `Linux ${guest.release}, 2 emulated processors (TCG, no KVM), intel-iommu with caching mode`;
  return {
    sections,
    machine: { guest: machine, node: process.version },
    notes: [
      "32 frames of 64 bytes go round each way; what is counted is what both ports received. The cards, the wire and the processors are emulated: QEMU is the limit, and only ratios mean something. testpmd has huge pages, and passes 32 frames at a time as ring3 does.",
    ],
  };
}

async function boot(progress: (line: string) => void): Promise<Guest> {
  try {
    const dpdk = await packageRoot(GROUPS.dpdk, progress);
    const ports = MORE_PORTS.flatMap(({ port }, i) => {
      return [
        "-device",
        `pcie-root-port,id=${port},bus=pcie.0,addr=0x${(0x12 + i).toString(16)},chassis=${12 + i},slot=${12 + i}`,
      ];
    });
    const cards = PLACES.flatMap(({ port }, i) => {
      const card = CARDS[Math.floor(i / 2)];
      const wire = `bench-${i}`;
      return [
        ...["-netdev", `hubport,id=${wire},hubid=${10 + Math.floor(i / 2)}`],
        ...["-device", `${card},netdev=${wire},mac=52:54:00:00:10:0${i},bus=${port}`],
      ];
    });
    const guest = await bootGuest({ kernel: "iommufd", progress, machine: { args: [...ports, ...cards] } });
    await guest.share("dpdk", dpdk);
    return guest;
  } catch (error) {
    if (error instanceof GuestUnavailable) throw new BenchmarkUnavailable(error.message);
    throw error;
  }
}

async function measure(guest: Guest, plan: ForwardPlan): Promise<ForwardFigure[]> {
  const turns = plan.rounds * FORWARDERS.length;
  const { code, signal, stdout, stderr } = await guest.run(
    ["node", "/ring3/bench/net-guest/forward.bench.js", JSON.stringify(plan)],
    { timeoutMs: turns * (TURN_MS + 2 * (plan.warmUpMs + plan.measureMs)) },
  );
  if (code !== 0) throw new Error(`in the guest: ended with ${signal ?? code}\n${stdout}${stderr}`);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ForwardFigure);
}

function section(card: string, figures: readonly ForwardFigure[]): Section {
  const [emitted, bursts, peer] = FORWARDERS;
  const goal = { at: "least", value: 1 } as const;
  return {
    title: `${card}: two ports on one hub`,
    unit: "frames/s",
    better: "more",
    series: FORWARDERS.map((forwarder) => ({
      name: forwarder,
      samples: figures.filter((figure) => figure.forwarder === forwarder).map(({ perSecond }) => perSecond),
    })),
    comparisons: [
      { kind: "ratio", of: emitted, to: [peer], goal },
      { kind: "ratio", of: bursts, to: [peer], goal },
    ],
  };
}

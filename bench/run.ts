// Runs benchmarks by name and prints every figure with its peer, their ratio, the goal, and whether it was met.
// Figures depend on the machine and on what else it does: nothing here passes or fails a test.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { messageOf } from "ring3/binary";
import { type Benchmark, type BenchmarkResult, BenchmarkUnavailable } from "./benchmark.ts";
import { machineFacts, watchOthers } from "./machine.ts";
import { judgements, report } from "./report.ts";

/** Loaded when they are run, since each may need what a machine lacks. */
const BENCHMARKS: Readonly<Record<string, () => Promise<Benchmark>>> = {
  ring: async () => await import("./ring/ring.ts"),
  net: async () => await import("./net/net.ts"),
  "net-collections": async () => await import("./net/collections.ts"),
  "net-latency": async () => await import("./net/latency.ts"),
  "net-virtio": async () => await import("./net/virtio.ts"),
  "net-guest": async () => await import("./net-guest/net-guest.ts"),
  guest: async () => await import("./guest/guest.ts"),
  memory: async () => await import("./memory/memory.ts"),
  wire: async () => await import("./vfio-user/wire.ts"),
  lspci: async () => await import("./lspci/lspci.ts"),
  nvme: async () => await import("./vfio-user/nvme.ts"),
  startup: async () => await import("./startup/startup.ts"),
  trace: async () => await import("./trace/trace.ts"),
  mediation: async () => await import("./mediation/mediation.ts"),
};

const USAGE = `usage: npm run bench -- [name...] [--rounds N] [--quick] [--packets N] [--json FILE]

  name         ${Object.keys(BENCHMARKS).join(", ")}; all of them by default
  --rounds N   rounds in which everything that is compared takes its turn, 5 by default
  --quick      short measurements, to see that all works
  --packets N  how many packets net-collections passes in each run, as 1e8
  --json FILE  writes every sample to FILE too

  npm run bench -- guest --rounds 3 --json figures.json
`;

const { values, positionals } = options();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const rounds = Number(values.rounds ?? (values.quick ? 1 : 5));
if (!Number.isInteger(rounds) || rounds < 1) fail(`--rounds takes a whole number from 1 on, not ${values.rounds}`);
const packets = values.packets === undefined ? undefined : Number(values.packets);
if (packets !== undefined && !(Number.isSafeInteger(packets) && packets >= 1)) {
  fail(`--packets takes a whole number from 1 on, not ${values.packets}`);
}
for (const name of positionals) if (!Object.hasOwn(BENCHMARKS, name)) fail(`there is no benchmark "${name}"`);

const facts = machineFacts();
const results: Record<string, BenchmarkResult> = {};
const start = performance.now();
for (const [key, value] of Object.entries(facts)) console.log(`${key}: ${value}`);
for (const name of positionals.length > 0 ? positionals : Object.keys(BENCHMARKS)) await runOne(name);
if (values.json !== undefined) {
  const judged = Object.fromEntries(Object.entries(results).map(([name, result]) => [name, judgements(result)]));
  writeFileSync(values.json, `${JSON.stringify({ machine: facts, rounds, results, judged }, null, 2)}\n`);
  console.log(`\nevery sample is in ${values.json}`);
}
const goals = Object.values(results)
  .flatMap(judgements)
  .filter(({ met }) => met !== undefined);
const missed = goals.filter(({ met }) => met === false).length;
console.log(`\n${goals.length - missed} of ${goals.length} goals met, ${missed} missed`);

async function runOne(name: string): Promise<void> {
  const progress = (line: string): void => {
    console.error(`[${((performance.now() - start) / 1000).toFixed(0).padStart(4)} s] ${line}`);
  };
  try {
    const benchmark = await (BENCHMARKS[name] as () => Promise<Benchmark>)();
    console.log(`\n== ${name}: ${benchmark.title}`);
    let others = watchOthers();
    const begin = (): void => {
      others = watchOthers();
    };
    const measured = await benchmark.run({ rounds, quick: values.quick ?? false, packets, begin, progress });
    const disturbance = `${(100 * others()).toFixed(0)} % of the processors' time went to other programs meanwhile`;
    const result = { ...measured, machine: { ...measured.machine, disturbance } };
    results[name] = result;
    for (const [key, value] of Object.entries(result.machine)) console.log(`${key}: ${value}`);
    for (const line of report(result)) console.log(line);
  } catch (error) {
    if (error instanceof BenchmarkUnavailable) {
      console.log(`not run: ${error.message}`);
      return;
    }
    // The others still run; the exit code tells.
    console.error(error);
    process.exitCode = 1;
  }
}

function options() {
  try {
    return parseArgs({
      options: {
        rounds: { type: "string" },
        quick: { type: "boolean" },
        packets: { type: "string" },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
      allowPositionals: true,
    });
  } catch (error) {
    return fail(messageOf(error));
  }
}

function fail(message: string): never {
  console.error(`${message}\n\n${USAGE}`);
  process.exit(2);
}

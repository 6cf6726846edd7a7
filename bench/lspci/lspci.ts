// `ring3 lspci -F DUMP -vvv` against the real one, whole programs on 1, 100 and 10,000 functions; and what decoding a function
// takes once the code is warm. The functions are those of the QEMU machines that the tests compare on, again and again.
import { type ExecFileSyncOptions, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { parseDump } from "../../packages/ring3/src/pci/dump.ts";
import { lspci } from "../../packages/ring3/src/pci/lspci/index.ts";
import { installPackages } from "../../scripts/packaging.ts";
import { debianTool } from "../../tests/guest/tools.ts";
import { enumerate, type Found } from "../../tests/lspci/enumeration.ts";
import { MACHINES } from "../../tests/lspci/machines.ts";
import { QtestMachine } from "../../tests/lspci/qtest.ts";
import { type Lspci, lspciPair, packageRootOrNone } from "../../tests/lspci/real.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";

export const name = "lspci";
export const title = "ring3 lspci -vvv against the real one, and decoding alone";

const COUNTS: readonly number[] = [1, 100, 10_000];
const DECODE_GOAL_MICROSECONDS = 20;
/** Functions that are decoded for one figure. */
const DECODED = 2000;
const WARM_UP_ROUNDS = 5;

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  using stack = new DisposableStack();
  const pair = await lspciPair();
  const qemu = await packageRootOrNone("qemu");
  if (pair === undefined || qemu === undefined) throw new BenchmarkUnavailable("QEMU or lspci cannot be fetched here");
  stack.use(pair);
  context.progress("reading the functions of QEMU's machines");
  const functions = await functionsOf(qemu);
  const directory = mkdtempSync(join(tmpdir(), "ring3-bench-lspci-"));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const command = join(await installPackages(directory), "@ring3/cli/main.cjs");
  const files = COUNTS.map((count) => {
    const file = join(directory, `${count}.txt`);
    writeFileSync(file, dumpOf(functions, count));
    return file;
  });
  context.begin();
  const sections: Section[] = [];
  for (const [index, count] of COUNTS.entries()) {
    context.progress(`whole programs on ${count} functions`);
    const words = ["-i", pair.names, "-F", files[index] ?? "", "-vvv"];
    const { program, args } = debianTool(pair.root, "lspci");
    const peers: Readonly<Record<string, () => unknown>> = {
      "ring3 lspci": () => execFileSync(process.execPath, [command, "lspci", ...words], QUIET),
      lspci: () => execFileSync(program, [...args, ...words], QUIET),
    };
    sections.push(wholeSection(count, peers, context));
  }
  context.progress("decoding");
  sections.push(decodeSection(functions, pair, context));
  return { sections, machine: { functions: `${functions.length} of ${MACHINES.length} machines` }, notes: NOTES };
}

const QUIET: ExecFileSyncOptions = { maxBuffer: 2 ** 30, stdio: ["ignore", "pipe", "ignore"] };

/** Those with extended config space: the others are quickly done. */
async function functionsOf(qemu: string): Promise<Found[]> {
  const functions: Found[] = [];
  for (const machine of MACHINES) {
    await using running = new QtestMachine(qemu, machine);
    functions.push(...(await enumerate(running, machine)));
  }
  return functions.filter(
    ({ bytes }) => bytes.length === 4096 && bytes.subarray(0x100, 0x104).some((byte) => byte !== 0),
  );
}

function dumpOf(functions: readonly Found[], count: number): string {
  return Array.from({ length: count }, (_, index) => {
    const { bytes } = functions[index % functions.length] as Found;
    return `${PciAddress.fromRoutingId(0, index).toString()} x\n${hexdump(bytes)}\n\n`;
  }).join("");
}

function wholeSection(
  count: number,
  peers: Readonly<Record<string, () => unknown>>,
  { rounds, quick }: BenchmarkContext,
): Section {
  const repeats = quick || count > 100 ? 1 : 5;
  const series = Object.keys(peers).map((peer) => ({ name: peer, samples: [] as number[] }));
  for (let round = 0; round < rounds; round++) {
    for (const { name: peer, samples } of series) {
      // The best of a few: start-up is disturbed by anything.
      const times = Array.from({ length: repeats }, () => timed(peers[peer] ?? (() => undefined)));
      samples.push(Math.min(...times));
    }
  }
  return {
    title: `-vvv of ${count} ${count === 1 ? "function" : "functions"} from a dump`,
    unit: "ms",
    better: "less",
    series,
    comparisons: [{ kind: "ratio", of: "ring3 lspci", to: ["lspci"] }],
  };
}

function decodeSection(functions: readonly Found[], { ids }: Lspci, { rounds }: BenchmarkContext): Section {
  const parsed = parseDump(dumpOf(functions, DECODED));
  const decode = (): number => {
    const texts: string[] = [];
    const milliseconds = timed(() => {
      lspci(parsed, { verbose: 3, ids }, (text) => texts.push(text));
      return Buffer.from(texts.join(""), "latin1");
    });
    return (milliseconds * 1000) / parsed.length;
  };
  for (let round = 0; round < WARM_UP_ROUNDS; round++) decode();
  const series = { name: "decoding and writing", samples: Array.from({ length: rounds }, decode) };
  return {
    title: `-vvv in process, of each of ${DECODED} functions`,
    unit: "us",
    better: "less",
    series: [series],
    comparisons: [{ kind: "value", of: series.name, to: [], goal: { at: "most", value: DECODE_GOAL_MICROSECONDS } }],
  };
}

function timed(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

const NOTES: readonly string[] = [
  "ring3 runs as it is published: its start is that of Node, which is most of what one function takes.",
  "texts of registers that repeat are kept: the functions of a machine, and more so those of a dump made of copies, share many.",
];

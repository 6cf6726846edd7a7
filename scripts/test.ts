// Runs the tests: `test.ts` all; `unit` the quick loop; `long` those of its kind that say `// seconds: N` in their leading comments;
// `migration` devices in processes of their own that move, die and come back; `hostile` clients, servers and drivers that send
// anything (RING3_HOSTILE=full: much more of it); `guest` what is compared with other programs, and the suites inside guests.
// Where there are two processors two lanes of guests run beside each other, after what needs none: an emulated processor that
// waits for another one, which does not run, wastes what a third program could use.
// Ends with what failed and one line that counts everything.
import { globSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { leadingWords } from "../tests/leading-comments.ts";

/** Files that run beside each other, as many as `concurrency` says. */
interface Group {
  readonly title: string;
  readonly patterns: readonly string[];
  /** Whether it takes files that say how many seconds they need, or those that do not; all, where it is not said. */
  readonly long?: boolean;
  readonly concurrency: number;
  /** Which of the guests' lanes; none needs a guest, where it is not said. */
  readonly lane?: string;
}

const root = join(import.meta.dirname, "..");
const counts = { passed: 0, skipped: 0 };
/** What failed, for the end of the report: what stands in the middle of thousands of lines is not found. */
const failures: string[] = [];
const suitesRun = new Set<string>();
/** Compiling is a third of what a test file costs, and the same in each: what V8 made of the sources is kept, until they change. */
process.env["NODE_COMPILE_CACHE"] ??= join(root, "node_modules", ".cache", "compiled");
/** Where there is one processor, one list after the other. */
const beside = availableParallelism() >= 2;

const OWN = ["packages/**/*.test.ts", "tests/{architecture,contract,fakes}/*.test.ts", "tests/guest/suites.test.ts"];
const UNIT: Group = { title: "unit", patterns: OWN, long: false, concurrency: 2 };
/** Programs that are started, devices of other processes, and much that is generated. */
const LONG: Group = { title: "long", patterns: OWN, long: true, concurrency: 2 };
const MIGRATION: Group = { title: "migration", patterns: ["tests/migration/*.test.ts"], concurrency: 2 };
const HOSTILE: Group = { title: "hostile", patterns: ["tests/hostile/*.test.ts"], concurrency: 2 };
/** Compared with programs of Debian's; no guest runs. */
const PROGRAMS: Group = {
  title: "programs",
  patterns: ["tests/lspci/*.test.ts", "tests/guest/{capture,lspci,pciutils}.test.ts"],
  concurrency: 1,
};
const DEBIAN_GUESTS: Group = {
  title: "guests, Debian's kernel and others",
  patterns: ["tests/guest/{debian,live-pciutils,systemd}.test.ts", "tests/served/*.test.ts"],
  concurrency: 1,
  lane: "",
};
const IOMMUFD_GUESTS: Group = {
  title: "guests, the kernel with IOMMUFD",
  patterns: ["tests/guest/iommufd.test.ts"],
  concurrency: 1,
  lane: "second",
};

/** Where a file says how long it takes, the longest come first, so that no processor is left alone with one of them. */
function filesOf({ patterns, long }: Pick<Group, "patterns" | "long">): string[] {
  const names = patterns.flatMap((pattern) => globSync(pattern, { cwd: root })).sort();
  if (long === undefined) return names;
  const seconds = new Map(names.map((name) => [name, secondsOf(name)]));
  const of = (name: string): number => seconds.get(name) ?? 0;
  return names.filter((name) => of(name) > 0 === long).sort((a, b) => of(b) - of(a));
}

function secondsOf(name: string): number {
  return Number(leadingWords(readFileSync(join(root, name), "utf8"), "seconds") ?? 0);
}

let prepared: Promise<void> | undefined;

/** Fetches and builds what guests need, once: a machine that cannot is a failure, and no reason to skip. */
function prepareGuests(print: (text: string) => void): Promise<void> {
  return (prepared ??= (async (): Promise<void> => {
    print("\n== set-up of the guest\n");
    const { prepare } = await import("../tests/guest/setup.ts");
    await prepare("debian", (line) => print(`${line}\n`));
  })());
}

/** Runs a group; `print` takes what is reported, as it comes. */
async function runGroup(group: Group, print: (text: string) => void): Promise<void> {
  const { title, concurrency, lane } = group;
  if (lane !== undefined) await prepareGuests(print);
  const names = filesOf(group);
  print(`\n== ${title}: ${names.length} files\n`);
  if (names.length === 0) throw new Error(`no test file matches ${group.patterns.join(" ")}`);
  const files = names.map((name) => join(root, name));
  const started = performance.now();
  const env = { ...process.env, ...(lane === undefined ? {} : guestEnvironment(lane)) };
  const stream = run({ cwd: root, files, concurrency, env, execArgv: [`--import=${join(root, "tests/seed.ts")}`] });
  const own = new Set(files);
  const count =
    (kind: "pass" | "fail") =>
    (data: {
      name: string;
      file?: string;
      nesting: number;
      skip?: string | boolean;
      todo?: string | boolean;
      details: { type?: string };
    }) => {
      // Suites stand below the guest that they ran in.
      if (lane !== undefined && data.nesting === 1) suitesRun.add(data.name);
      if (data.details.type === "suite") return;
      if (own.has(data.name) && kind === "pass") return;
      if (data.skip !== undefined && data.skip !== false) counts.skipped++;
      else if (kind === "pass") counts.passed++;
      else failures.push(`${title}: ${data.file === undefined ? "" : `${relative(root, data.file)}: `}${data.name}`);
    };
  stream.on("test:pass", count("pass"));
  stream.on("test:fail", count("fail"));
  const reporter = stream.compose(new spec());
  for await (const chunk of reporter) print(String(chunk));
  print(`== ${title}: ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
}

/**
 * Runs the groups of each list in turn, and the lists beside each other. What they report comes in the order of the lists:
 * that of the first one which has not ended at once, that of the others afterwards.
 */
async function runBeside(lists: readonly (readonly Group[])[]): Promise<void> {
  const held = lists.map((): string[] => []);
  let speaking = 0;
  const over = new Set<number>();
  const speakOn = (): void => {
    for (; speaking < lists.length; speaking++) {
      for (const text of held[speaking]?.splice(0) ?? []) process.stdout.write(text);
      if (!over.has(speaking)) return;
    }
  };
  await Promise.all(
    lists.map(async (groups, index) => {
      const print = (text: string): void => {
        if (index === speaking) process.stdout.write(text);
        else held[index]?.push(text);
      };
      for (const group of groups) {
        try {
          await runGroup(group, print);
        } catch (error) {
          failures.push(`${group.title}: ${String(error)}`);
          print(`${error instanceof Error ? error.stack : String(error)}\n`);
        }
      }
      over.add(index);
      speakOn();
    }),
  );
}

/** Suites for any kernel are shared out where the lanes run beside each other; in turn the quick kernel has them all. */
function guestEnvironment(lane: string): Readonly<Record<string, string>> {
  const assignment = process.env["RING3_GUEST_KERNELS"] ?? (beside ? "balanced" : "quick");
  return { RING3_GUEST_LANE: lane, RING3_GUEST_KERNELS: assignment };
}

/** Suites that no lane has run, although their kernel is there. */
async function suitesLeft(): Promise<string[]> {
  const { findSuites } = await import("../tests/guest/suites.ts");
  const { iommufdKernel } = await import("../tests/guest/kernels.ts");
  const there = iommufdKernel() === undefined ? ["debian"] : ["debian", "iommufd"];
  const wanted = findSuites().filter(({ kernels }) => kernels.some((kernel) => there.includes(kernel)));
  return wanted.map(({ name }) => name).filter((name) => !suitesRun.has(name));
}

/** Lists of groups that run beside each other. */
type Phase = readonly (readonly Group[])[];

const GUESTS: Phase = [[PROGRAMS], [IOMMUFD_GUESTS], [DEBIAN_GUESTS]];
const runs: Readonly<Record<string, readonly Phase[]>> = {
  unit: [[[UNIT]]],
  long: [[[LONG]]],
  migration: [[[MIGRATION]]],
  hostile: [[[HOSTILE]]],
  guest: [GUESTS],
  all: [[[UNIT, LONG, MIGRATION, HOSTILE]], GUESTS],
};

const which = process.argv[2] ?? "all";
const chosen = Object.hasOwn(runs, which) ? runs[which] : undefined;
if (chosen === undefined) {
  console.error(`usage: test.ts [${Object.keys(runs).join("|")}]`);
  process.exit(2);
}
if (which === "all") {
  const taken = new Set(chosen.flat(2).flatMap(filesOf));
  const left = filesOf({ patterns: ["packages/**/*.test.ts", "tests/**/*.test.ts"] }).filter(
    (file) => !taken.has(file),
  );
  if (left.length > 0) throw new Error(`no group has ${left.join(", ")}`);
}
for (const phase of chosen) await runBeside(beside ? phase : [phase.flat()]);
if (chosen.flat(2).some(({ lane }) => lane !== undefined)) {
  const left = await suitesLeft();
  if (left.length > 0) failures.push(`no lane has run the suites ${left.join(", ")}`);
}

if (failures.length > 0) console.log(`\nfailed:\n${failures.map((failure) => `  ${failure}\n`).join("")}`);
console.log(`\n${counts.passed} passed, ${failures.length} failed, ${counts.skipped} skipped`);
process.exitCode = failures.length === 0 ? 0 : 1;

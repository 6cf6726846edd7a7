// The suites that run in the guest, and what each says about itself in its leading comments.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { leadingWords } from "../leading-comments.ts";
import { type KernelName, quickKernel } from "./kernels.ts";
import { VARIATIONS, type VariationName } from "./machine.ts";
import { type GroupName, GROUPS } from "./packages.ts";

export interface Suite {
  readonly name: string;
  /** The file as the guest sees it. */
  readonly path: string;
  readonly kernels: readonly KernelName[];
  /** How long it takes, where it may run on any kernel; 0 else. */
  readonly seconds: number;
  readonly machine: VariationName;
  readonly timeoutMs: number;
  /** Debian packages whose programs it runs in the guest: see `packageProgram` in inside.ts. */
  readonly packages: readonly GroupName[];
  /** Leaves a machine that others cannot use: a sleep takes SR-IOV and AER state that the kernel does not restore. */
  readonly spoils: boolean;
}

/** A suite as its comments say. */
interface Described extends Omit<Suite, "kernels"> {
  readonly kernels: readonly KernelName[] | "any";
}

const SUFFIX = ".guest.ts";
const TIMEOUT_SECONDS = 300;
/** Whether long tests are run as well. */
const FULL = process.env["RING3_GUEST_FULL"] === "1";

/** On which kernel suites for any kernel run. */
export type Assignment = "quick" | "balanced" | "all";

/**
 * Seconds that the two lanes of `npm test` take without the suites for any kernel, on a machine of two processors; that of Debian's
 * kernel has the served guests and pciutils as well. Shares and not promises: what counts is their ratio to `// seconds`.
 */
export const LANE_SECONDS: Readonly<Record<KernelName, number>> = { iommufd: 540, debian: 920 };

/**
 * All suites; `RING3_GUEST_ONLY` keeps those whose names contain it, or one of several words with commas between. Suites for any
 * kernel run on the `quick` one, that boots fastest of those that are there; `balanced` in the lane that has less to do; on `all`.
 */
export function findSuites(
  assignment: Assignment = assignmentOf(process.env["RING3_GUEST_KERNELS"]),
  quick: KernelName = quickKernel(),
  directory: string = join(import.meta.dirname, "suites"),
): Suite[] {
  const files = readdirSync(directory).filter((name) => name.endsWith(SUFFIX));
  const described = files.sort().map((file) => describe(file, readFileSync(join(directory, file), "utf8")));
  const forAny = described.filter(({ kernels }) => kernels === "any");
  const lanes = assignment === "balanced" && quick === "iommufd" ? balanced(forAny) : undefined;
  const suites = described.map((suite): Suite => {
    if (suite.kernels !== "any") return { ...suite, kernels: suite.kernels };
    if (assignment === "all") return { ...suite, kernels: ["debian", "iommufd"] };
    return { ...suite, kernels: [lanes?.get(suite.name) ?? quick] };
  });
  const only = (process.env["RING3_GUEST_ONLY"] ?? "").split(",");
  const wanted = suites.filter(({ name }) => only.some((word) => `${name}${SUFFIX}`.includes(word)));
  // Spoilers last, so that as few machines as possible are booted.
  return wanted.sort((a, b) => Number(a.spoils) - Number(b.spoils));
}

function assignmentOf(word = "quick"): Assignment {
  if (word === "quick" || word === "balanced" || word === "all") return word;
  throw new Error(`RING3_GUEST_KERNELS is quick, balanced or all, not "${word}"`);
}

/** The longest first, each to the lane that has less so far: the same for the same suites. */
function balanced(suites: readonly Described[]): ReadonlyMap<string, KernelName> {
  const seconds = { ...LANE_SECONDS };
  const lanes = new Map<string, KernelName>();
  for (const suite of [...suites].sort((a, b) => b.seconds - a.seconds || (a.name < b.name ? -1 : 1))) {
    const kernel = seconds.iommufd <= seconds.debian ? "iommufd" : "debian";
    seconds[kernel] += suite.seconds;
    lanes.set(suite.name, kernel);
  }
  return lanes;
}

/** The kernels that a suite names. */
function named(words: string): readonly KernelName[] | "any" {
  if (words === "any") return words;
  return words.split(/[\s,]+/).map((word) => {
    if (word === "debian" || word === "iommufd") return word;
    throw new Error(`there is no kernel "${word}"`);
  });
}

function describe(file: string, source: string): Described {
  const word = (key: string): string | undefined => leadingWords(source, key);
  const machine = word("machine") ?? "standard";
  if (!Object.hasOwn(VARIATIONS, machine)) throw new Error(`${file}: there is no machine "${machine}"`);
  const kernels = named(word("kernels") ?? "debian, iommufd");
  const seconds = Number(word("seconds") ?? 0);
  if ((kernels === "any") !== seconds > 0) throw new Error(`${file}: "// seconds" goes with "// kernels: any"`);
  const packages = (word("packages") ?? "").split(/[\s,]+/).filter((name) => name !== "");
  for (const name of packages)
    if (!Object.hasOwn(GROUPS, name)) throw new Error(`${file}: there are no packages "${name}"`);
  return {
    name: file.slice(0, -SUFFIX.length),
    path: `/ring3/tests/guest/suites/${file.replace(/\.ts$/, ".js")}`,
    kernels,
    seconds,
    machine: machine as VariationName,
    timeoutMs: Number((FULL ? word("timeout-full") : undefined) ?? word("timeout") ?? TIMEOUT_SECONDS) * 1000,
    packages: packages as GroupName[],
    spoils: word("spoils") !== undefined,
  };
}

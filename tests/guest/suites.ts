// The suites that run in the guest, and what each says about itself in its leading comments.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type KernelName, quickKernel } from "./kernels.ts";
import { VARIATIONS, type VariationName } from "./machine.ts";
import { type GroupName, GROUPS } from "./packages.ts";

export interface Suite {
  readonly name: string;
  /** The file as the guest sees it. */
  readonly path: string;
  readonly kernels: readonly KernelName[];
  readonly machine: VariationName;
  readonly timeoutMs: number;
  /** Debian packages whose programs it runs in the guest: see `packageProgram` in inside.ts. */
  readonly packages: readonly GroupName[];
  /** Leaves a machine that others cannot use: a sleep takes SR-IOV and AER state that the kernel does not restore. */
  readonly spoils: boolean;
}

const SUFFIX = ".guest.ts";
const TIMEOUT_SECONDS = 300;
/** Whether long tests are run as well. */
const FULL = process.env["RING3_GUEST_FULL"] === "1";

/** All suites; `RING3_GUEST_ONLY` keeps those whose names contain it, or one of several words with commas between. */
export function findSuites(directory: string = join(import.meta.dirname, "suites")): Suite[] {
  const only = (process.env["RING3_GUEST_ONLY"] ?? "").split(",");
  const files = readdirSync(directory).filter(
    (name) => name.endsWith(SUFFIX) && only.some((word) => name.includes(word)),
  );
  const suites = files.sort().map((file) => describe(file, readFileSync(join(directory, file), "utf8")));
  // Spoilers last, so that as few machines as possible are booted.
  return suites.sort((a, b) => Number(a.spoils) - Number(b.spoils));
}

/** `any` is the kernel that boots fastest of those that are there; with RING3_GUEST_KERNELS=all it is both. */
function named(word: string): KernelName[] {
  if (word === "debian" || word === "iommufd") return [word];
  if (word !== "any") throw new Error(`there is no kernel "${word}"`);
  return process.env["RING3_GUEST_KERNELS"] === "all" ? ["debian", "iommufd"] : [quickKernel()];
}

function describe(file: string, source: string): Suite {
  const comments = /^(?:(?:\/\/.*)?\n)*/.exec(source)?.[0] ?? "";
  const word = (key: string): string | undefined => new RegExp(`^// ${key}: (.*)$`, "m").exec(comments)?.[1]?.trim();
  const machine = word("machine") ?? "standard";
  if (!Object.hasOwn(VARIATIONS, machine)) throw new Error(`${file}: there is no machine "${machine}"`);
  const kernels = (word("kernels") ?? "debian, iommufd").split(/[\s,]+/).flatMap(named);
  const packages = (word("packages") ?? "").split(/[\s,]+/).filter((name) => name !== "");
  for (const name of packages)
    if (!Object.hasOwn(GROUPS, name)) throw new Error(`${file}: there are no packages "${name}"`);
  return {
    name: file.slice(0, -SUFFIX.length),
    path: `/ring3/tests/guest/suites/${file.replace(/\.ts$/, ".js")}`,
    kernels,
    machine: machine as VariationName,
    timeoutMs: Number((FULL ? word("timeout-full") : undefined) ?? word("timeout") ?? TIMEOUT_SECONDS) * 1000,
    packages: packages as GroupName[],
    spoils: word("spoils") !== undefined,
  };
}

// The real lspci as an oracle: one process for a dump of any size. Where its packages cannot be fetched there is none.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { captured } from "../../packages/cli/src/captured-run.ts";
import { PciIds } from "../../packages/ring3/src/pci/ids.ts";
import { GuestUnavailable } from "../guest/cache.ts";
import { GROUPS, packageRoot } from "../guest/packages.ts";
import { debianTool } from "../guest/tools.ts";

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

/** Both tools on the same dump and the same list of names; text is latin1, so that every byte counts. */
export class Lspci implements Disposable {
  readonly ids: PciIds;
  readonly names: string;
  readonly #root: string;
  readonly directory: string = mkdtempSync(join(tmpdir(), "ring3-lspci-"));

  constructor(root: string) {
    this.#root = root;
    this.names = join(root, "usr/share/misc/pci.ids");
    this.ids = new PciIds(readFileSync(this.names, "latin1"));
  }

  /** `lspci -F` of pciutils. */
  real(dump: string, words: readonly string[]): Outcome {
    const { program, args } = debianTool(this.#root, "lspci");
    const options = { encoding: "latin1", maxBuffer: 2 ** 30 } as const;
    const outcome = spawnSync(program, [...args, ...this.#words(dump), ...words], options);
    // Without the machine's modules lspci cannot name drivers, which no dump has anyway.
    return { ...outcome, stderr: outcome.stderr.replace(/^.*libkmod.*\n/gm, "") };
  }

  /** `ring3 lspci -F`. */
  async ours(dump: string, words: readonly string[]): Promise<Outcome> {
    return await captured(["lspci", ...this.#words(dump), ...words], { encoding: "latin1" });
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }

  #words(dump: string): string[] {
    const file = join(this.directory, "dump");
    writeFileSync(file, dump, "latin1");
    return ["-i", this.names, "-F", file];
  }
}

/** `undefined` where the real lspci cannot be fetched. */
export async function lspciPair(): Promise<Lspci | undefined> {
  const root = await packageRootOrNone("peers");
  return root === undefined ? undefined : new Lspci(root);
}

/** What is unpacked of a group of packages; `undefined` where it cannot be fetched. */
export async function packageRootOrNone(group: keyof typeof GROUPS): Promise<string | undefined> {
  return await packageRoot(GROUPS[group], () => {}).catch((error: unknown) => {
    if (error instanceof GuestUnavailable) return undefined;
    throw error;
  });
}

/** Where two texts part, with the lines before it; `undefined` where they do not. */
export function parting(
  actual: string,
  expected: string,
): { readonly ours: string; readonly real: string } | undefined {
  if (actual === expected) return undefined;
  const [ours, real] = [actual.split("\n"), expected.split("\n")];
  const at = real.findIndex((line, index) => line !== ours[index]);
  const near = (lines: readonly string[]): string =>
    lines.slice(Math.max(0, (at < 0 ? real.length : at) - 5), (at < 0 ? real.length : at) + 3).join("\n");
  return { ours: near(ours), real: near(real) };
}

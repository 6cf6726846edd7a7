// The real lspci and setpci, run on this machine from the peers' packages: on dumps and on directories that look like sysfs.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { messageOf } from "ring3/binary";
import { GuestUnavailable, type Progress } from "./cache.ts";
import { GROUPS, packageRoot } from "./packages.ts";
import { debianTool } from "./tools.ts";

/** Runs one of the tools; `status` is its exit status. */
export type Pciutils = (
  name: "lspci" | "setpci",
  words: readonly string[],
) => Promise<{ readonly stdout: string; readonly stderr: string; readonly status: number }>;

/** The tools, fetched where they are not there; rejects with `GuestUnavailable` where they cannot be. */
export async function pciutils(progress: Progress = () => {}): Promise<Pciutils> {
  const root = await packageRoot(GROUPS.peers, progress).catch((error: unknown) => {
    throw new GuestUnavailable(`pciutils cannot be fetched: ${messageOf(error)}`);
  });
  const ids = join(root, "usr/share/misc/pci.ids");
  return async (name, words) => {
    const { program, args } = debianTool(root, name);
    const all = [...args, ...(name === "lspci" ? ["-i", ids] : []), ...words];
    const options = { encoding: "latin1", maxBuffer: 2 ** 26 } as const;
    const result = await promisify(execFile)(program, all, options).then(
      ({ stdout, stderr }) => ({ stdout, stderr, status: 0 }),
      (error: { stdout?: string; stderr?: string; code?: unknown }) => {
        if (typeof error.code !== "number") throw error;
        return { stdout: error.stdout ?? "", stderr: error.stderr ?? "", status: error.code };
      },
    );
    // Without the machine's modules lspci cannot name drivers, which neither dump nor tree has anyway.
    const stderr = result.stderr.replace(/^.*libkmod.*\n/gm, "");
    return { ...result, stderr };
  };
}

// Who has a VFIO node open. An ordinary user sees the descriptors of its own processes only, and is told so.
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { type HostPaths, thisMachine } from "./paths.ts";
import { listNames, readText } from "./sysfs.ts";

export interface Holder {
  readonly pid: number;
  /** Command line as one string, or the short name of a process that hides it. */
  readonly command: string;
  readonly uid: number;
  /** The path that the process has open, as it sees it. */
  readonly path: string;
  readonly descriptor: number;
}

export interface Holders {
  readonly holders: readonly Holder[];
  /** Whether every process could be looked into: only root's answer is complete. */
  readonly complete: boolean;
}

/**
 * The processes that have one of `nodes` (full paths, such as /dev/vfio/14) open. With `addresses`, also those that hold
 * an open device descriptor of these functions, where the kernel (newer than 6.17) tells to which function it belongs.
 */
export function findHolders(
  nodes: readonly string[],
  addresses: readonly string[] = [],
  paths: HostPaths = thisMachine,
): Holders {
  const wanted = new Set(nodes);
  const holders: Holder[] = [];
  let complete = true;
  for (const name of listNames(paths.procRoot)) {
    if (!/^\d+$/.test(name)) continue;
    const process_ = join(paths.procRoot, name);
    let descriptors: string[];
    try {
      descriptors = readdirSync(join(process_, "fd"));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EACCES") complete = false;
      continue;
    }
    for (const descriptor of descriptors) {
      const path = target(join(process_, "fd", descriptor));
      if (path === undefined) continue;
      if (wanted.has(path) || (addresses.length > 0 && holdsDevice(process_, descriptor, path, addresses))) {
        holders.push({ ...whoIs(process_), pid: Number(name), path, descriptor: Number(descriptor) });
      }
    }
  }
  return { holders, complete };
}

/** The holders as one phrase for an error message. */
export function describeHolders(holders: readonly Holder[]): string {
  const processes = new Map(holders.map(({ pid, command }) => [pid, command]));
  return [...processes].map(([pid, command]) => `process ${pid} (${command.slice(0, 60)})`).join(", ");
}

function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

/** Device descriptors of the group interface are anonymous; their fdinfo names the function's path in sysfs. */
function holdsDevice(process_: string, descriptor: string, path: string, addresses: readonly string[]): boolean {
  if (!path.startsWith("anon_inode:") || !path.includes("vfio")) return false;
  try {
    const info = readFileSync(join(process_, "fdinfo", descriptor), "utf8");
    const device = /^vfio-device-syspath:\s*(\S+)$/m.exec(info)?.[1];
    return device !== undefined && addresses.some((address) => device.endsWith(`/${address}`));
  } catch {
    return false;
  }
}

function whoIs(process_: string): { command: string; uid: number } {
  const line = (readText(join(process_, "cmdline")) ?? "").replaceAll("\0", " ").trim();
  const uid = statSync(process_, { throwIfNoEntry: false })?.uid ?? 0;
  return { command: line === "" ? (readText(join(process_, "comm")) ?? "?") : line, uid };
}

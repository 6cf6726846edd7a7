// One binding at a time on a machine: a lock file that names its holder, and that a later process may take over when the
// holder has died. A process is known by its number and start time, as numbers are used again.
import { linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import type { Host } from "./binding-steps.ts";
import type { HostPaths } from "./paths.ts";
import { readText } from "./sysfs.ts";

/** Takes the lock; disposal lets go. Throws `BINDING_BUSY` while another process has it. */
export async function holdLock(host: Host): Promise<AsyncDisposable> {
  const path = join(host.paths.runRoot, "ring3/lock");
  const own = `${path}.${process.pid}`;
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  writeFileSync(own, identity(process.pid, host.paths) ?? String(process.pid));
  try {
    // A hard link appears with its contents or not at all.
    for (let attempts = 0; !tryLink(own, path); attempts++) {
      const holder = readText(path);
      if (holder !== undefined && (alive(holder, host.paths) || attempts > 2)) {
        const [pid] = holder.split(" ");
        throw new Ring3Error("BINDING_BUSY", `process ${pid} is changing bindings right now: wait for it to end`);
      }
      if (holder !== undefined) removeStale(path, holder);
    }
  } finally {
    rmSync(own, { force: true });
  }
  return {
    [Symbol.asyncDispose]: async () => rmSync(path, { force: true }),
  };
}

function tryLink(own: string, path: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Moves the dead holder's file away; when somebody else was faster and it is theirs by now, puts it back. */
function removeStale(path: string, stale: string): void {
  const aside = `${path}.stale-${process.pid}`;
  try {
    renameSync(path, aside);
    if (readText(aside) !== stale) tryLink(aside, path);
  } catch {
    // Already gone.
  }
  rmSync(aside, { force: true });
}

function alive(holder: string, paths: HostPaths): boolean {
  const [pid = ""] = holder.split(" ");
  return identity(Number(pid), paths) === holder;
}

/** Number and start time, field 22 of proc_pid_stat(5); the name in field 2 may hold blanks and parentheses. */
function identity(pid: number, paths: HostPaths): string | undefined {
  const stat = readText(join(paths.procRoot, String(pid), "stat"));
  const started = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return started === undefined ? undefined : `${pid} ${started}`;
}

// Where the rig keeps what it fetched and built: outside the work tree, filled atomically, shared by processes.
// A directory is made under a temporary name and renamed, so that one which exists is complete, however a run ended.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Prints one line of progress. */
export type Progress = (line: string) => void;

/** A reason why this machine cannot run guests at all: callers skip and show it. */
export class GuestUnavailable extends Error {
  override readonly name = "GuestUnavailable";
}

/** The rig's cache directory, `RING3_CACHE` or the XDG one. */
export function cacheDirectory(): string {
  const { RING3_CACHE, XDG_CACHE_HOME } = process.env;
  return RING3_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "ring3");
}

/**
 * Holds a lock shared by every process of this user, released by the kernel when this process ends in any way:
 * flock(1) keeps it while its `cat` has our end of the pipe open.
 */
export async function lock(name: string, waiting?: () => void): Promise<AsyncDisposable> {
  await mkdir(cacheDirectory(), { recursive: true });
  const script = "if ! flock -n 9; then echo waiting; flock 9; fi; echo held; exec cat >/dev/null";
  const child: ChildProcess = spawn(
    "sh",
    ["-c", `exec 9>"$1"; ${script}`, "sh", join(cacheDirectory(), `${name}.lock`)],
    {
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
    },
  );
  const exited = once(child, "exit");
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`cannot lock ${name}: is flock(1) of util-linux installed?`)));
    child.stdout?.on("data", (data: Buffer) => {
      if (data.includes("waiting")) waiting?.();
      if (data.includes("held")) resolve();
    });
  });
  return {
    async [Symbol.asyncDispose](): Promise<void> {
      child.stdin?.end();
      await exited;
    },
  };
}

/**
 * The name of the lock that whoever runs a guest holds: in each lane one runs at a time. There is one lane, unless
 * scripts/test.ts names another in RING3_GUEST_LANE.
 */
export function guestLane(): string {
  const lane = process.env["RING3_GUEST_LANE"] ?? "";
  return lane === "" ? "guest" : `guest-${lane}`;
}

/** Returns the cached directory `name`, filling it first when it is not there. */
export async function cached(name: string, fill: (directory: string) => Promise<void>): Promise<string> {
  const directory = join(cacheDirectory(), name);
  if (existsSync(directory)) return directory;
  await using _held = await lock("cache");
  if (existsSync(directory)) return directory;
  await mkdir(dirname(directory), { recursive: true });
  const temporary = await mkdtemp(`${directory}.part-`);
  try {
    await fill(temporary);
    await rename(temporary, directory);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return directory;
}

/** Removes other contents of the same kind, and what a killed run left half made. */
export async function keepOnly(directory: string, prefix: string): Promise<void> {
  const parent = dirname(directory);
  for (const name of await readdir(parent)) {
    if (name.startsWith(prefix) && join(parent, name) !== directory) {
      await rm(join(parent, name), { recursive: true, force: true });
    }
  }
}

/** Runs a program to its end and returns its output; its failure carries what it wrote. */
export async function command(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string | undefined>; input?: string } = {},
): Promise<string> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (data: string) => (stdout += data));
  child.stderr.setEncoding("utf8").on("data", (data: string) => (stderr += data));
  child.stdin.on("error", () => undefined).end(options.input ?? "");
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  if (code !== 0) {
    const tail = `${stdout}\n${stderr}`.trim().split("\n").slice(-15).join("\n");
    throw new Error(`${program} ${args.slice(0, 6).join(" ")} ended with ${signal ?? code}:\n${tail}`);
  }
  return stdout;
}

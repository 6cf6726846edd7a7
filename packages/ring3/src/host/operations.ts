// Everything that binding does to the machine goes through these few calls, so that a test can put a machine of its own
// behind them and let each of them fail.
import type { ExecFileOptions } from "node:child_process";
import { closeSync, constants, existsSync, type FSWatcher, openSync, watch } from "node:fs";
import { chmod, chown, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { ACCESS_LIST_ATTRIBUTE } from "./access-list.ts";

export interface NodeOwner {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits. */
  readonly mode: number;
  /** The access list in hexadecimal; `null` for none. Where this is absent the list stays as it is. */
  readonly accessList?: string | null;
}

/** What binding needs from the machine. */
export interface HostOperations {
  /** Whether drivers may be bound and nodes handed over: root. */
  readonly privileged: boolean;
  /** Writes an attribute of sysfs with one system call. */
  write(path: string, text: string): Promise<void>;
  /** Loads a kernel module. Throws `MODULE_MISSING`. */
  loadModule(name: string): Promise<void>;
  setOwner(path: string, owner: NodeOwner): Promise<void>;
  /** The access list of a file in hexadecimal; `undefined` where it has none. */
  accessList(path: string): Promise<string | undefined>;
  /** Replaces a file of ring3's own below /run, whole or not at all. */
  save(path: string, text: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Resolves once `ready()` is true, looking whenever something changes in `directory`; `false` after `timeoutMs`. */
  waitUntil(directory: string, ready: () => boolean, timeoutMs: number): Promise<boolean>;
  /** Lets udev finish with the nodes that just appeared, so that it does not undo what we set. */
  settle(): Promise<void>;
  /** Whether the kernel itself holds the block device (mounted, swap, part of an array). */
  claimed(blockDevice: string): boolean;
  /**
   * Whether somebody has a VFIO group open, by its node, or a function of it by its own: the kernel lets one in at a time. It
   * shows where /proc hides whose descriptors these are, too.
   */
  opened(groupNode: string): boolean;
}

/** The real machine. */
export function linuxOperations(): HostOperations {
  return {
    privileged: process.geteuid?.() === 0,
    write: async (path, text) => {
      await attempt(`write ${path}`, async () => {
        const file = await open(path, constants.O_WRONLY);
        try {
          await file.write(text);
        } finally {
          await file.close();
        }
      });
    },
    loadModule,
    setOwner,
    accessList: async (path) => {
      const { extendedAttribute } = await import("../linux/extended-attributes.ts");
      const value = extendedAttribute(path, ACCESS_LIST_ATTRIBUTE);
      return value === undefined ? undefined : Buffer.from(value).toString("hex");
    },
    save: async (path, text) => {
      await attempt(`write ${path}`, async () => {
        await mkdir(dirname(path), { recursive: true, mode: 0o755 });
        const file = await open(`${path}.new`, "w", 0o644);
        try {
          await file.writeFile(text);
        } finally {
          await file.close();
        }
        await rename(`${path}.new`, path);
      });
    },
    remove: async (path) => await attempt(`unlink ${path}`, async () => await rm(path, { force: true })),
    waitUntil,
    settle,
    claimed: (blockDevice) => isBusy(blockDevice, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK),
    opened: (groupNode) => isBusy(groupNode, constants.O_RDWR),
  };
}

/** A list goes before the mode is set, since the mode would change its mask, and comes after. */
async function setOwner(path: string, { uid, gid, mode, accessList }: NodeOwner): Promise<void> {
  const setList = async (value: string | null): Promise<void> => {
    const { setExtendedAttribute } = await import("../linux/extended-attributes.ts");
    try {
      setExtendedAttribute(path, ACCESS_LIST_ATTRIBUTE, value === null ? undefined : Buffer.from(value, "hex"));
    } catch (error) {
      if (!isRing3Error(error) || error.errno !== "EOPNOTSUPP") throw error;
      const text = `this kernel's /dev keeps no access lists (CONFIG_TMPFS_POSIX_ACL): make the user the owner of ${path} instead`;
      throw new Ring3Error("NO_ACCESS_LISTS", text, { errno: "EOPNOTSUPP", call: `setxattr ${path}`, cause: error });
    }
  };
  if (accessList === null) await setList(null);
  await attempt(`chown ${path}`, async () => {
    await chown(path, uid, gid);
    await chmod(path, mode);
  });
  if (typeof accessList === "string") await setList(accessList);
}

async function attempt(call: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
    throw new Ring3Error("HOST_CALL_FAILED", `${call} failed with ${errno}`, { errno, call, cause: error });
  }
}

async function loadModule(name: string): Promise<void> {
  // modprobe lies in a directory that the PATH of a service or of sudo may leave out.
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  try {
    await runProgram("modprobe", [name], { env, timeout: 60_000 });
  } catch (error) {
    const { code, stderr = "" } = error as NodeJS.ErrnoException & { stderr?: string };
    const why = code === "ENOENT" ? "there is no modprobe" : stderr.trim() || String(code);
    throw new Ring3Error(
      "MODULE_MISSING",
      `the kernel module ${name} is not loaded and cannot be: ${why}. ` +
        `Install the kernel's modules, or use a kernel built with CONFIG_VFIO_PCI`,
      { cause: error },
    );
  }
}

async function waitUntil(directory: string, ready: () => boolean, timeoutMs: number): Promise<boolean> {
  if (ready()) return true;
  let place = directory;
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const look = (): void => {
    if (ready()) resolve(true);
  };
  const watcher = watchQuietly(place, look);
  // The directory itself may be what appears, and some file systems tell of no change: look now and then as well.
  const timer = setInterval(look, 100);
  const timeout = setTimeout(() => resolve(ready()), timeoutMs);
  look();
  try {
    return await promise;
  } finally {
    watcher?.close();
    clearInterval(timer);
    clearTimeout(timeout);
  }
}

function watchQuietly(place: string, look: () => void): FSWatcher | undefined {
  try {
    return watch(place, look).on("error", () => undefined);
  } catch {
    // Out of inotify watches: the timer looks as well.
    return undefined;
  }
}

async function settle(): Promise<void> {
  if (!existsSync("/run/udev/control")) return;
  await runProgram("udevadm", ["settle", "--timeout=5"]).catch(() => undefined);
}

/** What starts processes is loaded when one is started: `ring3 ls` and most others start none. */
async function runProgram(name: string, words: readonly string[], options: ExecFileOptions = {}): Promise<void> {
  const { execFile } = await import("node:child_process");
  await promisify(execFile)(name, words, options);
}

/** Whether an open says EBUSY, which is how the kernel tells of a holder that lets nobody else in; otherwise it has no effect. */
function isBusy(node: string, flags: number): boolean {
  try {
    closeSync(openSync(node, flags));
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EBUSY";
  }
}

// What the machine itself does with a function right now, so that nobody pulls the root disk from under it. Block devices
// and network links are found by their place below the function in sysfs, and followed up through md, dm and
// nvme-multipath; a mount is recognised by device number, by source name, and by the kernel's own exclusive claim.
import { basename, join, resolve } from "node:path";
import type { HostOperations } from "./operations.ts";
import { functionDirectory, type HostPaths } from "./paths.ts";
import { listNames, readLinkName, readNumber, readText, realPath } from "./sysfs.ts";

interface Mount {
  readonly numbers: string;
  readonly target: string;
  readonly source: string;
}

/** Why the machine needs the function, one phrase each (`/dev/nvme0n1p2 is mounted on /`); empty where it does not. */
export function usesOf(address: string, paths: HostPaths, operations: HostOperations): string[] {
  const directory = functionDirectory(paths, address);
  const real = realPath(directory);
  if (real === undefined) return [];
  const uses = [...blockUses(real, paths, operations), ...linkUses(real, paths)];
  if (readText(join(directory, "boot_vga")) === "1" && readLinkName(join(directory, "driver")) !== undefined) {
    uses.push("it drives the boot display");
  }
  const vfs = readNumber(join(directory, "sriov_numvfs")) ?? 0;
  if (vfs > 0) uses.push(`it has ${vfs} virtual functions`);
  return uses;
}

function blockUses(real: string, paths: HostPaths, operations: HostOperations): string[] {
  const names = blockDevices(real, paths);
  if (names.size === 0) return [];
  const mounts = readMounts(paths);
  const swaps = readSwaps(paths);
  const uses: string[] = [];
  for (const name of names) {
    const node = join(paths.devRoot, name);
    const numbers = readText(join(paths.sysfsRoot, "class/block", name, "dev"));
    const mounted = mounts.filter((mount) => mount.numbers === numbers || deviceName(mount.source, paths) === name);
    const targets = new Set(mounted.map(({ target }) => target));
    if (targets.size > 0) uses.push(`/dev/${name} is mounted on ${[...targets].slice(0, 3).join(", ")}`);
    else if (swaps.some((swap) => deviceName(swap, paths) === name)) uses.push(`/dev/${name} is swap`);
    else if (operations.claimed(node))
      uses.push(`/dev/${name} is claimed by the kernel (a mount, md, dm, zfs or the like)`);
  }
  return uses;
}

/** Block devices that live on the function, partitions and what is stacked above them included. */
function blockDevices(real: string, paths: HostPaths): Set<string> {
  const all = join(paths.sysfsRoot, "class/block");
  const found = new Set<string>();
  const add = (name: string): void => {
    if (found.has(name)) return;
    found.add(name);
    for (const holder of listNames(join(all, name, "holders"))) add(holder);
  };
  const heads = multipathHeads(real, paths);
  for (const name of listNames(all)) {
    const path = realPath(join(all, name));
    if (path !== undefined && [real, ...heads].some((place) => path.startsWith(`${place}/`))) add(name);
  }
  return found;
}

/** With NVMe multipath the usable block device hangs below the subsystem, not below the function. */
function multipathHeads(real: string, paths: HostPaths): string[] {
  const controllers = listNames(join(real, "nvme"));
  if (controllers.length === 0) return [];
  const subsystems = join(paths.sysfsRoot, "class/nvme-subsystem");
  const ours = listNames(subsystems).filter((name) => {
    return controllers.some((controller) => realPath(join(subsystems, name, controller)) !== undefined);
  });
  return ours.map((name) => realPath(join(subsystems, name))).filter((path) => path !== undefined);
}

/** proc_pid_mountinfo(5): the third field is major:minor, the fifth the target, the source comes second after ` - `. */
function readMounts(paths: HostPaths): Mount[] {
  const lines = (readText(join(paths.procRoot, "self/mountinfo")) ?? "").split("\n");
  return lines.map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const fields = before.split(" ");
    const unescaped = (text = ""): string =>
      text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    return { numbers: fields[2] ?? "", target: unescaped(fields[4]), source: unescaped(after.split(" ")[1]) };
  });
}

function readSwaps(paths: HostPaths): string[] {
  const lines = (readText(join(paths.procRoot, "swaps")) ?? "").split("\n").slice(1);
  return lines.map((line) => line.split(/\s+/)[0] ?? "").filter((name) => name !== "");
}

/** The kernel's name of a block device given by any path in /dev, such as /dev/mapper/root. */
function deviceName(path: string, paths: HostPaths): string | undefined {
  if (!path.startsWith("/dev/")) return undefined;
  const node = resolve(paths.devRoot, path.slice("/dev/".length));
  return basename(realPath(node) ?? node);
}

/** Network links that are up (IFF_UP), with the word that matters most about them. */
function linkUses(real: string, paths: HostPaths): string[] {
  const all = join(paths.sysfsRoot, "class/net");
  const uses: string[] = [];
  for (const name of listNames(all)) {
    const path = realPath(join(all, name));
    if (path === undefined || !path.startsWith(`${real}/`)) continue;
    if (((readNumber(join(all, name, "flags")) ?? 0) & 1) === 0) continue;
    uses.push(`network link ${name} is up${hasDefaultRoute(name, paths) ? " and carries the default route" : ""}`);
  }
  return uses;
}

function hasDefaultRoute(name: string, paths: HostPaths): boolean {
  const routes = (readText(join(paths.procRoot, "net/route")) ?? "").split("\n").slice(1);
  return routes.some((line) => {
    const [link, destination, , , , , , mask] = line.split(/\s+/);
    return link === name && destination === "00000000" && mask === "00000000";
  });
}

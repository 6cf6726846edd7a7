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

/** One use that the machine makes of a function. */
export interface MachineUse {
  /** A phrase, such as `/dev/nvme0n1p2 is mounted on /`. */
  readonly text: string;
  /** The shell command that ends it; `undefined` where the machine would not survive that, or none is known. */
  readonly stop: string | undefined;
}

/** Why the machine needs the function, one phrase each (`/dev/nvme0n1p2 is mounted on /`); empty where it does not. */
export function usesOf(address: string, paths: HostPaths, operations: HostOperations): string[] {
  return machineUses(address, paths, operations).map(({ text }) => text);
}

/** What the machine does with the function, and how to end it; empty where it does nothing. */
export function machineUses(address: string, paths: HostPaths, operations: HostOperations): MachineUse[] {
  const directory = functionDirectory(paths, address);
  const real = realPath(directory);
  if (real === undefined) return [];
  const uses = [...blockUses(real, paths, operations), ...linkUses(real, paths)];
  if (readText(join(directory, "boot_vga")) === "1" && readLinkName(join(directory, "driver")) !== undefined) {
    uses.push({ text: "it drives the boot display", stop: undefined });
  }
  const vfs = readNumber(join(directory, "sriov_numvfs")) ?? 0;
  if (vfs > 0) uses.push({ text: `it has ${vfs} virtual functions`, stop: `sudo ring3 vfs ${address} 0` });
  return uses;
}

/** Without these a machine does not go on: no command is offered that takes them away. */
const VITAL = /^\/(?:boot|efi|etc|home|usr|var|nix)?$/;

function blockUses(real: string, paths: HostPaths, operations: HostOperations): MachineUse[] {
  const names = blockDevices(real, paths);
  if (names.size === 0) return [];
  const mounts = readMounts(paths);
  const swaps = readSwaps(paths);
  const uses: MachineUse[] = [];
  for (const name of names) {
    const node = join(paths.devRoot, name);
    const numbers = readText(join(paths.sysfsRoot, "class/block", name, "dev"));
    const mounted = mounts.filter((mount) => mount.numbers === numbers || deviceName(mount.source, paths) === name);
    const targets = [...new Set(mounted.map(({ target }) => target))];
    if (targets.length > 0) {
      const stop = targets.some((target) => VITAL.test(target))
        ? undefined
        : `sudo umount ${targets.map(quoted).join(" ")}`;
      uses.push({ text: `/dev/${name} is mounted on ${targets.slice(0, 3).join(", ")}`, stop });
    } else if (swaps.some((swap) => deviceName(swap, paths) === name)) {
      uses.push({ text: `/dev/${name} is swap`, stop: `sudo swapoff /dev/${name}` });
    } else if (operations.claimed(node)) {
      const text = `/dev/${name} is claimed by the kernel (a mount, md, dm, zfs or the like)`;
      uses.push({ text, stop: undefined });
    }
  }
  return uses;
}

/** As one word of a shell. */
function quoted(path: string): string {
  return /^[\w/.:@%+-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
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
function linkUses(real: string, paths: HostPaths): MachineUse[] {
  const all = join(paths.sysfsRoot, "class/net");
  const uses: MachineUse[] = [];
  for (const name of listNames(all)) {
    const path = realPath(join(all, name));
    if (path === undefined || !path.startsWith(`${real}/`)) continue;
    if (((readNumber(join(all, name, "flags")) ?? 0) & 1) === 0) continue;
    // Whoever sits at the other end of the default route would saw off the branch.
    const vital = hasDefaultRoute(name, paths);
    uses.push({
      text: `network link ${name} is up${vital ? " and carries the default route" : ""}`,
      stop: vital ? undefined : `sudo ip link set ${name} down`,
    });
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

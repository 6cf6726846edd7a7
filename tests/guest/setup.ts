// Everything a guest needs before it boots, made once and kept in the cache.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { cached, type Progress } from "./cache.ts";
import { initramfs } from "./initramfs.ts";
import { systemdImage } from "./systemd-image.ts";
import { findKernel, type Kernel, type KernelName, NO_IOMMUFD_KERNEL } from "./kernels.ts";
import { GROUPS, packageRoot } from "./packages.ts";

export interface Prepared {
  readonly kernel: Kernel;
  readonly initramfs: string;
  /** The root of QEMU's packages. */
  readonly qemu: string;
  /** What every disk starts with. */
  readonly disk: string;
}

/** The size of every disk of the machine. */
const DISK_BYTES = 64 * 1024 * 1024;

/** What is PID 1 in a guest: the rig's own script over busybox, or Debian's systemd. */
export type GuestInit = "busybox" | "systemd";

/** Fetches and builds what a guest with `kernel` needs; quick when all is there. */
export async function prepare(kernel: KernelName, progress: Progress, init: GuestInit = "busybox"): Promise<Prepared> {
  const qemu = await packageRoot(GROUPS.qemu, progress);
  const filesystem = await packageRoot(GROUPS.filesystem, progress);
  const found = await findKernel(kernel, progress);
  if (found === undefined) throw new Error(NO_IOMMUFD_KERNEL);
  const archive =
    init === "busybox"
      ? await initramfs(found, qemu, filesystem, progress)
      : await systemdImage(found, qemu, await packageRoot(GROUPS.systemd, progress), progress);
  return { kernel: found, initramfs: archive, qemu, disk: await countingDisk() };
}

/** A disk whose 32-bit little-endian words count up from 0: the word at byte `n` is `n / 4`, whatever the block size. */
async function countingDisk(): Promise<string> {
  const directory = await cached("disk-1", (temporary) => {
    const words = new Uint32Array(DISK_BYTES / 4);
    for (let index = 0; index < words.length; index++) words[index] = index;
    writeFileSync(join(temporary, "disk.raw"), words);
    return Promise.resolve();
  });
  return join(directory, "disk.raw");
}

// A Linux system on a disk: what boots it (a kernel, and an initramfs that mounts the disk and goes over to it), and the disk's
// image. The system says what its root is, writes a file, and says that it is done.
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Progress } from "../guest/cache.ts";
import { Cpio } from "../guest/cpio.ts";
import { addBusybox, addModules, kernelModules } from "../guest/initramfs.ts";
import { findKernel, type Kernel, quickKernel } from "../guest/kernels.ts";
import { GROUPS, packageRoot } from "../guest/packages.ts";
import { fileSystemTools } from "./ext4.ts";

/** What the system says. */
export const ROOT_IS = "the system's root is /dev/nvme0n1";
export const DONE = "the system is done";
/** The file that it writes, and what is in it. */
export const WRITTEN = { path: "/written", text: "by a guest\n" } as const;

const IMAGE_MEGABYTES = 32;
const APPLETS = ["sh", "mount", "awk", "sync", "poweroff", "echo"];

/**
 * The initramfs stays: without it, the pages of its programs would be used again for the disk's. QEMU keeps what it has translated of
 * a page where processors are emulated (TCG), and hears nothing of another process that writes to it.
 */
const TO_THE_DISK = `#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done < /modules/order
until [ -e /dev/nvme0n1 ]; do usleep 50000; done
mount -t ext4 /dev/nvme0n1 /disk
mount --move /dev /disk/dev
mount --move /proc /disk/proc
exec chroot /disk /init
`;

const SYSTEM = `#!/bin/sh
export PATH=/bin
echo "the system's root is $(awk '$2 == "/" { root = $1 } END { print root }' /proc/mounts)"
echo "${WRITTEN.text.trim()}" > ${WRITTEN.path}
sync
mount -o remount,ro /
echo "${DONE}"
poweroff -f
`;

export interface DiskSystem {
  readonly image: string;
  /** QEMU's arguments that boot it. */
  readonly qemu: readonly string[];
}

/** Makes both in `directory`. */
export async function diskSystem(directory: string, progress: Progress): Promise<DiskSystem> {
  const name = quickKernel();
  const kernel = await findKernel(name, progress);
  if (kernel === undefined) throw new Error(`the kernel ${name} was there a moment ago`);
  const qemuRoot = await packageRoot(GROUPS.qemu, progress);
  const image = join(directory, "disk.img");
  await makeImage(image, join(directory, "root"), qemuRoot, progress);
  const initramfs = join(directory, "initramfs.cpio");
  writeFileSync(initramfs, await toTheDisk(kernel, qemuRoot));
  const words = "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable";
  return { image, qemu: ["-kernel", kernel.image, "-initrd", initramfs, "-append", words, "-no-reboot"] };
}

async function makeImage(image: string, root: string, qemuRoot: string, progress: Progress): Promise<void> {
  for (const folder of ["bin", "dev", "proc"]) mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(join(qemuRoot, "usr/bin/busybox"), join(root, "bin/busybox"));
  for (const applet of APPLETS) symlinkSync("busybox", join(root, "bin", applet));
  writeFileSync(join(root, "init"), SYSTEM, { mode: 0o755 });
  const run = await fileSystemTools(progress);
  run("mke2fs", ["-q", "-F", "-t", "ext4", "-d", root, image, `${IMAGE_MEGABYTES}M`]);
}

async function toTheDisk(kernel: Kernel, qemuRoot: string): Promise<Uint8Array> {
  const cpio = new Cpio();
  for (const path of ["proc", "dev", "disk", "modules"]) cpio.directory(path);
  cpio.device("dev/console", 5, 1);
  cpio.file("init", TO_THE_DISK, 0o755);
  addBusybox(cpio, join(qemuRoot, "usr/bin/busybox"));
  addModules(cpio, await kernelModules(kernel, qemuRoot, "nvme ext4"));
  return cpio.finish();
}

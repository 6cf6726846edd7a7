// An ext4 file system on a served disk: what the guest does with it, and what the host finds in the image afterwards, with
// e2fsprogs' own tools at both ends.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Progress } from "../guest/cache.ts";
import { GROUPS, packageRoot } from "../guest/packages.ts";

/** Files that the guest writes; their digests are what `writeFiles` prints. */
const FILES = ["numbers", "random"];

/** A script that makes ext4 on `device`, writes files, prints their digests, unmounts and checks. */
export function writeFiles(device: string, megabytes = 4): string {
  return `
    /e2fs/mke2fs -q -F -t ext4 ${device}
    mount -t ext4 ${device} /mnt
    seq 1 50000 > /mnt/numbers
    dd if=/dev/urandom of=/mnt/random bs=256k count=${4 * megabytes}
    sync
    (cd /mnt && sha256sum ${FILES.join(" ")})
    umount /mnt
    /e2fs/e2fsck -fn ${device} > /tmp/fsck 2>&1 || { cat /tmp/fsck; exit 1; }`;
}

/** A script that mounts `device`, reads everything back past the page cache, and prints the digests again. */
export function readFiles(device: string): string {
  return `
    echo 3 > /proc/sys/vm/drop_caches
    mount -t ext4 -o ro ${device} /mnt
    (cd /mnt && sha256sum ${FILES.join(" ")})
    umount /mnt`;
}

/** Runs e2fsprogs' own tools on the host; each call gives what the tool printed, and throws where it fails. */
export async function fileSystemTools(
  progress: Progress,
): Promise<(name: "mke2fs" | "e2fsck" | "debugfs", args: readonly string[]) => Buffer> {
  const root = await packageRoot(GROUPS.filesystem, progress);
  return (name, args) =>
    execFileSync(join(root, "sbin", name), args, {
      env: { LD_LIBRARY_PATH: join(root, "lib/x86_64-linux-gnu"), MKE2FS_CONFIG: join(root, "etc/mke2fs.conf") },
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 2 ** 28,
    });
}

/** Checks the image on the host and compares its files with the digests that the guest printed. */
export async function checkImage(image: string, digests: string, progress: Progress): Promise<void> {
  const run = await fileSystemTools(progress);
  // Throws where it finds anything to repair.
  run("e2fsck", ["-fn", image]);
  const found = FILES.map((name) => {
    const digest = createHash("sha256").update(run("debugfs", ["-R", `cat /${name}`, image]));
    return `${digest.digest("hex")}  ${name}\n`;
  });
  assert.equal(found.join(""), digests);
}

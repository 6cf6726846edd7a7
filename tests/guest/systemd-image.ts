// A root file system whose init is Debian's systemd: packages that are unpacked and never configured, busybox for what they call
// besides, node, and the modules of a kernel where modprobe finds them. All of it is one cpio archive that stays in memory.
// systemd takes an initramfs for an ordinary root, since nothing says that it is one (/etc/initrd-release).
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { command, type Progress } from "./cache.ts";
import type { Cpio } from "./cpio.ts";
import { builtArchive, kernelModules, strippedNode } from "./initramfs.ts";
import type { Kernel } from "./kernels.ts";
import { debianTool } from "./tools.ts";

/** For people, other architectures' consoles, and hardware that no guest has. */
const LEFT_OUT =
  /^(?:proc|sys|dev|tmp)(?:\/|$)|^usr\/share\/(?:doc|man|locale|bash-completion|zsh|fish|lintian|bug|gdb|gcc|cruft|initramfs-tools|mime|systemd\/kbd)|^usr\/lib\/(?:udev\/hwdb\.d|kernel)|^usr\/lib\/systemd\/catalog|^usr\/lib\/x86_64-linux-gnu\/(?:gconv|engines-3|ossl-modules)/;

/**
 * Would make databases that nobody asks, at each boot, since each boot is the first; places that nobody looks at; and udev's look
 * at all that is there at boot, which takes half a minute here: DRIVERS stands in for that.
 */
const MASKED = [
  "dev-hugepages.mount",
  "dev-mqueue.mount",
  "proc-sys-fs-binfmt_misc.automount",
  "sys-fs-fuse-connections.mount",
  "sys-kernel-config.mount",
  "ldconfig.service",
  "systemd-hwdb-update.service",
  "systemd-udev-trigger.service",
  "systemd-journal-catalog-update.service",
  "systemd-update-done.service",
  "getty.target",
];

/** Of the machine's own functions; what comes later is udev's. */
const DRIVERS = "nvme\ne1000e\n";

const USERS = `u user 1000 - /home/user /bin/sh
u other 1001 - /home/other /bin/sh
`;

/** The agent as a service; a stop of it kills nothing that it has started but itself. */
const AGENT = `[Unit]
Description=The rig's hand inside the guest
After=multi-user.target

[Service]
ExecStart=/usr/lib/ring3-rig/start
StandardOutput=journal+console
KillMode=process

[Install]
WantedBy=multi-user.target
`;

/** Returns the path of the archive for `kernel`, made of the packages below `root`; it is built once for the same contents. */
export async function systemdImage(
  kernel: Kernel,
  qemuRoot: string,
  root: string,
  progress: Progress,
): Promise<string> {
  const start = join(import.meta.dirname, "systemd-start.sh");
  const busybox = join(qemuRoot, "usr/bin/busybox");
  const own = ["systemd-image.ts", "initramfs.ts"].map((name) => join(import.meta.dirname, name));
  const systemd = join(root, "usr/lib/systemd/systemd");
  const inputs = [...own, start, kernel.image, busybox, systemd];
  return await builtArchive(`systemd-${kernel.name}`, inputs, async (cpio, temporary) => {
    progress(`building the root file system with systemd for the ${kernel.name} kernel`);
    cpio.tree("", root, (path) => !LEFT_OUT.test(path));
    for (const path of ["proc", "sys", "dev", "run", "share", "ring3", "root", "mnt", "var/log", "var/tmp"]) {
      cpio.directory(path);
    }
    cpio.directory("tmp", 0o1777);
    for (const path of ["home/user", "home/other"]) cpio.directory(path, 0o777);
    cpio.device("dev/console", 5, 1);
    cpio.symlink("init", "usr/lib/systemd/systemd");
    addConfiguration(cpio, start);
    addBusybox(cpio, busybox, root);
    cpio.file("usr/bin/node", await strippedNode(temporary), 0o755);
    await addModules(cpio, kernel, qemuRoot, root, temporary);
  });
}

function addConfiguration(cpio: Cpio, start: string): void {
  // Without a number of its own the machine would be taken for one that boots the first time, and enable what there is.
  cpio.file("etc/machine-id", "72696e673372696e673372696e673300\n");
  cpio.file("etc/hostname", "ring3\n");
  cpio.file("etc/sysusers.d/ring3.conf", USERS);
  cpio.file("etc/modules-load.d/ring3.conf", DRIVERS);
  cpio.file("usr/lib/ring3-rig/start", readFileSync(start), 0o755);
  const units = "etc/systemd/system";
  cpio.file(`${units}/ring3-rig.service`, AGENT);
  cpio.symlink(`${units}/multi-user.target.wants/ring3-rig.service`, "../ring3-rig.service");
  cpio.symlink(`${units}/default.target`, "/usr/lib/systemd/system/multi-user.target");
  for (const name of MASKED) cpio.symlink(`${units}/${name}`, "/dev/null");
}

/** Applets that no package brings as a program of its own. */
function addBusybox(cpio: Cpio, busybox: string, root: string): void {
  cpio.file("usr/bin/busybox", readFileSync(busybox), 0o755);
  const there = new Set(["usr/bin", "usr/sbin"].flatMap((path) => readdirSync(join(root, path))));
  for (const applet of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n")) {
    if (applet !== "busybox" && !there.has(applet)) cpio.symlink(`usr/bin/${applet}`, "busybox");
  }
}

/** The modules with depmod's tables, by which udev finds the driver of a function. */
async function addModules(
  cpio: Cpio,
  kernel: Kernel,
  qemuRoot: string,
  root: string,
  temporary: string,
): Promise<void> {
  const release = basename(kernel.modules);
  const base = mkdtempSync(join(temporary, "modules-"));
  const place = join("lib/modules", release);
  mkdirSync(join(base, place), { recursive: true });
  for (const { name, contents } of await kernelModules(kernel, qemuRoot)) {
    writeFileSync(join(base, place, `${name}.ko`), contents);
  }
  const { program, args } = debianTool(root, "depmod");
  await command(program, [...args, "-b", base, release]);
  cpio.tree(join("usr", place), join(base, place));
  rmSync(base, { recursive: true });
}

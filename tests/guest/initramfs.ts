// The guest's root file system: busybox, node with its libraries, and the modules of one kernel, as one cpio archive.
// It holds nothing of the project, so it is built once for a kernel; the staged tree comes over the share.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { copyFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached, command, keepOnly, type Progress } from "./cache.ts";
import { Cpio } from "./cpio.ts";
import type { Kernel } from "./kernels.ts";
import { debianTool } from "./tools.ts";

/** Modules wanted where the kernel has them as modules; what they depend on is loaded first. */
const MODULES =
  "virtio_pci 9pnet_virtio 9p vfio vfio_iommu_type1 vfio_pci_core vfio_pci nvme e1000e igb igbvf virtio_blk virtio_net " +
  "uio_pci_generic af_packet tun ext4";

const PASSWD = `root:x:0:0:root:/root:/bin/sh
user:x:1000:1000:user:/home/user:/bin/sh
other:x:1001:1001:other:/home/other:/bin/sh
`;
const GROUP = "root:x:0:\nuser:x:1000:\nother:x:1001:\n";

/** Returns the path of the initramfs for `kernel`, building it once for the same contents. */
export async function initramfs(
  kernel: Kernel,
  qemuRoot: string,
  filesystemRoot: string,
  progress: Progress,
): Promise<string> {
  const init = join(import.meta.dirname, "init.sh");
  const busybox = join(qemuRoot, "usr/bin/busybox");
  return await builtArchive(
    kernel.name,
    [init, import.meta.filename, kernel.image, busybox],
    async (cpio, temporary) => {
      progress(`building the initramfs for the ${kernel.name} kernel`);
      skeleton(cpio, readFileSync(init));
      addBusybox(cpio, busybox);
      await addNode(cpio, temporary);
      addFilesystemTools(cpio, filesystemRoot);
      addLimitsTools(cpio);
      addModules(cpio, await kernelModules(kernel, qemuRoot));
    },
  );
}

/** The archive that `fill` makes out of the files `inputs`, made once for them as they are; only the last of a `name` is kept. */
export async function builtArchive(
  name: string,
  inputs: readonly string[],
  fill: (cpio: Cpio, temporary: string) => Promise<void>,
): Promise<string> {
  const hash = createHash("sha256");
  for (const path of [process.execPath, ...inputs]) {
    const { size, mtimeMs } = statSync(path);
    // The rig's own files are newer with each checkout.
    const state = path.startsWith(import.meta.dirname) ? readFileSync(path, "utf8") : [size, mtimeMs];
    hash.update(JSON.stringify([path, state]));
  }
  const directory = await cached(`initramfs/${name}-${hash.digest("hex").slice(0, 12)}`, async (temporary) => {
    const cpio = new Cpio();
    await fill(cpio, temporary);
    await writeFile(join(temporary, "initramfs.cpio"), cpio.finish());
  });
  await keepOnly(directory, `${name}-`);
  return join(directory, "initramfs.cpio");
}

function skeleton(cpio: Cpio, init: Buffer): void {
  for (const path of ["proc", "sys", "dev", "run", "share", "ring3", "modules", "root", "mnt", "tmp", "lib", "lib64"]) {
    cpio.directory(path);
  }
  for (const path of ["home/user", "home/other"]) cpio.directory(path, 0o777);
  cpio.device("dev/console", 5, 1);
  cpio.device("dev/null", 1, 3);
  cpio.file("etc/passwd", PASSWD);
  cpio.file("etc/group", GROUP);
  cpio.file("init", init, 0o755);
}

/** Links for every applet are made here: `busybox --install` in the guest costs a second of emulated time. */
export function addBusybox(cpio: Cpio, busybox: string): void {
  cpio.file("bin/busybox", readFileSync(busybox), 0o755);
  for (const applet of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n")) {
    if (applet !== "busybox") cpio.symlink(`bin/${applet}`, "busybox");
  }
  cpio.directory("usr");
  cpio.symlink("usr/bin", "../bin");
  cpio.symlink("sbin", "bin");
}

async function addNode(cpio: Cpio, temporary: string): Promise<void> {
  cpio.file("bin/node", await strippedNode(temporary), 0o755);
  addLibraries(cpio, process.execPath);
  cpio.file("etc/ld.so.conf", "/lib\n");
}

/** This Node's program. Without strip the guest only takes 20 MB more. */
export async function strippedNode(temporary: string): Promise<Buffer> {
  const node = join(temporary, "node");
  await copyFile(process.execPath, node);
  await command("strip", [node]).catch(() => undefined);
  const program = readFileSync(node);
  await rm(node);
  return program;
}

/** mke2fs and e2fsck in /e2fs: busybox makes no ext4 and checks nothing. */
function addFilesystemTools(cpio: Cpio, root: string): void {
  cpio.directory("e2fs");
  for (const name of ["mke2fs", "e2fsck"]) {
    const path = join(root, "sbin", name);
    cpio.file(`e2fs/${name}`, readFileSync(path), 0o755);
    addLibraries(cpio, path, join(root, "lib/x86_64-linux-gnu"));
  }
  cpio.file("etc/mke2fs.conf", readFileSync(join(root, "etc/mke2fs.conf")));
}

/**
 * What every Debian has of util-linux and busybox has not: prlimit, the doctor's way to raise a limit, and in /util-linux the
 * setpriv that takes capabilities out of the bounding set, as systemd does for a service.
 */
function addLimitsTools(cpio: Cpio): void {
  for (const [path, place] of [
    ["/usr/bin/prlimit", "bin/prlimit"],
    ["/usr/bin/setpriv", "util-linux/setpriv"],
  ] as const) {
    cpio.file(place, readFileSync(path), 0o755);
    addLibraries(cpio, path);
  }
}

/** The libraries of a program, each once; first from `folder`. */
function addLibraries(cpio: Cpio, program: string, folder = ""): void {
  const libraries = execFileSync("ldd", [program], { encoding: "utf8", env: { LD_LIBRARY_PATH: folder } });
  for (const [, path = ""] of libraries.matchAll(/(\/\S+) \(0x/g)) {
    const name = path.includes("/ld-linux") ? `lib64/${basename(path)}` : `lib/${basename(path)}`;
    if (!cpio.has(name)) cpio.file(name, readFileSync(path), 0o755);
  }
}

/** A module of the kernel, unpacked. */
interface KernelModule {
  readonly name: string;
  readonly contents: Buffer;
}

/** Copies the modules, and the order in which insmod takes them. */
export function addModules(cpio: Cpio, modules: readonly KernelModule[]): void {
  for (const { name, contents } of modules) cpio.file(`modules/${name}.ko`, contents);
  cpio.file("modules/order", modules.map(({ name }) => `${name}.ko\n`).join(""));
}

/** The modules of `names`, where the kernel has them as modules: each after those that it depends on. */
export async function kernelModules(
  kernel: Kernel,
  qemuRoot: string,
  names: string = MODULES,
): Promise<readonly KernelModule[]> {
  const found = new Map<string, string>();
  if (existsSync(kernel.modules)) {
    for (const path of readdirSync(kernel.modules, { recursive: true, encoding: "utf8" })) {
      const match = /([^/]+)\.ko(?:\.xz)?$/.exec(path);
      if (match !== null) found.set((match[1] ?? "").replaceAll("-", "_"), join(kernel.modules, path));
    }
  }
  const modules: KernelModule[] = [];
  const add = async (name: string): Promise<void> => {
    const path = found.get(name);
    if (path === undefined) return;
    found.delete(name);
    const contents = path.endsWith(".xz") ? await unxz(path, qemuRoot) : readFileSync(path);
    const depends = /\0depends=([^\0]*)\0/.exec(contents.toString("latin1"))?.[1] ?? "";
    for (const dependency of depends.split(",")) await add(dependency.replaceAll("-", "_"));
    modules.push({ name, contents });
  };
  for (const name of names.split(" ")) await add(name);
  return modules;
}

async function unxz(path: string, qemuRoot: string): Promise<Buffer> {
  const { program, args } = debianTool(qemuRoot, "xz");
  return execFileSync(program, [...args, "-dc", path], { maxBuffer: 1 << 28 });
}

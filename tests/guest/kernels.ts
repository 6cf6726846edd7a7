// The two kernels of the guest: Debian's own, and a small one with IOMMUFD, which Debian's lacks.
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { cacheDirectory, type Progress } from "./cache.ts";
import { GROUPS, packageRoot } from "./packages.ts";

export type KernelName = "debian" | "iommufd";

export interface Kernel {
  readonly name: KernelName;
  readonly image: string;
  /** The directory below which its modules lie, plain or xz-compressed. */
  readonly modules: string;
}

/** Why a suite for IOMMUFD does not run. */
export const NO_IOMMUFD_KERNEL = "no kernel with IOMMUFD (npm run guest:kernel builds one)";

/** Where `npm run guest:kernel` leaves its kernel. */
export function builtKernelDirectory(): string {
  return join(cacheDirectory(), "kernel-iommufd");
}

/** Debian's kernel, fetched when it is not there yet. */
async function debianKernel(progress: Progress): Promise<Kernel> {
  const root = await packageRoot(GROUPS.kernel, progress);
  const modules = join(root, "usr/lib/modules");
  const version = readdirSync(modules)[0];
  if (version === undefined) throw new Error(`no kernel in ${root}`);
  const images = [join(modules, version, "vmlinuz"), join(root, "boot", `vmlinuz-${version}`)];
  const image = images.find((path) => existsSync(path));
  if (image === undefined) throw new Error(`no kernel image in ${root}`);
  return { name: "debian", image, modules: join(modules, version) };
}

/** The small kernel with IOMMUFD, or `undefined` when nobody built one; `RING3_GUEST_KERNEL` names its bzImage. */
export function iommufdKernel(): Kernel | undefined {
  const given = process.env["RING3_GUEST_KERNEL"];
  const shared = join(import.meta.dirname, "../../../shared/guest/bzImage");
  const candidates = given === undefined ? [join(builtKernelDirectory(), "bzImage"), shared] : [given];
  const image = candidates.find((path) => existsSync(path));
  return image === undefined ? undefined : { name: "iommufd", image, modules: join(dirname(image), "modules") };
}

/** The kernel that boots fastest, of those that are there. */
export function quickKernel(): KernelName {
  return iommufdKernel() === undefined ? "debian" : "iommufd";
}

/** The named kernel, or `undefined` where there is none. */
export async function findKernel(name: KernelName, progress: Progress): Promise<Kernel | undefined> {
  return name === "debian" ? await debianKernel(progress) : iommufdKernel();
}

// Where the machine is looked at. Every path is injectable, so that a test, or a snapshot taken on another machine, is
// read by the same code as the real /sys.
import { join } from "node:path";

/** The directories that hold what the kernel tells. */
export interface HostPaths {
  /** `/sys` */
  readonly sysfsRoot: string;
  /** `/dev` */
  readonly devRoot: string;
  /** `/proc` */
  readonly procRoot: string;
  /** `/run`: ring3 keeps in `ring3/` below it what it will give back. */
  readonly runRoot: string;
  /** `/etc`: passwd and group. */
  readonly etcRoot: string;
}

/** The paths of the machine whose file system lies below `root`; `/` is this machine. */
export function hostPaths(root = "/"): HostPaths {
  return {
    sysfsRoot: join(root, "sys"),
    devRoot: join(root, "dev"),
    procRoot: join(root, "proc"),
    runRoot: join(root, "run"),
    etcRoot: join(root, "etc"),
  };
}

/** This machine. */
export const thisMachine: HostPaths = hostPaths();

export function functionDirectory(paths: HostPaths, address: string): string {
  return join(paths.sysfsRoot, "bus/pci/devices", address);
}

export function driverDirectory(paths: HostPaths, driver: string): string {
  return join(paths.sysfsRoot, "bus/pci/drivers", driver);
}

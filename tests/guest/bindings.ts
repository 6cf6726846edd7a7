// Gives the machine's functions their drivers, as root inside the guest, and the VFIO nodes to uid 1000.
// It can be repeated: whatever a suite left behind, afterwards the machine is as machine.ts says.
import { chownSync, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { messageOf } from "ring3/binary";
import { FUNCTIONS, type GuestFunction, VIRTUAL_FUNCTIONS } from "./machine.ts";

const PCI = "/sys/bus/pci";
const USER = 1000;
const PROBES = 20;
const PROBE_PAUSE_MS = 100;

/** Binds one function to `driver` (`none`: leaves it without one) and hands its VFIO nodes to `uid`. */
export function bind(address: string, driver: string, uid: number = USER): void {
  const device = join(PCI, "devices", address);
  if (driverOf(address) !== driver) {
    if (driverOf(address) !== "none") writeFileSync(join(device, "driver/unbind"), address);
    // A line break clears the override.
    writeFileSync(join(device, "driver_override"), driver === "none" ? "\n" : driver);
    // A function that was plugged in a moment ago may still be in the kernel's hands.
    for (let attempt = 0; driver !== "none" && driverOf(address) !== driver; attempt++) {
      if (attempt === PROBES) throw new Error(`${address}: ${driver} did not take it`);
      if (attempt > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PROBE_PAUSE_MS);
      writeFileSync(join(PCI, "drivers_probe"), address);
    }
    if (driverOf(address) !== driver) throw new Error(`${address}: ${driverOf(address)} has it still`);
  }
  if (driver === "vfio-pci") for (const node of vfioNodes(address)) chownSync(node, uid, uid);
}

/** The name of the driver that holds a function, or `none`. */
export function driverOf(address: string): string {
  const link = join(PCI, "devices", address, "driver");
  return existsSync(link) ? basename(readlinkSync(link)) : "none";
}

/** The nodes that a user needs for a function: its group's, and with IOMMUFD its own. */
export function vfioNodes(address: string): string[] {
  const device = join(PCI, "devices", address);
  const nodes: string[] = [];
  const group = join(device, "iommu_group");
  if (existsSync(group)) nodes.push(`/dev/vfio/${basename(readlinkSync(group))}`);
  const cdev = join(device, "vfio-dev");
  if (existsSync(cdev)) nodes.push(...readdirSync(cdev).map((name) => `/dev/vfio/devices/${name}`));
  return nodes.filter((node) => existsSync(node));
}

/** Brings every function of the machine to its standard driver; returns what could not be done. */
export function bindStandard(): string[] {
  const problems: string[] = [];
  const attempt = (what: () => void): void => {
    try {
      what();
    } catch (error) {
      problems.push(messageOf(error));
    }
  };
  // A machine without IOMMU: vfio-pci takes functions only in the mode that the name of the switch warns of.
  const unsafe = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
  if (readdirSync("/sys/kernel/iommu_groups").length === 0 && existsSync(unsafe)) writeFileSync(unsafe, "1");
  // Debian's kernel has a hotplug driver for the conventional bus's bridge, which would keep that group from user space.
  const hotplug = join(PCI, "drivers/shpchp");
  const bridges = existsSync(hotplug) ? readdirSync(hotplug).filter((name) => name.startsWith("0000:")) : [];
  for (const bridge of bridges) attempt(() => writeFileSync(join(hotplug, "unbind"), bridge));
  const { parent, count } = VIRTUAL_FUNCTIONS;
  attempt(() => bind(parent, FUNCTIONS.igb.driver));
  attempt(() => makeVirtualFunctions(parent, count));
  const functions: readonly GuestFunction[] = Object.values(FUNCTIONS);
  if (!functions.every(({ address }) => existsSync(join(PCI, "devices", address)))) {
    // Someone removed it through sysfs, or the slot's driver took the resumed device for another one.
    writeFileSync(join(PCI, "drivers_autoprobe"), "0");
    writeFileSync(join(PCI, "rescan"), "1");
  }
  for (const { address, driver } of functions) {
    if (existsSync(join(PCI, "devices", address))) attempt(() => bind(address, driver));
    else problems.push(`${address}: not there`);
  }
  if (existsSync("/dev/iommu")) chownSync("/dev/iommu", USER, USER);
  writeFileSync(join(PCI, "drivers_autoprobe"), "1");
  return problems;
}

function makeVirtualFunctions(parent: string, count: number): void {
  const device = join(PCI, "devices", parent);
  const made = Number(readFileSync(join(device, "sriov_numvfs"), "utf8"));
  if (made === count) return;
  writeFileSync(join(device, "sriov_drivers_autoprobe"), "0");
  if (made !== 0) writeFileSync(join(device, "sriov_numvfs"), "0");
  writeFileSync(join(device, "sriov_numvfs"), String(count));
}

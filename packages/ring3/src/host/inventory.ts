// The PCI functions of the machine as sysfs tells them. Reading needs no privilege and touches no device register.
import { statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { PciAddress } from "../pci/address.ts";
import { functionDirectory, type HostPaths, thisMachine } from "./paths.ts";
import { listNames, present, readLinkName, readNumber, readText, realPath } from "./sysfs.ts";

/** A run of the function's `resource` file: BARs 0 to 5, then the expansion ROM as index 6. */
export interface HostResource {
  readonly index: number;
  /** CPU physical address of the first byte; 0 where the kernel assigned none. */
  readonly start: number;
  readonly sizeBytes: number;
  readonly kind: "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
}

/** Speed in the kernel's words (`8.0 GT/s PCIe`) and width in lanes. */
export interface HostLink {
  readonly currentSpeed: string | undefined;
  readonly maxSpeed: string | undefined;
  readonly currentWidth: number | undefined;
  readonly maxWidth: number | undefined;
}

/** What a physical function says about its virtual functions. */
export interface HostSriov {
  readonly totalVfs: number;
  readonly enabledVfs: number;
  readonly driversAutoprobe: boolean;
  /** Device id of the virtual functions. */
  readonly vfDeviceId: number | undefined;
  /** Addresses of the virtual functions that exist, in order. */
  readonly virtualFunctions: readonly string[];
}

/** A PCI function of this machine. */
export interface HostFunction {
  /** `DDDD:BB:DD.F`. */
  readonly address: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly revision: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  readonly driver: string | undefined;
  /** The only driver that may bind, where one was named. */
  readonly driverOverride: string | undefined;
  readonly iommuGroup: number | undefined;
  /** `undefined` where the machine has one node or does not say. */
  readonly numaNode: number | undefined;
  /** How the kernel may reset it, best first; empty where it cannot. */
  readonly resetMethods: readonly string[];
  readonly link: HostLink | undefined;
  readonly sriov: HostSriov | undefined;
  /** The physical function, where this one is virtual. */
  readonly physicalFunction: string | undefined;
  /** `D0`, `D3hot`, ..., as the kernel last knew it; reading does not wake the function. */
  readonly powerState: string | undefined;
  /** Whether a driver enabled it. */
  readonly enabled: boolean;
  readonly resources: readonly HostResource[];
  /** Whether the firmware showed its boot screen on it. */
  readonly bootVga: boolean;
  /** Name of its character device of the iommufd interface, `vfio0`, while it is bound to a VFIO driver. */
  readonly vfioDevice: string | undefined;
  /** 256, or 4096 where the extended space is reachable. */
  readonly configSizeBytes: number;
  /** Whether it is a bridge: header type 1 or 2, which VFIO never drives and never needs to. */
  readonly bridge: boolean;
  /** Address of the bridge above it, `undefined` on a root bus. */
  readonly parent: string | undefined;
}

const FULL = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

/** The function's address as sysfs spells it: lower case, with the domain. Throws `ADDRESS_INVALID`. */
export function sysfsAddress(text: string): string {
  return PciAddress.parse(text.trim()).toString();
}

/** Every PCI function, by address. A function that disappears while it is read is left out. */
export function listFunctions(paths: HostPaths = thisMachine): HostFunction[] {
  const names = listNames(join(paths.sysfsRoot, "bus/pci/devices")).filter((name) => FULL.test(name));
  return names.map((name) => read(name, paths)).filter((found) => found !== undefined);
}

/** The function at `address`. Throws `FUNCTION_NOT_FOUND` or `ADDRESS_INVALID`. */
export function readFunction(address: string, paths: HostPaths = thisMachine): HostFunction {
  const name = sysfsAddress(address);
  const found = read(name, paths);
  if (found !== undefined) return found;
  const count = listNames(join(paths.sysfsRoot, "bus/pci/devices")).length;
  const seen = count === 0 ? "the kernel lists none at all" : `the kernel lists ${count}: see ring3 ls`;
  throw new Ring3Error("FUNCTION_NOT_FOUND", `there is no PCI function ${name} on this machine; ${seen}`);
}

/** The driver that is bound now. */
export function currentDriver(paths: HostPaths, address: string): string | undefined {
  return readLinkName(join(functionDirectory(paths, address), "driver"));
}

/** The driver named in `driver_override`; the kernel prints `(null)` for none. */
export function currentOverride(paths: HostPaths, address: string): string | undefined {
  const text = readText(join(functionDirectory(paths, address), "driver_override"));
  return text === undefined || text === "" || text === "(null)" ? undefined : text;
}

function read(address: string, paths: HostPaths): HostFunction | undefined {
  const directory = functionDirectory(paths, address);
  const at = (name: string): string => join(directory, name);
  const vendorId = readNumber(at("vendor"));
  const deviceId = readNumber(at("device"));
  const classCode = readNumber(at("class"));
  if (vendorId === undefined || deviceId === undefined || classCode === undefined) return undefined;
  const group = readLinkName(at("iommu_group"));
  const node = readNumber(at("numa_node"));
  return {
    address,
    vendorId,
    deviceId,
    subsystemVendorId: readNumber(at("subsystem_vendor")) ?? 0,
    subsystemId: readNumber(at("subsystem_device")) ?? 0,
    revision: readNumber(at("revision")) ?? 0,
    classCode,
    driver: currentDriver(paths, address),
    driverOverride: currentOverride(paths, address),
    iommuGroup: group !== undefined && /^\d+$/.test(group) ? Number(group) : undefined,
    numaNode: node !== undefined && node >= 0 ? node : undefined,
    resetMethods: (readText(at("reset_method")) ?? "").split(/\s+/).filter((method) => method !== ""),
    link: readLink(directory),
    sriov: readSriov(directory),
    physicalFunction: readLinkName(at("physfn")),
    powerState: readText(at("power_state")),
    enabled: (readNumber(at("enable")) ?? 0) > 0,
    resources: parseResources(readText(at("resource")) ?? ""),
    bootVga: readText(at("boot_vga")) === "1",
    vfioDevice: listNames(at("vfio-dev")).find((name) => /^vfio\d+$/.test(name)),
    configSizeBytes: configSize(at("config")),
    bridge: classCode >>> 16 === 0x06 && isBridgeClass((classCode >>> 8) & 0xff),
    parent: parentBridge(directory),
  };
}

/** Subclasses of 06h whose functions have a bridge header: PCI, PCMCIA, CardBus, RACEway and semi-transparent bridges. */
function isBridgeClass(subclass: number): boolean {
  return subclass === 0x04 || subclass === 0x05 || subclass === 0x07 || subclass === 0x08 || subclass === 0x09;
}

function readLink(directory: string): HostLink | undefined {
  const link = {
    currentSpeed: speed(readText(join(directory, "current_link_speed"))),
    maxSpeed: speed(readText(join(directory, "max_link_speed"))),
    currentWidth: width(readNumber(join(directory, "current_link_width"))),
    maxWidth: width(readNumber(join(directory, "max_link_width"))),
  };
  return Object.values(link).some((value) => value !== undefined) ? link : undefined;
}

function speed(text: string | undefined): string | undefined {
  return text === undefined || /unknown/i.test(text) ? undefined : text;
}

/** The kernel writes 255 for a width that it does not know. */
function width(lanes: number | undefined): number | undefined {
  return lanes === undefined || lanes === 0 || lanes > 32 ? undefined : lanes;
}

function readSriov(directory: string): HostSriov | undefined {
  const totalVfs = readNumber(join(directory, "sriov_totalvfs"));
  if (totalVfs === undefined) return undefined;
  const vfDevice = readText(join(directory, "sriov_vf_device"));
  const links = listNames(directory)
    .filter((name) => /^virtfn\d+$/.test(name))
    .sort((a, b) => Number(a.slice(6)) - Number(b.slice(6)));
  return {
    totalVfs,
    enabledVfs: readNumber(join(directory, "sriov_numvfs")) ?? 0,
    driversAutoprobe: readText(join(directory, "sriov_drivers_autoprobe")) !== "0",
    vfDeviceId: vfDevice !== undefined && /^[0-9a-f]+$/i.test(vfDevice) ? Number.parseInt(vfDevice, 16) : undefined,
    virtualFunctions: links.map((name) => readLinkName(join(directory, name))).filter((name) => name !== undefined),
  };
}

/** `resource` has a line `start end flags` for each region; flags are `IORESOURCE_*` of include/linux/ioport.h. */
function parseResources(text: string): HostResource[] {
  const found: HostResource[] = [];
  for (const [index, line] of text.split("\n").slice(0, 7).entries()) {
    const [start = 0, end = 0, flags = 0] = line.trim().split(/\s+/).map(Number);
    if (!(flags > 0) || !(end >= start)) continue;
    // The flag bits above 2^32 do not matter here, and `&` works on the low 32.
    found.push({
      index,
      start,
      sizeBytes: end === 0 ? 0 : end - start + 1,
      kind: (flags & 0x100) !== 0 ? "io" : (flags & 0x100000) !== 0 ? "memory64" : "memory32",
      prefetchable: (flags & 0x2000) !== 0,
    });
  }
  return found;
}

/** The size of the `config` file, which is the size of config space, whoever asks. */
function configSize(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}

/** Address of the bridge above the function whose directory this is; `undefined` on a root bus. */
export function parentBridge(directory: string): string | undefined {
  const real = realPath(directory);
  if (real === undefined) return undefined;
  const parent = basename(dirname(real));
  return FULL.test(parent) && present(join(dirname(real), "vendor")) ? parent : undefined;
}

// Writes functions as a directory that `lspci -O sysfs.path=DIR` and `setpci` take for /sys/bus/pci. What is not known is left
// out, since the readers take an empty file for a zero. `config` can be written to: a stand-in for the device's own.
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type AccessedFunction, type FunctionResource, readConfig } from "../pci/access.ts";

/** Regions that every function's `resource` has: six BARs and the ROM. */
const REGIONS = 7;

export interface SysfsTreeOptions {
  /** Replaces functions that the directory has already. */
  readonly replace?: boolean;
}

/** Writes `functions` below `directory`. Throws `TREE_EXISTS`, and writes nothing, where one of them is there already; `TREE_UNWRITABLE`. */
export function writeSysfsTree(
  directory: string,
  functions: readonly AccessedFunction[],
  { replace = false }: SysfsTreeOptions = {},
): void {
  for (const { address } of functions) {
    const place = join(directory, "devices", address.toString());
    if (!existsSync(place)) continue;
    if (!replace) {
      throw new Ring3Error("TREE_EXISTS", `${place} is there already: name another directory, or replace it (--force)`);
    }
    rmSync(place, { recursive: true });
  }
  for (const fn of functions) writeFunction(directory, fn);
}

function writeFunction(directory: string, fn: AccessedFunction): void {
  const place = join(directory, "devices", fn.address.toString());
  makeDirectory(place);
  const bytes = readConfig(fn);
  writeFileSync(join(place, "config"), bytes);
  for (const [name, text] of Object.entries(attributesOf(fn, bytes))) {
    if (text !== undefined) writeFileSync(join(place, name), `${text}\n`);
  }
  const { driver, iommuGroup, physicalSlot } = fn.facts;
  // As in sysfs: a link whose last word is the name, to a directory that is there, since it is followed.
  const named = { driver: ["drivers", driver], iommu_group: ["iommu_groups", iommuGroup] } as const;
  for (const [link, [folder, name]] of Object.entries(named)) {
    if (name === undefined) continue;
    makeDirectory(join(directory, folder, name));
    symlinkSync(`../../${folder}/${name}`, join(place, link));
  }
  for (const irq of fn.facts.messageIrqs ?? []) {
    makeDirectory(join(place, "msi_irqs"));
    writeFileSync(join(place, "msi_irqs", String(irq)), "msi\n");
  }
  if (physicalSlot !== undefined) {
    const slot = join(directory, "slots", physicalSlot);
    makeDirectory(slot);
    writeFileSync(join(slot, "address"), `${fn.address.toString().replace(/\.\d$/, "")}\n`);
  }
  const vpd = fn.facts.readVpd?.();
  if (vpd !== undefined && vpd.length > 0) writeFileSync(join(place, "vpd"), vpd);
}

/** Node's own recursive call never ends where a file system takes no directories and says ENOENT, as /proc does. */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  if (dirname(path) !== path) makeDirectory(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
    throw new Ring3Error(
      "TREE_UNWRITABLE",
      `mkdir ${path} failed with ${errno}: name a directory that you may write to`,
      {
        errno,
        call: `mkdir ${path}`,
        cause: error,
      },
    );
  }
}

function attributesOf({ facts }: AccessedFunction, bytes: Uint8Array): Record<string, string | undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const word = (at: number): number => view.getUint16(at, true);
  const hex = (value: number | undefined, digits: number): string | undefined =>
    value === undefined ? undefined : `0x${value.toString(16).padStart(digits, "0")}`;
  return {
    vendor: hex(facts.vendorId ?? word(0), 4),
    device: hex(facts.deviceId ?? word(2), 4),
    class: hex(facts.classCode ?? view.getUint32(8, true) >>> 8, 6),
    revision: hex(facts.revision ?? view.getUint8(8), 2),
    subsystem_vendor: hex(facts.subsystemVendorId, 4),
    subsystem_device: hex(facts.subsystemId, 4),
    resource: formatResources(facts.resources ?? []),
    irq: String(facts.irq ?? 0),
    numa_node: facts.numaNode === undefined ? undefined : String(facts.numaNode),
    modalias: facts.modalias,
    label: facts.label,
    rcd_link_cap: facts.rcdLink?.capabilities.toString(16),
    rcd_link_ctrl: facts.rcdLink?.control.toString(16),
    rcd_link_status: facts.rcdLink?.status.toString(16),
  };
}

function formatResources(resources: readonly FunctionResource[]): string {
  const hex = (value: bigint): string => `0x${value.toString(16).padStart(16, "0")}`;
  return Array.from({ length: Math.max(REGIONS, resources.length) }, (_, index) => {
    const { start, end, flags } = resources[index] ?? { start: 0n, end: 0n, flags: 0n };
    return `${hex(start)} ${hex(end)} ${hex(flags)}`;
  }).join("\n");
}

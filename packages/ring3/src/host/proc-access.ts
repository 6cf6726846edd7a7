// The access method over /proc/bus/pci, which kernels have without sysfs too: config space as the files BUS/DEVICE.FUNCTION,
// addresses and sizes from the list `devices`. The list has no domains, so its lines count only where one function fits.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import {
  type AccessedFunction,
  type AccessMethod,
  type FunctionFacts,
  type FunctionResource,
  ResourceFlag,
} from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import { FileConfig, OpenConfigFile } from "./config-file.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { listNames, readText } from "./sysfs.ts";

/** The functions of /proc/bus/pci, by address, or those asked for in their order. Throws `FUNCTION_NOT_FOUND`. */
export function procAccess({
  paths = thisMachine,
  addresses,
}: {
  readonly paths?: HostPaths;
  readonly addresses?: readonly PciAddress[];
} = {}): AccessMethod {
  const directory = join(paths.procRoot, "bus/pci");
  const files = configFiles(directory);
  if (files.size === 0) {
    throw new Ring3Error(
      "ACCESS_UNAVAILABLE",
      `${directory} lists no function: this kernel has no /proc/bus/pci (CONFIG_PROC_FS, CONFIG_PCI); sysfs has the same`,
    );
  }
  const all = [...files.keys()].map((text) => PciAddress.parse(text)).toSorted((a, b) => PciAddress.compare(a, b));
  const lines = parseProcDevices(readText(join(directory, "devices")) ?? "");
  const file = new OpenConfigFile();
  const functions = (addresses ?? all).map((address): AccessedFunction => {
    const path = files.get(address.toString());
    if (path === undefined)
      throw new Ring3Error("FUNCTION_NOT_FOUND", `there is no PCI function ${address.toString()} in ${directory}`);
    const unique = all.filter(({ routingId }) => routingId === address.routingId).length === 1;
    const facts = unique ? (lines.get(address.routingId) ?? {}) : {};
    return { address, method: "proc", config: new FileConfig(path, file), facts };
  });
  return { name: "proc", functions, [Symbol.dispose]: () => file.close() };
}

/** Paths by address; buses beyond domain 0 are called DOMAIN:BUS. */
function configFiles(directory: string): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const bus of listNames(directory)) {
    if (!/^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}$/.test(bus)) continue;
    for (const name of listNames(join(directory, bus))) {
      const text = `${bus}:${name}`;
      if (PciAddress.accepts(text)) files.set(PciAddress.parse(text).toString(), join(directory, bus, name));
    }
  }
  return files;
}

/**
 * Lines of hexadecimal numbers: bus, device and function; both ids; interrupt; seven starts with the low bits of their BARs;
 * seven sizes; and the driver, if there is one.
 */
export function parseProcDevices(text: string): ReadonlyMap<number, FunctionFacts> {
  const facts = new Map<number, FunctionFacts>();
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    const numbers = words.slice(0, 17);
    if (numbers.length < 17 || !numbers.every((word) => /^[0-9a-f]{1,16}$/i.test(word))) continue;
    const [id = 0, ids = 0, irq = 0] = numbers.slice(0, 3).map((word) => Number.parseInt(word, 16));
    const values = numbers.slice(3).map((word) => BigInt(`0x${word}`));
    const resources = values.slice(0, 7).map((start, index) => resourceOf(start, values[index + 7] ?? 0n, index));
    facts.set(id, { vendorId: ids >>> 16, deviceId: ids & 0xffff, irq, resources, driver: words[17] });
  }
  return facts;
}

function resourceOf(start: bigint, size: bigint, index: number): FunctionResource {
  if (size === 0n) return { start: 0n, end: 0n, flags: 0n };
  const rom = index === 6;
  const io = !rom && (start & 1n) === 1n;
  const low = io ? 3n : rom ? 1n : 15n;
  const address = start & ~low;
  let flags = start & low;
  flags |= io ? ResourceFlag.IO : ResourceFlag.MEMORY;
  if (rom) flags |= ResourceFlag.READ_ONLY;
  else if (!io && (start & 6n) === 4n) flags |= ResourceFlag.MEMORY_64;
  if (!io && !rom && (start & 8n) !== 0n) flags |= ResourceFlag.PREFETCH;
  return { start: address, end: address + size - 1n, flags };
}

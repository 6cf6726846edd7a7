// The access method over ECAM: config space as memory, past the kernel's PCI code, where the firmware's MCFG table says that
// it lies. Root only, through /dev/mem, which many kernels close for it. Nobody keeps the kernel out meanwhile.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import type { AccessedFunction, AccessMethod } from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import { answersNothing } from "../pci/capability-walk.ts";
import type { ConfigAccess } from "../pci/config-space.ts";
import { type EcamWindow, parseMcfg } from "./mcfg.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { listNames, readText } from "./sysfs.ts";

const BUS_BYTES = 0x10_0000;
const FUNCTION_BYTES = 4096;
const STANDARD_BYTES = 256;

/** One bus's memory, for accesses of 1, 2 and 4 bytes. */
interface BusMemory {
  readonly bytes: Uint8Array;
  readonly words: Uint16Array;
  readonly dwords: Uint32Array;
}
/** Gives the memory of a bus, which lies at `address`. */
type MapBus = (address: number) => BusMemory;

/**
 * The functions that answer, by address, or those asked for in their order. Virtual functions answer no ids in hardware, and
 * are there only where they are asked for. Throws `PERMISSION_DENIED`, `ACCESS_UNAVAILABLE`, `MCFG_INVALID` and
 * `FUNCTION_NOT_FOUND`.
 */
export async function ecamAccess({
  paths = thisMachine,
  addresses,
  mapBus,
}: {
  readonly paths?: HostPaths;
  readonly addresses?: readonly PciAddress[];
  /** Maps a bus; by default through /dev/mem. */
  readonly mapBus?: MapBus;
} = {}): Promise<AccessMethod> {
  const windows = parseMcfg(readTable(join(paths.sysfsRoot, "firmware/acpi/tables/MCFG")));
  const memory = mapBus === undefined ? await PhysicalMemory.open(paths) : undefined;
  const map = mapBus ?? ((address: number) => (memory as PhysicalMemory).bus(address));
  try {
    const space = new EcamSpace(windows, map);
    const chosen = addresses ?? space.scan(rootBuses(paths));
    const functions = chosen.map((address): AccessedFunction => {
      const config = space.config(address);
      if (config === undefined || answersNothing(config))
        throw new Ring3Error("FUNCTION_NOT_FOUND", `no PCI function answers at ${address.toString()} in ECAM's memory`);
      return { address, method: "ecam", config, facts: {} };
    });
    return { name: "ecam", functions, [Symbol.dispose]: () => memory?.[Symbol.dispose]() };
  } catch (error) {
    memory?.[Symbol.dispose]();
    throw error;
  }
}

class EcamSpace {
  readonly #windows: readonly EcamWindow[];
  readonly #map: MapBus;
  readonly #buses = new Map<number, BusMemory>();

  constructor(windows: readonly EcamWindow[], map: MapBus) {
    this.#windows = windows;
    this.#map = map;
  }

  /** Config space at `address`; `undefined` where no window has its bus. */
  config({ domain, bus, device, function: fn }: PciAddress): ConfigAccess | undefined {
    const window = this.#windows.find(
      ({ domain: own, firstBus, lastBus }) => own === domain && firstBus <= bus && bus <= lastBus,
    );
    if (window === undefined) return undefined;
    const place = window.address + bus * BUS_BYTES;
    let memory = this.#buses.get(place);
    if (memory === undefined) this.#buses.set(place, (memory = this.#map(place)));
    return functionConfig(memory, (device * 8 + fn) * FUNCTION_BYTES);
  }

  /** What answers on the first bus of each window, on the buses that the kernel knows as roots, and below bridges. */
  scan(roots: readonly { readonly domain: number; readonly bus: number }[]): PciAddress[] {
    const found: PciAddress[] = [];
    const seen = new Set<string>();
    const pending = [...this.#windows.map(({ domain, firstBus }) => ({ domain, bus: firstBus })), ...roots];
    for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
      const { domain, bus } = next;
      const key = `${domain}:${bus}`;
      if (seen.has(key)) continue;
      seen.add(key);
      for (const { address, config } of this.#functions(domain, bus)) {
        found.push(address);
        const layout = config.read(0x0e, 1) & 0x7f;
        if (layout === 1 || layout === 2) pending.push({ domain, bus: config.read(0x19, 1) });
      }
    }
    return found.toSorted((a, b) => PciAddress.compare(a, b));
  }

  *#functions(domain: number, bus: number): Generator<{ address: PciAddress; config: ConfigAccess }> {
    for (let device = 0; device < 32; device++) {
      for (let fn = 0; fn < 8; fn++) {
        const address = new PciAddress(domain, bus, device, fn);
        const config = this.config(address);
        if (config === undefined) return;
        const vendor = config.read(0, 2);
        const there = vendor !== 0xffff && vendor !== 0;
        if (there) yield { address, config };
        // Only function 0 says whether there are others.
        if (fn === 0 && !(there && (config.read(0x0e, 1) & 0x80) !== 0)) break;
      }
    }
  }
}

/** Reads and writes by single accesses of their width: a register may act on each. */
function functionConfig({ bytes, words, dwords }: BusMemory, start: number): ConfigAccess {
  let size: number | undefined;
  return {
    get size(): number {
      return (size ??= hasExtendedSpace(dwords, start >>> 2) ? FUNCTION_BYTES : STANDARD_BYTES);
    },
    read(offset, width) {
      const at = start + offset;
      if (width === 4) return dwords[at >>> 2] ?? 0xffff_ffff;
      return width === 2 ? (words[at >>> 1] ?? 0xffff) : (bytes[at] ?? 0xff);
    },
    write(offset, width, value) {
      const at = start + offset;
      if (width === 4) dwords[at >>> 2] = value;
      else if (width === 2) words[at >>> 1] = value;
      else bytes[at] = value;
    },
  };
}

/** Behind the first 256 bytes conventional functions answer nothing, or what does not know of more shows the first again. */
function hasExtendedSpace(dwords: Uint32Array, first: number): boolean {
  if (dwords[first + STANDARD_BYTES / 4] === 0xffff_ffff) return false;
  for (let at = STANDARD_BYTES; at < FUNCTION_BYTES; at += STANDARD_BYTES) {
    if (dwords[first + at / 4] !== dwords[first]) return true;
  }
  return false;
}

function rootBuses(paths: HostPaths): { domain: number; bus: number }[] {
  return listNames(join(paths.sysfsRoot, "devices")).flatMap((name) => {
    const [, domain, bus] = /^pci([0-9a-f]{4,8}):([0-9a-f]{2})$/.exec(name) ?? [];
    if (domain === undefined || bus === undefined) return [];
    return [{ domain: Number.parseInt(domain, 16), bus: Number.parseInt(bus, 16) }];
  });
}

function readTable(path: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
    const details = { errno, call: `read ${path}`, cause: error };
    if (errno === "EACCES" || errno === "EPERM")
      throw new Ring3Error(
        "PERMISSION_DENIED",
        "ECAM is for root: the MCFG table and /dev/mem are closed to you",
        details,
      );
    throw new Ring3Error(
      "ACCESS_UNAVAILABLE",
      `${path} cannot be read (${errno}): the firmware of this machine has no MCFG table, or hides it; use sysfs or proc`,
      details,
    );
  }
}

/** /dev/mem. The native calls are loaded here and not before. */
class PhysicalMemory implements Disposable {
  readonly #linux: typeof import("../linux/index.ts");
  readonly #fd: import("../linux/index.ts").FileDescriptor;
  readonly #path: string;
  readonly #paths: HostPaths;
  readonly #mappings: Disposable[] = [];

  private constructor(linux: typeof import("../linux/index.ts"), paths: HostPaths) {
    this.#linux = linux;
    this.#paths = paths;
    this.#path = join(paths.devRoot, "mem");
    try {
      this.#fd = linux.FileDescriptor.open(this.#path, linux.OPEN.READ_WRITE | linux.OPEN.SYNC);
    } catch (error) {
      throw this.#refused("open", error);
    }
  }

  static async open(paths: HostPaths): Promise<PhysicalMemory> {
    return new PhysicalMemory(await import("../linux/index.ts"), paths);
  }

  bus(address: number): BusMemory {
    let memory: import("../linux/index.ts").MappedMemory;
    try {
      memory = this.#linux.MappedMemory.file(this.#fd, address, BUS_BYTES);
    } catch (error) {
      throw this.#refused("mmap", error);
    }
    this.#mappings.push(memory);
    const { bytes } = memory;
    return { bytes, words: new Uint16Array(bytes.buffer), dwords: new Uint32Array(bytes.buffer) };
  }

  [Symbol.dispose](): void {
    for (const mapping of this.#mappings.splice(0)) mapping[Symbol.dispose]();
    this.#fd.close();
  }

  #refused(call: string, error: unknown): Ring3Error {
    const errno = (error as { errno?: string }).errno ?? "unknown";
    const details = { errno, call: `${call} ${this.#path}`, cause: error };
    if (errno === "ENOENT" || errno === "ENXIO")
      return new Ring3Error(
        "ACCESS_UNAVAILABLE",
        `this kernel has no ${this.#path} (CONFIG_DEVMEM): use sysfs or proc`,
        details,
      );
    if (errno === "EACCES")
      return new Ring3Error("PERMISSION_DENIED", `ECAM is for root: ${this.#path} is closed to you`, details);
    const lockdown = readText(join(this.#paths.sysfsRoot, "kernel/security/lockdown"));
    const locked = lockdown !== undefined && !lockdown.includes("[none]");
    const why = locked
      ? `the kernel is locked down (${lockdown}), as with Secure Boot`
      : "the kernel keeps programs out of memory that its drivers use (CONFIG_IO_STRICT_DEVMEM): iomem=relaxed on its command line lets root in";
    return new Ring3Error(
      "ACCESS_UNAVAILABLE",
      `${call} of ECAM's memory through ${this.#path} failed with ${errno}: ${why}. sysfs shows the same registers`,
      details,
    );
  }
}

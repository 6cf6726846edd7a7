// An open function as tools see it: a kernel VFIO device, a function behind a vfio-user socket, one in process. Addresses
// come from its BARs and sizes from the back end, so that what only the owner of the function can see looks like sysfs.
import { type AccessedFunction, type FunctionFacts, type FunctionResource, ResourceFlag } from "./access.ts";
import { PciAddress } from "./address.ts";
import { readBars } from "./bar.ts";
import type { ConfigAccess } from "./config-space.ts";
import type { Bar, BarIndex, PciFunction } from "./function.ts";
import { Header, Header0 } from "./header.ts";
import { identify } from "./identification.ts";

const NONE: FunctionResource = { start: 0n, end: 0n, flags: 0n };

/** An open function as an {@link AccessedFunction}; `address` is where tools shall see it. The caller keeps and closes it. */
export function accessFunction(fn: PciFunction, address: PciAddress = addressOf(fn)): AccessedFunction {
  return { address, method: fn.identity.backend, config: configOf(fn), facts: factsOf(fn) };
}

/** The first addresses on bus 0 that are not `taken`: for functions that have none, since a socket serves them. */
export function freeAddresses(count: number, taken: readonly PciAddress[] = []): PciAddress[] {
  const used = new Set(taken.map(String));
  const free: PciAddress[] = [];
  for (let id = 0; free.length < count; id++) {
    const address = new PciAddress(0, id >>> 5, id & 0x1f, 0);
    if (!used.has(String(address))) free.push(address);
  }
  return free;
}

function addressOf(fn: PciFunction): PciAddress {
  const place = fn.identity.address.replace(/^pci:/, "");
  return PciAddress.accepts(place) ? PciAddress.parse(place) : new PciAddress(0, 0, 0, 0);
}

function configOf({ config }: PciFunction): ConfigAccess {
  return {
    get size(): number {
      return config.size;
    },
    read(offset, width) {
      if (width === 4) return config.read32(offset);
      return width === 2 ? config.read16(offset) : config.read8(offset);
    },
    write(offset, width, value) {
      if (width === 4) config.write32(offset, value);
      else if (width === 2) config.write16(offset, value);
      else config.write8(offset, value);
    },
    readBytes: (offset, size) => config.readBytes(offset, size),
  };
}

function factsOf(fn: PciFunction): FunctionFacts {
  return {
    get resources(): readonly FunctionResource[] {
      return resourcesOf(fn);
    },
    ...identify(fn.config),
  };
}

function resourcesOf(fn: PciFunction): FunctionResource[] {
  const described = readBars(fn.config);
  const indexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];
  const resources = indexes.map((index) => resourceOf(fn.bar(index), described[index]?.address ?? 0n));
  const { rom } = fn;
  if (rom === undefined || fn.config.read(Header.HEADER_TYPE).LAYOUT !== 0) return [...resources, NONE];
  const start = BigInt(fn.config.read(Header0.EXPANSION_ROM).ADDRESS) << 11n;
  const flags = ResourceFlag.MEMORY | ResourceFlag.READ_ONLY | ResourceFlag.SIZE_ALIGN;
  return [...resources, { start, end: start + BigInt(rom.size) - 1n, flags }];
}

function resourceOf({ kind, size, prefetchable }: Bar, start: bigint): FunctionResource {
  if (kind === "none" || size === 0) return NONE;
  let flags: bigint = ResourceFlag.SIZE_ALIGN;
  if (kind === "io") flags |= ResourceFlag.IO | 1n;
  else flags |= ResourceFlag.MEMORY;
  if (kind === "memory64") flags |= ResourceFlag.MEMORY_64 | 4n;
  if (prefetchable) flags |= ResourceFlag.PREFETCH | 8n;
  return { start, end: start + BigInt(size) - 1n, flags };
}

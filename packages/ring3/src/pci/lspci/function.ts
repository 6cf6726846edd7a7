// What lspci knows of a function before it prints: identity, resources and whatever the access method tells. The kernel's word
// counts where it has one; else config space is read as libpci reads it.
import { type AccessedFunction, type FunctionResource, readConfig } from "../access.ts";
import type { PciAddress } from "../address.ts";
import { FetchedConfig } from "./fetched-config.ts";

/** A BAR, the ROM or a bridge window: address with its low flag bits, size, and the kernel's flags where it told them. */
export interface LspciRegion {
  readonly base: bigint;
  readonly size: bigint;
  readonly flags: bigint | undefined;
}

const NO_REGION: LspciRegion = { base: 0n, size: 0n, flags: undefined };
/** Of the kernel's flags, those that a BAR has in its low bits. */
const BAR_FLAGS = 0xfn;
const SUBSYSTEM_ID = 0x0d;
const BARS_BY_LAYOUT = [6, 2, 1] as const;

export interface FunctionOptions {
  /** Addresses and interrupt numbers of the bus, as config space has them. */
  readonly busCentric?: boolean;
  /** Modules that could drive it. */
  readonly modules?: readonly string[];
}

export class LspciFunction {
  readonly address: PciAddress;
  readonly config: FetchedConfig;
  readonly facts: AccessedFunction["facts"];
  readonly modules: readonly string[];
  readonly vendorId: number;
  readonly deviceId: number;
  /** Base class and subclass. */
  readonly classCode: number;
  readonly programmingInterface: number;
  readonly revision: number;
  /** `undefined` where the function has none. */
  readonly subsystem: { readonly vendorId: number; readonly id: number } | undefined;
  readonly irq: number;
  readonly #usesKernel: boolean;

  constructor(fn: AccessedFunction, { busCentric = false, modules = [] }: FunctionOptions = {}) {
    this.address = fn.address;
    this.config = new FetchedConfig(readConfig(fn));
    this.facts = fn.facts;
    this.modules = modules;
    this.#usesKernel = !busCentric;
    const { config } = this;
    const facts = this.#kernelFacts;
    const readable = config.isReadable;
    this.vendorId = facts.vendorId ?? config.peek(0);
    this.deviceId = facts.deviceId ?? config.peek(2);
    const classCode = facts.classCode ?? (readable ? config.long(8) >>> 8 : 0xffffff);
    this.classCode = classCode >>> 8;
    this.programmingInterface = classCode & 0xff;
    this.revision = facts.revision ?? (readable ? config.byte(8) : 0xff);
    this.subsystem = this.#subsystem();
    this.irq = facts.irq ?? (readable ? config.byte(0x3c) : 0xff);
  }

  /** Identity and interrupt as the kernel has them, unless the bus is asked. */
  get #kernelFacts(): AccessedFunction["facts"] {
    return this.#usesKernel ? this.facts : {};
  }

  /** Layout of the header; -1 where it cannot be read. */
  get headerLayout(): number {
    return this.config.isReadable ? this.config.byte(0x0e) & 0x7f : -1;
  }

  /** Whether sizes and flags are known. */
  get kernelRegions(): readonly FunctionResource[] | undefined {
    return this.#usesKernel ? this.facts.resources : undefined;
  }

  bars(): readonly LspciRegion[] {
    const known = this.kernelRegions;
    if (known !== undefined) return [0, 1, 2, 3, 4, 5].map((index) => regionOf(known[index]));
    return this.#barsOfConfig();
  }

  rom(): LspciRegion {
    const known = this.kernelRegions;
    if (known !== undefined) return regionOf(known[6]);
    const offset = [0x30, 0x38][this.headerLayout];
    if (offset === undefined) return NO_REGION;
    const value = this.config.long(offset);
    return value === 0xffffffff ? NO_REGION : { base: BigInt(value), size: 0n, flags: undefined };
  }

  /** I/O, memory and prefetchable window of a bridge; `undefined` where the kernel tells nothing of them. */
  bridgeWindows(): readonly LspciRegion[] | undefined {
    const known = this.kernelRegions;
    // Behind BARs and ROM come, on a kernel that knows SR-IOV, six BARs of virtual functions, and then a bridge's windows.
    if (known === undefined || known.length < 10) return undefined;
    const windows = known.length > 11 ? known.slice(13, 17) : known.slice(7, 11);
    return windows.map((one) => ({ ...regionOf(one), base: one.start }));
  }

  #subsystem(): { readonly vendorId: number; readonly id: number } | undefined {
    const { config, headerLayout } = this;
    const facts = this.#kernelFacts;
    if (facts.subsystemVendorId !== undefined && facts.subsystemId !== undefined && headerLayout !== 1) {
      return { vendorId: facts.subsystemVendorId, id: facts.subsystemId };
    }
    const at = headerLayout === 0 ? 0x2c : headerLayout === 2 ? 0x40 : undefined;
    if (at !== undefined) return { vendorId: config.peek(at), id: config.peek(at + 2) };
    return headerLayout === 1 ? this.#bridgeSubsystem() : undefined;
  }

  /** A bridge has its subsystem in a capability. The list is followed without leave, before anything is shown. */
  #bridgeSubsystem(): { readonly vendorId: number; readonly id: number } | undefined {
    const { config } = this;
    if ((config.peek(0x06) & 0x10) === 0) return undefined;
    const seen = new Set<number>();
    for (let at = config.peek(0x34) & 0xfc; at !== 0 && !seen.has(at); ) {
      seen.add(at);
      const header = config.peek(at);
      if ((header & 0xff) === SUBSYSTEM_ID) return { vendorId: config.peek(at + 4), id: config.peek(at + 6) };
      if ((header & 0xff) === 0xff) return undefined;
      at = (header >>> 8) & 0xfc;
    }
    return undefined;
  }

  #barsOfConfig(): LspciRegion[] {
    const count = BARS_BY_LAYOUT[this.headerLayout] ?? 0;
    const bars: LspciRegion[] = Array.from({ length: 6 }, () => NO_REGION);
    for (let index = 0; index < count; index++) {
      const value = this.config.long(0x10 + 4 * index);
      if (value === 0 || value === 0xffffffff) continue;
      if ((value & 1) === 1 || (value & 6) !== 4) {
        bars[index] = { base: BigInt(value), size: 0n, flags: undefined };
      } else if (index < count - 1) {
        const upper = BigInt(this.config.long(0x14 + 4 * index));
        bars[index] = { base: BigInt(value) | (upper << 32n), size: 0n, flags: undefined };
        index++;
      }
    }
    return bars;
  }
}

function regionOf(resource: FunctionResource | undefined): LspciRegion {
  if (resource === undefined) return { base: 0n, size: 0n, flags: 0n };
  const { start, end, flags } = resource;
  return { base: start | (flags & BAR_FLAGS), size: end > start ? end - start + 1n : 0n, flags };
}

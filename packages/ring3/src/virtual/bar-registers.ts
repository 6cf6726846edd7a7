// Base address registers from the function's side: which bits software can write is what tells it the size. PCIe 6.0,
// sections 7.5.1.2.1 (BARs) and 7.5.1.2.4 (expansion ROM).
import { Ring3Error } from "../binary/error.ts";
import type { BarIndex } from "../pci/function.ts";
import type { CapabilityBuilder } from "./capability-builder.ts";
import type { BarDeclaration, BarDeclarations, FunctionDeclaration } from "./declaration.ts";

/** Bits of one register: those that read as they are, and those that software writes. */
export interface BarRegister {
  readonly fixed: number;
  readonly writable: number;
}

/** What decides over a BAR's registers; `rom` is the expansion ROM's. */
export interface BarShape {
  readonly kind: "memory32" | "memory64" | "io" | "rom";
  readonly size: number;
  readonly prefetchable: boolean;
}

/**
 * The one place that turns a size into register bits: one register, or the lower and the upper of a 64-bit BAR. Address bits
 * below the size read as 0, so that what reads back after all ones were written is the size mask.
 */
export function barRegisters({ kind, size, prefetchable }: BarShape): readonly BarRegister[] {
  const low = size >= 2 ** 32 ? 0 : -size >>> 0;
  if (kind === "io") return [{ fixed: 1, writable: (low & ~3) >>> 0 }];
  if (kind === "rom") return [{ fixed: 0, writable: ((low & ~0x7ff) | 1) >>> 0 }];
  const flags = (prefetchable ? 8 : 0) | (kind === "memory64" ? 4 : 0);
  const lower = { fixed: flags, writable: (low & ~0xf) >>> 0 };
  if (kind === "memory32") return [lower];
  return [lower, { fixed: 0, writable: size > 2 ** 32 ? -(size / 2 ** 32) >>> 0 : 0xffff_ffff }];
}

/** The shape of a declared BAR. */
export function barShape(bar: BarDeclaration): BarShape {
  return { kind: bar.kind ?? "memory32", size: bar.size, prefetchable: bar.prefetchable ?? false };
}

/** All indexes of BARs. */
export const barIndexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];

const isPowerOfTwo = (size: number): boolean => size >= 1 && size === 2 ** Math.round(Math.log2(size));

function checkBar(index: BarIndex, bar: BarDeclaration, express: boolean): void {
  const { kind, size, prefetchable } = barShape(bar);
  const refuse = (reason: string): never => {
    throw new Ring3Error("DECLARATION_INVALID", `BAR ${index} ${reason}`);
  };
  if (!isPowerOfTwo(size)) {
    const next = size > 0 && size < 2 ** 52 ? `; take ${2 ** Math.ceil(Math.log2(size))}` : "";
    refuse(`has ${size} bytes, which is no power of two${next}`);
  }
  if (kind === "io") {
    if (size < 4 || size > 256) refuse(`is I/O of ${size} bytes; a function may ask for 4 to 256`);
    if (prefetchable) refuse("is I/O, which cannot be prefetchable");
    if (bar.memory !== undefined) refuse("is I/O, which cannot be memory that clients map");
  } else {
    const least = express ? 128 : 16;
    if (size < least) refuse(`has ${size} bytes; memory takes at least ${least}${express ? " in PCI Express" : ""}`);
    const most = kind === "memory32" ? 2 ** 31 : 2 ** 63;
    if (size > most)
      refuse(`has ${size} bytes, more than a ${kind} BAR can name${kind === "memory32" ? "; take memory64" : ""}`);
  }
  if (bar.memory !== undefined && bar.memory !== true) checkAreas(index, bar.memory, size);
}

function checkAreas(index: BarIndex, areas: readonly { offset: number; size: number }[], size: number): void {
  let end = 0;
  for (const area of [...areas].sort((one, other) => one.offset - other.offset)) {
    const name = `the memory area at 0x${area.offset.toString(16)} of BAR ${index}`;
    if (!(Number.isSafeInteger(area.offset) && Number.isSafeInteger(area.size) && area.offset >= 0 && area.size > 0)) {
      throw new Ring3Error("DECLARATION_INVALID", `${name} has no sensible offset and size`);
    }
    if (area.offset % 4096 !== 0 || area.size % 4096 !== 0) {
      throw new Ring3Error("DECLARATION_INVALID", `${name} is not a run of 4096-byte pages, so it could not be mapped`);
    }
    if (area.offset < end) throw new Ring3Error("BAR_CONFLICT", `${name} overlaps the one before it`);
    end = area.offset + area.size;
    if (end > size) throw new Ring3Error("BAR_CONFLICT", `${name} ends at 0x${end.toString(16)}, beyond the BAR`);
  }
}

/**
 * The function's BARs, checked: those declared, and those that capabilities bring along. Throws `DECLARATION_INVALID` or
 * `BAR_CONFLICT`.
 */
export function resolveBars(
  declaration: FunctionDeclaration,
  builders: readonly CapabilityBuilder[],
  express: boolean,
): BarDeclarations {
  const bars: Partial<Record<BarIndex, BarDeclaration>> = {};
  const owners: string[] = [];
  const take = (index: BarIndex, bar: BarDeclaration, owner: string): void => {
    const taken = owners[index];
    if (taken !== undefined) {
      throw new Ring3Error("BAR_CONFLICT", `BAR ${index} of ${owner} is already ${taken}; take another index`);
    }
    checkBar(index, bar, express);
    bars[index] = bar;
    owners[index] = `that of ${owner}`;
    if (bar.kind !== "memory64") return;
    if (index === 5)
      throw new Ring3Error("BAR_CONFLICT", "BAR 5 has no register after it for the upper half of a memory64 BAR");
    const next = owners[index + 1];
    if (next !== undefined) {
      throw new Ring3Error(
        "BAR_CONFLICT",
        `BAR ${index} is memory64 and takes register ${index + 1}, which is ${next}`,
      );
    }
    owners[index + 1] = `the upper half of BAR ${index}`;
  };
  for (const [key, bar] of Object.entries<BarDeclaration | undefined>(declaration.bars ?? {})) {
    const index = barIndexes[Number(key)];
    if (index === undefined) throw new Ring3Error("DECLARATION_INVALID", `there is no BAR ${key}; take 0 to 5`);
    if (bar !== undefined) take(index, bar, "the declaration");
  }
  for (const { group, bars: implied = {} } of builders) {
    for (const index of barIndexes) {
      const bar = implied[index];
      if (bar !== undefined && bars[index] === undefined) take(index, bar, group.name);
    }
  }
  return bars;
}

/** Bytes of the expansion ROM's address range; 0 without one. Throws `DECLARATION_INVALID`. */
export function romRange(rom: Uint8Array | undefined): number {
  if (rom === undefined) return 0;
  if (rom.length === 0) throw new Ring3Error("DECLARATION_INVALID", "the expansion ROM is empty; leave it out");
  const size = Math.max(2048, 2 ** Math.ceil(Math.log2(rom.length)));
  if (size > 2 ** 24) {
    throw new Ring3Error("DECLARATION_INVALID", `the expansion ROM has ${rom.length} bytes; 16 MiB is the most`);
  }
  return size;
}

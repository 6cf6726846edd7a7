// Base address registers. PCIe 6.0, section 7.5.1.2.1: bit 0 tells I/O from memory, a 64-bit BAR takes the next one as its
// upper half, and the size shows in what reads back after all ones were written.
import type { ConfigSpace } from "./config-space.ts";
import type { BarIndex } from "./function.ts";
import { Header } from "./header.ts";

/** What a base address register holds. */
export interface BarDescription {
  readonly index: BarIndex;
  /** `none` for a register that reads 0 (absent or never assigned: only its size tells) or that is an upper half. */
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly address: bigint;
  /** What is wrong with the register, if anything is. */
  readonly problem: string | undefined;
}

/** Decodes the registers in order: six of a type 0 header (or of VF BARs), two of type 1. */
export function decodeBars(words: readonly number[]): readonly BarDescription[] {
  const bars: BarDescription[] = [];
  for (let at = 0; at < Math.min(words.length, 6); at++) {
    const index = at as BarIndex;
    const word = (words[at] ?? 0) >>> 0;
    const none = { index, kind: "none", prefetchable: false, address: 0n, problem: undefined } as const;
    if (word === 0 || word === 0xffff_ffff) {
      bars.push(word === 0 ? none : { ...none, problem: `BAR ${at} reads as all ones` });
    } else if ((word & 1) === 1) {
      bars.push({ ...none, kind: "io", address: BigInt((word & ~3) >>> 0) });
    } else {
      const type = (word >>> 1) & 3;
      const prefetchable = (word & 8) !== 0;
      const low = BigInt((word & ~0xf) >>> 0);
      if (type !== 2) {
        const problem = type === 3 ? `BAR ${at} has the reserved memory type 3` : undefined;
        bars.push({ index, kind: "memory32", prefetchable, address: low, problem });
      } else if (at + 1 >= words.length) {
        bars.push({ ...none, problem: `BAR ${at} is of 64 bits and has no register for its upper half` });
      } else {
        const address = low | (BigInt((words[at + 1] ?? 0) >>> 0) << 32n);
        bars.push({ index, kind: "memory64", prefetchable, address, problem: undefined });
        at++;
        bars.push({ ...none, index: at as BarIndex });
      }
    }
  }
  return bars;
}

/** Reads and decodes a function's BARs: six of a type 0 header, two of type 1, one of type 2, none of others. */
export function readBars(config: ConfigSpace): readonly BarDescription[] {
  const count = [6, 2, 1][config.read(Header.HEADER_TYPE).LAYOUT] ?? 0;
  return decodeBars(Array.from({ length: count }, (_, index) => config.read32(0x10 + 4 * index)));
}

/**
 * Size in bytes from what reads back after all ones were written: `low`, and for a 64-bit BAR `high` of the next register.
 * A power of two, so the number is exact; 0 for a register that is not there.
 */
export function barSize(low: number, high = 0): number {
  if (low >>> 0 === 0xffff_ffff) return 0;
  const isIo = (low & 1) === 1;
  const lowestOf = (word: number): number => (word & -word) >>> 0;
  const decoded = isIo ? low & ~3 : low & ~0xf;
  if (decoded !== 0) return lowestOf(decoded);
  return !isIo && ((low >>> 1) & 3) === 2 ? lowestOf(high) * 2 ** 32 : 0;
}

/** Size in bytes of the expansion ROM from what reads back after ones were written to its address bits. */
export function romSize(readBack: number): number {
  if (readBack >>> 0 === 0xffff_ffff) return 0;
  const decoded = readBack & ~0x7ff;
  return (decoded & -decoded) >>> 0;
}

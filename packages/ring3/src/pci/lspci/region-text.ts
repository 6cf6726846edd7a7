// Text of BARs and of the expansion ROM: what config space has, beside what the kernel says of it.
import type { LspciRegion } from "./function.ts";
import { entry, hex } from "./layout.ts";
import type { Printer } from "./printer.ts";

/** Flags of the kernel's resources (include/linux/ioport.h). */
export const ioResource = 0x100n;
export const memoryResource = 0x200n;
export const prefetchResource = 0x2000n;
export const memory64Resource = 0x100000n;
/** It comes from Enhanced Allocation: the register has nothing. */
const enhancedResource = 0x20n;

/** The low bits that a BAR with these flags of the kernel has. */
function barBits(flags: bigint): number {
  if ((flags & ioResource) !== 0n) return 1;
  if ((flags & memoryResource) === 0n) return 0;
  return ((flags & memory64Resource) !== 0n ? 4 : 0) | ((flags & prefetchResource) !== 0n ? 8 : 0);
}

const MEMORY_TYPES = ["32-bit", "low-1M", "64-bit", "type 3"];

export function showBars(printer: Printer, count: number, hasConfig: boolean): void {
  const { shown, config } = printer;
  const command = hasConfig ? config.word(0x04) : 3;
  const bars = shown.bars();
  for (let index = 0; index < count; index++) {
    const bar = bars[index];
    if (bar === undefined) continue;
    const register = hasConfig ? config.long(0x10 + 4 * index) : 0;
    let bits = bar.flags === undefined ? register : barBits(bar.flags);
    if (bits === 0xffffffff) bits = 0;
    if (bar.base === 0n && bits === 0 && bar.size === 0n) continue;
    printer.print(printer.detailed ? `\tRegion ${index}: ` : "\t");
    printer.print(
      bar.flags !== undefined && hasConfig ? kernelBar(printer, bar, bits, index, count) : plainBar(bar, bits, command),
    );
    const isEnhanced = ((bar.flags ?? 0n) & enhancedResource) !== 0n;
    printer.print(`${isEnhanced ? " [enhanced]" : ""}${size(bar.size)}\n`);
  }
}

/** A BAR as config space shows it. */
function plainBar({ base }: LspciRegion, bits: number, command: number): string {
  return barText(base, bits, command, { lower: 0, upper: 0, broken: false, virtual: false });
}

/** A BAR that the kernel describes, beside what the register says. */
function kernelBar({ config }: Printer, bar: LspciRegion, bits: number, index: number, count: number): string {
  const flags = bar.flags ?? 0n;
  const command = config.word(0x04);
  const lower = config.long(0x10 + 4 * index);
  let upper = 0;
  let broken = false;
  let virtual = false;
  if ((lower & 1) === (bits & 1)) {
    if ((flags & 0x1f00n) === memoryResource && (lower & 6) === 4) {
      if (index >= count - 1) broken = true;
      else upper = config.long(0x10 + 4 * index + 1);
    }
    virtual = bar.base !== 0n && lower === 0 && upper === 0 && (flags & enhancedResource) === 0n;
  }
  return barText(bar.base, bits, command, { lower, upper, broken, virtual });
}

interface Hardware {
  readonly lower: number;
  readonly upper: number;
  readonly broken: boolean;
  readonly virtual: boolean;
}

function barText(base: bigint, bits: number, command: number, hardware: Hardware): string {
  const { lower, upper, broken, virtual } = hardware;
  const ignored = lower !== 0 || upper !== 0 ? "<ignored>" : "<unassigned>";
  if ((bits & 1) !== 0) {
    const address = base & ~3n;
    const enabled = (command & 1) !== 0;
    const place = address !== 0n || enabled ? hex(address, 4) : ignored;
    return `I/O ports at ${place}${virtual ? " [virtual]" : enabled ? "" : " [disabled]"}`;
  }
  const address = base & ~0xfn;
  const place = broken ? "<broken-64-bit-slot>" : address !== 0n ? hex(address, 8) : ignored;
  const type = `${entry(MEMORY_TYPES, (bits >>> 1) & 3)}, ${(bits & 8) !== 0 ? "" : "non-"}prefetchable`;
  return `Memory at ${place} (${type})${virtual ? " [virtual]" : (command & 2) !== 0 ? "" : " [disabled]"}`;
}

export function showRom(printer: Printer, offset: number | undefined): void {
  const { shown, config } = printer;
  const rom = shown.rom();
  const address = rom.base & ~0x7ffn;
  let bits = offset === undefined ? barBits(rom.flags ?? 0n) : config.long(offset);
  if (rom.base === 0n && bits === 0 && rom.size === 0n) return;
  const command = offset === undefined ? 2 : config.word(0x04);
  const isEnhanced = ((rom.flags ?? 0n) & enhancedResource) !== 0n;
  const virtual = offset !== undefined && address !== 0n && (bits & 0xfffff800) === 0 && !isEnhanced;
  if (virtual) bits = Number(rom.base & 0xffffffffn);
  const place = address !== 0n ? hex(address, 8) : (bits & 0xfffff800) !== 0 ? "<ignored>" : "<unassigned>";
  printer.print(`\tExpansion ROM at ${place}${virtual ? " [virtual]" : ""}`);
  if ((bits & 1) === 0) printer.print(" [disabled]");
  else if (!virtual && (command & 2) === 0) printer.print(" [disabled by cmd]");
  printer.print(`${isEnhanced ? " [enhanced]" : ""}${size(rom.size)}\n`);
}

/** ` [size=4K]` in the largest unit that divides it; nothing for 0. */
export function size(bytes: bigint): string {
  if (bytes === 0n) return "";
  let rest = bytes;
  let unit = 0;
  while (unit < 4 && rest % 1024n === 0n) {
    rest /= 1024n;
    unit++;
  }
  return ` [size=${BigInt.asUintN(32, rest)}${["", "K", "M", "G", "T"][unit]}]`;
}

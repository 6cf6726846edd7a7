// Text of the windows of a bridge: what it forwards. The kernel's word counts where it has one.
import { hex } from "./layout.ts";
import type { Printer } from "./printer.ts";
import { size } from "./region-text.ts";

/** I/O, memory and prefetchable memory behind a bridge. */
export function showWindows(printer: Printer): void {
  showIoWindow(printer);
  showMemoryWindow(printer);
  showPrefetchableWindow(printer);
}

function showIoWindow(printer: Printer): void {
  const { config } = printer;
  const [base, limit] = [config.byte(0x1c), config.byte(0x1d)];
  const window = printer.shown.bridgeWindows()?.[0];
  const name = "\tI/O behind bridge";
  if (window !== undefined && window.size !== 0n) {
    // Of a window that the kernel tells, lspci does not know the width.
    const end = BigInt.asUintN(32, window.base + window.size - 1n);
    showRange(printer, name, BigInt.asUintN(32, window.base), end, 16, false);
  } else if ((base & 0xf) !== (limit & 0xf) || (base & 0xf) > 1) {
    printer.print(`\t!!! Unknown I/O range types ${hex(base)}/${hex(limit)}\n`);
  } else {
    const wide = (base & 0xf) === 1;
    const from = BigInt((((base & 0xf0) << 8) | (wide ? config.word(0x30) << 16 : 0)) >>> 0);
    const to = BigInt((((limit & 0xf0) << 8) | (wide ? config.word(0x32) << 16 : 0)) >>> 0);
    if (from === 0n && to === 0n && window !== undefined) return;
    showRange(printer, name, from, BigInt.asUintN(32, to + 0xfffn), wide ? 32 : 16, window !== undefined);
  }
}

function showMemoryWindow(printer: Printer): void {
  const { config } = printer;
  const [base, limit] = [config.word(0x20), config.word(0x22)];
  const window = printer.shown.bridgeWindows()?.[1];
  const name = "\tMemory behind bridge";
  if (window !== undefined && window.size !== 0n) {
    const end = BigInt.asUintN(32, window.base + window.size - 1n);
    showRange(printer, name, BigInt.asUintN(32, window.base), end, 32, false);
  } else if (((base | limit) & 0xf) !== 0) {
    printer.print(`\t!!! Unknown memory range types ${hex(base)}/${hex(limit)}\n`);
  } else {
    const [from, to] = [BigInt(base & 0xfff0) << 16n, BigInt(limit & 0xfff0) << 16n];
    showRange(printer, name, from, BigInt.asUintN(32, to + 0xfffffn), 32, window !== undefined);
  }
}

function showPrefetchableWindow(printer: Printer): void {
  const { config } = printer;
  const [base, limit] = [config.word(0x24), config.word(0x26)];
  const window = printer.shown.bridgeWindows()?.[2];
  const name = "\tPrefetchable memory behind bridge";
  if (window !== undefined && window.size !== 0n) {
    showRange(printer, name, window.base, window.base + window.size - 1n, 32, false);
  } else if ((base & 0xf) !== (limit & 0xf) || (base & 0xf) > 1) {
    printer.print(`\t!!! Unknown prefetchable memory range types ${hex(base)}/${hex(limit)}\n`);
  } else {
    const wide = (base & 0xf) === 1;
    const from = (BigInt(base & 0xfff0) << 16n) | (wide ? BigInt(config.long(0x28)) << 32n : 0n);
    const to = (BigInt(limit & 0xfff0) << 16n) | (wide ? BigInt(config.long(0x2c)) << 32n : 0n);
    if (from === 0n && to === 0n && window !== undefined) return;
    showRange(printer, name, from, to + 0xfffffn, wide ? 64 : 32, window !== undefined);
  }
}

export function showRange(
  printer: Printer,
  name: string,
  from: bigint,
  to: bigint,
  bits: number,
  disabled: boolean,
): void {
  const digits = Math.ceil(bits / 4);
  printer.print(`${name}:`);
  if (from <= to || printer.verbose > 2) printer.print(` ${hex(from, digits)}-${hex(to, digits)}`);
  printer.print(!disabled && from <= to ? size(BigInt.asUintN(64, to - from + 1n)) : " [disabled]");
  printer.print(bits === 0 ? "\n" : ` [${bits}-bit]\n`);
}

// MSI-X: table and pending bits in BARs. PCIe 6.0, section 7.7.2. They must lie inside their BARs and apart from each other.
import { Ring3Error } from "../../binary/error.ts";
import { MsiX } from "../../pci/capabilities/msi-x.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";
import type { BarDeclaration, BarDeclarations } from "../declaration.ts";

/** Where a structure lies: its BAR, and its offset there (a multiple of 8). */
export interface BarPlace {
  readonly bar: BarIndex;
  readonly offset?: number;
}

export interface MsiXOptions {
  readonly at?: number;
  /** 1 to 2048. */
  readonly vectors: number;
  /** The vector table, 16 bytes each. A BAR that the function does not declare is made, just for table and pending bits. */
  readonly table: BarPlace;
  /** The pending bits; by default behind the table, on a page of their own where the BAR has one. */
  readonly pendingBits?: BarPlace;
}

interface Place {
  readonly bar: BarIndex;
  readonly offset: number;
  readonly size: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
const roundUp = (value: number, step: number): number => Math.ceil(value / step) * step;

/** Message signalled interrupts with a table in memory. Throws `DECLARATION_INVALID`; placement is checked with the BARs. */
export function msix(options: MsiXOptions): CapabilityBuilder {
  const { vectors } = options;
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > 2048) {
    throw new Ring3Error("DECLARATION_INVALID", `MSI-X has 1 to 2048 vectors, not ${vectors}`);
  }
  const table: Place = { bar: options.table.bar, offset: options.table.offset ?? 0, size: vectors * 16 };
  const pendingSize = roundUp(vectors, 64) / 8;
  // A BAR just for MSI-X is two halves, of which the table takes the first.
  const half = Math.max(2048, 2 ** Math.ceil(Math.log2(table.offset + table.size)));
  const own: BarDeclaration = { size: 2 * half };
  const implied: Partial<Record<BarIndex, BarDeclaration>> = { [table.bar]: own };
  if (options.pendingBits !== undefined && options.pendingBits.bar !== table.bar) {
    const end = (options.pendingBits.offset ?? 0) + pendingSize;
    implied[options.pendingBits.bar] = { size: Math.max(4096, 2 ** Math.ceil(Math.log2(end))) };
  }

  const pendingIn = (bars: BarDeclarations): Place => {
    const bar = options.pendingBits?.bar ?? table.bar;
    if (options.pendingBits !== undefined) return { bar, offset: options.pendingBits.offset ?? 0, size: pendingSize };
    const size = bars[bar]?.size ?? 0;
    const end = table.offset + table.size;
    const choices = [...(bars[bar] === own ? [half] : []), roundUp(end, 4096), roundUp(end, 8)];
    return { bar, offset: choices.find((at) => at + pendingSize <= size) ?? roundUp(end, 8), size: pendingSize };
  };

  return {
    group: MsiX,
    size: 12,
    ...(options.at === undefined ? {} : { at: options.at }),
    bars: implied,
    check({ bars }) {
      const pending = pendingIn(bars);
      checkPlace("table", table, bars);
      checkPlace("pending bits", pending, bars);
      const apart = table.bar !== pending.bar || table.offset + table.size <= pending.offset;
      if (!apart && pending.offset + pending.size > table.offset) {
        throw new Ring3Error(
          "BAR_CONFLICT",
          `the MSI-X table at ${hex(table.offset)} to ${hex(table.offset + table.size - 1)} of BAR ${table.bar} overlaps the ` +
            `pending bits at ${hex(pending.offset)} to ${hex(pending.offset + pending.size - 1)}`,
        );
      }
    },
    build(place) {
      const pending = pendingIn(place.bars);
      place.preset(MsiX.CONTROL, { TABLE_SIZE: vectors - 1 });
      place.preset(MsiX.TABLE, { TABLE_BIR: table.bar, TABLE_OFFSET: table.offset / 8 });
      place.preset(MsiX.PBA, { PBA_BIR: pending.bar, PBA_OFFSET: pending.offset / 8 });
      for (const register of [MsiX.CONTROL, MsiX.TABLE, MsiX.PBA]) place.constant(register);
    },
  };
}

function checkPlace(name: string, { bar, offset, size }: Place, bars: BarDeclarations): void {
  const declared = bars[bar];
  if (declared === undefined) {
    throw new Ring3Error("BAR_CONFLICT", `the MSI-X ${name} lie in BAR ${bar}, which the function does not have`);
  }
  if (declared.kind === "io") {
    throw new Ring3Error("BAR_CONFLICT", `the MSI-X ${name} need memory, and BAR ${bar} is I/O`);
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % 8 !== 0) {
    throw new Ring3Error("DECLARATION_INVALID", `the MSI-X ${name} lie at a multiple of 8, not at ${offset}`);
  }
  if (offset + size > declared.size || offset >= 2 ** 32) {
    throw new Ring3Error(
      "BAR_CONFLICT",
      `the MSI-X ${name} at ${hex(offset)} to ${hex(offset + size - 1)} leave BAR ${bar}, which has ${hex(declared.size)} bytes`,
    );
  }
}

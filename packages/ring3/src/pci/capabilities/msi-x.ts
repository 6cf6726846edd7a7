// PCIe 6.0, section 7.7.2. The table and the pending bits lie in a BAR, at offsets given in units of 8 bytes; table size is
// written as one less.
import type { ConfigSpace } from "../config-space.ts";
import { capability, type Declared } from "../register.ts";

const registers = {
  CONTROL: { at: [0x02, 16], TABLE_SIZE: ["RO", 0, 11], FUNCTION_MASK: ["RW", 14], MSIX_ENABLE: ["RW", 15] },
  TABLE: { at: [0x04, 32], TABLE_BIR: ["RO", 0, 3], TABLE_OFFSET: ["RO", 3, 29] },
  PBA: { at: [0x08, 32], PBA_BIR: ["RO", 0, 3], PBA_OFFSET: ["RO", 3, 29] },
} as const;

/** Message signalled interrupts with a table in memory. */
export const MsiX: Declared<typeof registers> = capability("MSI-X", 0x11, registers);

/** Where table and pending bits lie: BAR, offset and size in bytes. */
export interface MsiXLayout {
  readonly vectors: number;
  readonly table: { readonly bar: number; readonly offset: number; readonly size: number };
  readonly pendingBits: { readonly bar: number; readonly offset: number; readonly size: number };
}

/** Reads the layout; `undefined` without the capability or where it is cut off. A BAR above 5 is reserved and means that there is none. */
export function readMsiXLayout(config: ConfigSpace): MsiXLayout | undefined {
  if (!config.has(MsiX.PBA)) return undefined;
  const vectors = config.read(MsiX.CONTROL).TABLE_SIZE + 1;
  const table = config.read(MsiX.TABLE);
  const pba = config.read(MsiX.PBA);
  return {
    vectors,
    table: { bar: table.TABLE_BIR, offset: table.TABLE_OFFSET * 8, size: vectors * 16 },
    pendingBits: { bar: pba.PBA_BIR, offset: pba.PBA_OFFSET * 8, size: Math.ceil(vectors / 64) * 8 },
  };
}

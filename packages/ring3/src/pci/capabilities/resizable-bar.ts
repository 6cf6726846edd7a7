// PCIe 6.0, section 7.8.6: BARs whose size software chooses. Up to six pairs of registers; the first says how many. Sizes are
// bits: 2^20 bytes at bit 4 of the capability register and so on, going on at bit 16 of the control register (2^48).
import type { CapabilityEntry } from "../capability-walk.ts";
import type { ConfigSpace } from "../config-space.ts";
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITY_0: { at: [0x04, 32], SIZES: ["RO", 4, 28] },
  CONTROL_0: {
    at: [0x08, 32],
    BAR_INDEX: ["RO", 0, 3],
    NUMBER_OF_RESIZABLE_BARS: ["RO", 5, 3],
    BAR_SIZE: ["RW", 8, 6],
    UPPER_SIZES: ["RO", 16, 16],
  },
  CAPABILITY_1: { at: [0x0c, 32], SIZES: ["RO", 4, 28] },
  CONTROL_1: {
    at: [0x10, 32],
    BAR_INDEX: ["RO", 0, 3],
    NUMBER_OF_RESIZABLE_BARS: ["RO", 5, 3],
    BAR_SIZE: ["RW", 8, 6],
    UPPER_SIZES: ["RO", 16, 16],
  },
  CAPABILITY_2: { at: [0x14, 32], SIZES: ["RO", 4, 28] },
  CONTROL_2: {
    at: [0x18, 32],
    BAR_INDEX: ["RO", 0, 3],
    NUMBER_OF_RESIZABLE_BARS: ["RO", 5, 3],
    BAR_SIZE: ["RW", 8, 6],
    UPPER_SIZES: ["RO", 16, 16],
  },
  CAPABILITY_3: { at: [0x1c, 32], SIZES: ["RO", 4, 28] },
  CONTROL_3: {
    at: [0x20, 32],
    BAR_INDEX: ["RO", 0, 3],
    NUMBER_OF_RESIZABLE_BARS: ["RO", 5, 3],
    BAR_SIZE: ["RW", 8, 6],
    UPPER_SIZES: ["RO", 16, 16],
  },
  CAPABILITY_4: { at: [0x24, 32], SIZES: ["RO", 4, 28] },
  CONTROL_4: {
    at: [0x28, 32],
    BAR_INDEX: ["RO", 0, 3],
    NUMBER_OF_RESIZABLE_BARS: ["RO", 5, 3],
    BAR_SIZE: ["RW", 8, 6],
    UPPER_SIZES: ["RO", 16, 16],
  },
  CAPABILITY_5: { at: [0x2c, 32], SIZES: ["RO", 4, 28] },
  CONTROL_5: {
    at: [0x30, 32],
    BAR_INDEX: ["RO", 0, 3],
    NUMBER_OF_RESIZABLE_BARS: ["RO", 5, 3],
    BAR_SIZE: ["RW", 8, 6],
    UPPER_SIZES: ["RO", 16, 16],
  },
} as const;

/** Resizable BARs. Pairs beyond NUMBER_OF_RESIZABLE_BARS are not there. */
export const ResizableBar: Declared<typeof registers> = extendedCapability("REBAR", 0x15, registers);

/** The pairs of registers in order. */
const pairs = [
  [ResizableBar.CAPABILITY_0, ResizableBar.CONTROL_0],
  [ResizableBar.CAPABILITY_1, ResizableBar.CONTROL_1],
  [ResizableBar.CAPABILITY_2, ResizableBar.CONTROL_2],
  [ResizableBar.CAPABILITY_3, ResizableBar.CONTROL_3],
  [ResizableBar.CAPABILITY_4, ResizableBar.CONTROL_4],
  [ResizableBar.CAPABILITY_5, ResizableBar.CONTROL_5],
] as const;

/** Sizes in bytes are powers of two, so they are exact up to 2^63. */
export interface ResizableBarSizes {
  readonly bar: number;
  readonly size: number;
  /** Ascending. */
  readonly possible: readonly number[];
}

/** Reads which BARs can be resized and to what; empty without the capability. */
export function readResizableBars(config: ConfigSpace, within?: CapabilityEntry): readonly ResizableBarSizes[] {
  const entry = within ?? config.find(ResizableBar);
  if (entry === undefined || !config.has(ResizableBar.CONTROL_0, entry)) return [];
  const count = config.read(ResizableBar.CONTROL_0, entry).NUMBER_OF_RESIZABLE_BARS;
  return pairs.slice(0, count).flatMap(([capability, control]) => {
    if (!config.has(control, entry)) return [];
    const { SIZES } = config.read(capability, entry);
    const { BAR_INDEX, BAR_SIZE, UPPER_SIZES } = config.read(control, entry);
    const possible: number[] = [];
    for (let at = 0; at < 44; at++) {
      if (at < 28 ? (SIZES >>> at) & 1 : (UPPER_SIZES >>> (at - 28)) & 1) possible.push(2 ** (20 + at));
    }
    return [{ bar: BAR_INDEX, size: 2 ** (20 + BAR_SIZE), possible }];
  });
}

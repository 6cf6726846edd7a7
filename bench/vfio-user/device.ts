// What the wire is measured on: a function whose registers cost nothing, with memory to read in bulk.
import { VirtualFunction } from "ring3/virtual";

export const REGISTERS = 0;
export const MEMORY = 2;

/** BAR 0: 4 KiB of registers that read zero and take anything. BAR 2: 2 MiB of memory. */
export function wireDevice(): VirtualFunction {
  return new VirtualFunction({
    vendorId: 0x1234,
    deviceId: 0xbe9c,
    classCode: 0xff0000,
    bars: {
      0: { size: 4096, read32: () => 0, write32: () => undefined },
      2: { size: 2 ** 21, memory: true },
    },
  });
}

// What stands at the prompt of `ring3 repl` by name.
import type { BarIndex, PciFunction } from "ring3";
import { enableDecoding } from "../register-place.ts";
import { hex } from "../text.ts";
import { namedRegisters } from "./register-names.ts";

const BARS: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];

/** The names and what they are, in words. BARs answer afterwards: decoding is switched on. */
export async function promptNames(fn: PciFunction): Promise<{
  readonly names: Readonly<Record<string, unknown>>;
  readonly help: readonly (readonly [string, string])[];
}> {
  const bars = BARS.filter((index) => fn.bar(index).kind !== "none");
  enableDecoding(fn, bars);
  const registers = await namedRegisters(fn.config);
  const groups = Object.keys(registers);
  const names = {
    ...registers,
    ...Object.fromEntries(bars.map((index) => [`bar${index}`, fn.bar(index)])),
    fn,
    config: fn.config,
    hex: (value: number | bigint, digits?: number): string => `0x${hex(value, digits)}`,
    load: async (part: string): Promise<unknown> => await import(part === "" ? "ring3" : `ring3/${part}`),
  };
  const help = [
    ["fn", "the open function: bar(n), config, interrupts, dma, reset(), power, events"],
    ...bars.map((index): [string, string] => {
      const { kind, size } = fn.bar(index);
      return [
        `bar${index}`,
        `${kind}, 0x${hex(size)} bytes: read8 to read64(offset), write8 to write64(offset, value)`,
      ];
    }),
    ["config", "config space: read8 to read32(offset), write8 to write32(offset, value)"],
    [groups.join(", "), "registers by name: PM.PMCSR.read(), header.COMMAND.write({ BUS_MASTER: 1 })"],
    ["hex(value)", "a number in hexadecimal"],
    ['await load("nvme")', "a part of the library: nvme, edu, pci, memory, ..."],
  ] as const;
  return { names, help };
}

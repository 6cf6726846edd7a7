// What a user of the function finds again after a reset that it asked for: where the BARs are and how large. A kernel saves
// these registers before and gives them back afterwards, because it programmed them and the reset lost them.
import { ResizableBar } from "../pci/capabilities/resizable-bar.ts";
import { Header0 } from "../pci/header.ts";
import type { Register } from "../pci/register.ts";
import type { VirtualConfig } from "./config.ts";

/** Sizes before addresses, since a new size drops address bits. */
const registers: readonly Register[] = [
  ResizableBar.CONTROL_0,
  ResizableBar.CONTROL_1,
  ResizableBar.CONTROL_2,
  ResizableBar.CONTROL_3,
  ResizableBar.CONTROL_4,
  ResizableBar.CONTROL_5,
  Header0.BAR0,
  Header0.BAR1,
  Header0.BAR2,
  Header0.BAR3,
  Header0.BAR4,
  Header0.BAR5,
  Header0.EXPANSION_ROM,
] as readonly Register[];

export type UserRegisters = ReadonlyMap<Register, number>;

export function readUserRegisters(config: VirtualConfig): UserRegisters {
  const there = registers.filter((register) => config.has(register));
  return new Map(there.map((register) => [register, config.space.readRaw(register)]));
}

/** Writes them as the bus does: bits that nobody can write stay as they are. */
export function writeUserRegisters(config: VirtualConfig, kept: UserRegisters): void {
  for (const [register, value] of kept) config.space.writeRaw(register, value);
}

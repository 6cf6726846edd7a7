// What an access to config space costs, by a function itself and by the mediator in front of it.
import { linux, mediate, strict } from "ring3/mediation";
import { Header, type PciFunction } from "ring3/pci";
import { inProcess } from "ring3/virtual";

export const SELF = "the function itself";
export const MEDIATORS: Readonly<Record<string, typeof strict>> = {
  "mediator, strict": strict,
  "mediator, linux": linux,
};

/** What is done, once; registers that all functions have. */
export const ACCESSES: Readonly<Record<string, (fn: PciFunction, turn: number) => void>> = {
  "read of the ids (the user's copy)": ({ config }) => config.read32(Header.VENDOR_ID.offset),
  "read of STATUS (the hardware)": ({ config }) => config.read16(Header.STATUS.offset),
  "write of INTERRUPT_LINE (the user's copy)": ({ config }, turn) =>
    config.write8(Header.INTERRUPT_LINE.offset, turn & 0xff),
  "write of COMMAND (the hardware, BARs looked at before)": ({ config }) => config.write16(Header.COMMAND.offset, 6),
};

/** Nanoseconds of processor time for each kind of access, by who was asked. */
export type ConfigCost = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Measures `real` and a mediator for each rule set in front of it, in turns of `accesses` accesses. */
export async function measureConfig(real: PciFunction, accesses: number): Promise<ConfigCost> {
  const cost: Record<string, Record<string, number>> = {};
  const measure = (who: string, fn: PciFunction): void => {
    for (const [what, access] of Object.entries(ACCESSES)) {
      repeat(fn, access, accesses / 10);
      const before = process.cpuUsage();
      repeat(fn, access, accesses);
      const { user, system } = process.cpuUsage(before);
      (cost[what] ??= {})[who] = ((user + system) * 1000) / accesses;
    }
  };
  measure(SELF, real);
  for (const [who, rules] of Object.entries(MEDIATORS)) {
    await using mediated = await mediate(real, { rules });
    await using user = inProcess(mediated);
    measure(who, user);
  }
  return cost;
}

function repeat(fn: PciFunction, access: (fn: PciFunction, turn: number) => void, count: number): void {
  for (let turn = 0; turn < count; turn++) access(fn, turn);
}

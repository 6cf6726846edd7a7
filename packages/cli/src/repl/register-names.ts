// Registers of an open function by name, for people who type: PM.PMCSR.read(), header.COMMAND.write({ BUS_MASTER: 1 }).
// Looking at them, completing them and printing them touches nothing: only read and write do, one access each.
import { inspect } from "node:util";
import type { CapabilityEntry, ConfigSpace, Register, RegisterGroup } from "ring3/pci";
import { hex } from "../text.ts";

/** One register of this function. */
export interface NamedRegister {
  readonly offset: number;
  /** Names of its fields. */
  readonly fields: readonly string[];
  /** Its fields. One read. */
  read(): Readonly<Record<string, number>>;
  /** Changes the named fields. One read, one write. */
  write(values: Readonly<Record<string, number>>): void;
  /** The register as one number. One read. */
  readRaw(): number;
  /** One write. */
  writeRaw(value: number): void;
}

export type NamedRegisters = Readonly<Record<string, NamedRegister>>;

/** By the names of groups that are there, as identifiers: `header`, `PM`, `MSIX`; of several of a kind `VNDR`, `VNDR2`, ... */
export async function namedRegisters(config: ConfigSpace): Promise<Readonly<Record<string, NamedRegisters>>> {
  const { capabilityGroups, headerGroups } = await import("ring3/pci");
  const layout = config.read8(0x0e) & 0x7f;
  const [common, ...layouts] = headerGroups;
  const headers = [common, layouts[layout]].filter((group) => group !== undefined);
  const named: Record<string, NamedRegisters> = {
    header: Object.assign({}, ...headers.map((group) => registersOf(config, group, undefined))) as NamedRegisters,
  };
  for (const group of capabilityGroups) {
    for (const [index, entry] of config.findAll(group).entries()) {
      const name = `${group.name.replaceAll(/\W/g, "")}${index === 0 ? "" : index + 1}`;
      named[name] = registersOf(config, group, entry);
    }
  }
  return named;
}

function registersOf(config: ConfigSpace, group: RegisterGroup, entry: CapabilityEntry | undefined): NamedRegisters {
  const present = Object.entries(group.registers).filter(([, register]) => config.has(register, entry));
  return Object.fromEntries(present.map(([name, register]) => [name, named(config, register, entry)]));
}

function named(config: ConfigSpace, register: Register, entry: CapabilityEntry | undefined): NamedRegister {
  const offset = config.offsetOf(register, entry);
  const declared = Object.entries(register.fields);
  const shown = declared.map(([name, { kind, offset: low, width }]) => {
    return `${name} ${kind} [${width === 1 ? low : `${low + width - 1}:${low}`}]`;
  });
  const text = `${register.group.name}.${register.name} at 0x${hex(offset)}, ${register.width} bytes: ${shown.join(", ")}`;
  return {
    offset,
    fields: declared.map(([name]) => name),
    read: () => config.read(register, entry),
    write: (values) => config.write(register, values, entry),
    readRaw: () => config.readRaw(register, entry),
    writeRaw: (value) => config.writeRaw(register, value, entry),
    [inspect.custom]: () => text,
  } as NamedRegister;
}

// Names and fields for accesses: of BARs by a register map, of config space by the declarations and by where the function's
// capabilities lie. Hard about it: it runs for every access, so a place is looked up by table and a value that was seen last
// time is not taken apart again.
import { Ring3Error } from "../../binary/error.ts";
import type { Field } from "../../binary/field.ts";
import type { DeviceRegisters, RegisterMap } from "../../binary/register-map.ts";
import { bytesConfigAccess, ConfigSpace } from "../../pci/config-space.ts";
import { capabilityName } from "../../pci/capability-ids.ts";
import { Header, Header0, Header1, Header2 } from "../../pci/header.ts";
import type { RegisterGroup } from "../../pci/register.ts";
import { capabilityGroups } from "../../pci/register-groups.ts";
import type { DecodedValue } from "./event.ts";

interface Place {
  readonly name: string;
  readonly offset: number;
  readonly width: number;
  readonly fields: readonly PlacedField[];
  /** What was decoded last: of which access. */
  lastOffset: number;
  lastWidth: number;
  lastValue: number;
  last: DecodedValue | undefined;
}

interface PlacedField {
  readonly name: string;
  readonly field: Field;
  /** `"NAME":` */
  readonly json: string;
}

/** A value taken apart: as text at once, which is what a trace writes, and as an object when somebody asks. */
class Decoded implements DecodedValue {
  readonly register: string;
  readonly json: string;
  readonly #parts: readonly [field: PlacedField, value: number][];
  #fields: Record<string, number> | undefined;

  constructor(register: string, parts: readonly [field: PlacedField, value: number][]) {
    this.register = register;
    this.#parts = parts;
    let json = `,"register":"${register}"`;
    for (let i = 0; i < parts.length; i++) {
      const [{ json: name }, value] = parts[i] as [PlacedField, number];
      json += i === 0 ? `,"fields":{${name}${value}` : `,${name}${value}`;
    }
    this.json = parts.length === 0 ? json : `${json}}`;
  }

  get fields(): Readonly<Record<string, number>> {
    this.#fields ??= Object.fromEntries(this.#parts.map(([{ name }, value]) => [name, value]));
    return this.#fields;
  }
}

/** Names go into JSON as they are. */
function checkedName(name: string): string {
  if (/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/.test(name)) return name;
  throw new Ring3Error(
    "REGISTER_MAP_INVALID",
    `${JSON.stringify(name)} is no name for a register or field: plain ASCII, no quotes`,
  );
}

/** Places by each byte that they cover. */
class PlaceTable {
  readonly #byByte: Map<number, Place> = new Map();

  add(name: string, offset: number, width: number, fields: Readonly<Record<string, Field>> = {}): void {
    const place: Place = {
      name: checkedName(name),
      offset,
      width,
      fields: Object.entries(fields)
        .filter(([field]) => field !== "VALUE")
        .map(([field, bits]) => ({ name: checkedName(field), field: bits, json: `"${field}":` })),
      lastOffset: -1,
      lastWidth: 0,
      lastValue: 0,
      last: undefined,
    };
    // The register that was declared first keeps a byte: a part of a register may be declared as well.
    for (let at = offset; at < offset + width; at++) if (!this.#byByte.has(at)) this.#byByte.set(at, place);
  }

  get size(): number {
    return this.#byByte.size;
  }

  find(pattern: RegExp): Place[] {
    return [...new Set(this.#byByte.values())].filter(({ name }) => pattern.test(name));
  }

  decode(offset: number, width: number, value: number | bigint | undefined): DecodedValue | undefined {
    const place = this.#byByte.get(offset);
    if (place === undefined) return undefined;
    if (typeof value === "bigint" || width > 4) return this.#wide(place, offset, width, value);
    if (value === undefined) return new Decoded(nameAt(place, offset), []);
    if (
      place.last === undefined ||
      place.lastOffset !== offset ||
      place.lastWidth !== width ||
      place.lastValue !== value
    ) {
      place.last = this.#narrow(place, offset, width, value);
      place.lastOffset = offset;
      place.lastWidth = width;
      place.lastValue = value;
    }
    return place.last;
  }

  #narrow(place: Place, offset: number, width: number, value: number): Decoded {
    const parts = this.#parts(place, offset, width, value);
    return new Decoded(parts.register, parts.fields);
  }

  #parts(
    place: Place,
    offset: number,
    width: number,
    value: number,
  ): { register: string; fields: [PlacedField, number][] } {
    const fields: [PlacedField, number][] = [];
    fieldsInto(fields, place, offset, width, value);
    let register = nameAt(place, offset);
    for (let at = place.offset + place.width; at < offset + width; ) {
      const next = this.#byByte.get(at);
      if (next === undefined || next.offset !== at) break;
      register += `+${next.name}`;
      fieldsInto(fields, next, offset, width, value);
      at += next.width;
    }
    return { register, fields };
  }

  #wide(place: Place, offset: number, width: number, value: number | bigint | undefined): DecodedValue {
    if (value === undefined) return new Decoded(nameAt(place, offset), []);
    const wide = BigInt(value);
    const low = this.#parts(place, offset, Math.min(width, 4), Number(wide & 0xffff_ffffn));
    const second = width > 4 ? this.#byByte.get(offset + 4) : undefined;
    if (second === undefined || second === place) return new Decoded(low.register, low.fields);
    const high = this.#parts(second, offset + 4, 4, Number(wide >> 32n));
    return new Decoded(`${low.register}+${high.register}`, [...low.fields, ...high.fields]);
  }
}

function nameAt({ name, offset }: Place, at: number): string {
  return at === offset ? name : `${name}[${at - offset}]`;
}

/** Fields that lie wholly in the bits that were accessed, and are not 0. */
function fieldsInto(into: [PlacedField, number][], place: Place, offset: number, width: number, value: number): void {
  // Bit of the register at which the access begins; negative where it begins before the register.
  const start = (offset - place.offset) * 8;
  for (const placed of place.fields) {
    const { field } = placed;
    // The usual case: the access begins where the register does.
    let bits = 0;
    if (start === 0 && field.offset + field.width <= width * 8) bits = field.get(value);
    else {
      const from = field.offset - start;
      if (from < 0 || from + field.width > width * 8) continue;
      bits = Math.floor(value / 2 ** from) % 2 ** field.width;
    }
    if (bits !== 0) into.push([placed, bits]);
  }
}

export class AccessDecoder {
  readonly #bars: ReadonlyMap<number, PlaceTable>;
  readonly #config: PlaceTable;

  /** `config` is config space as it is now: where capabilities lie does not change. */
  constructor(config: Uint8Array, registers: DeviceRegisters | undefined) {
    const bars: Map<number, PlaceTable> = new Map();
    for (const [bar, map] of Object.entries(registers?.bars ?? {})) bars.set(Number(bar), tableOf(map));
    this.#bars = bars;
    this.#config = configTable(config);
  }

  /** Registers by name, without regard to case; `*` stands for any characters. */
  find(space: "bar" | "config", name: string): { bar: number; offset: number; width: number }[] {
    const pattern = namePattern(name);
    const tables = space === "config" ? new Map([[0, this.#config]]) : this.#bars;
    return [...tables].flatMap(([bar, table]) =>
      table.find(pattern).map(({ offset, width }) => ({ bar, offset, width })),
    );
  }

  /** Whether any name is known. */
  describes(space: "bar" | "config"): boolean {
    return space === "config" ? this.#config.size > 0 : this.#bars.size > 0;
  }

  bar(bar: number, offset: number, width: number, value: number | bigint | undefined): DecodedValue | undefined {
    return this.#bars.get(bar)?.decode(offset, width, value);
  }

  config(offset: number, width: number, value: number | undefined): DecodedValue | undefined {
    return this.#config.decode(offset, width, value);
  }
}

/** A register's name, alone or among those that one access covers. */
export function namePattern(name: string): RegExp {
  const escaped = name.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  return new RegExp(`(^|\\+)${escaped}($|\\+)`, "i");
}

function tableOf(map: RegisterMap): PlaceTable {
  const table = new PlaceTable();
  for (const { name, offset, width, fields } of map) table.add(name, offset, width, fields);
  return table;
}

function configTable(bytes: Uint8Array): PlaceTable {
  const table = new PlaceTable();
  const addGroup = (group: RegisterGroup, start: number, prefix: string): void => {
    for (const { name, offset, width, fields } of Object.values(group.registers)) {
      if (start + offset + width <= bytes.length) table.add(`${prefix}${name}`, start + offset, width, fields);
    }
  };
  addGroup(Header, 0, "");
  if (bytes.length < 64) return table;
  const layout = (bytes[0x0e] ?? 0) & 0x7f;
  addGroup([Header0, Header1, Header2][layout] ?? Header0, 0, "");
  const space = new ConfigSpace(bytesConfigAccess(bytes));
  for (const entry of [...space.capabilities(), ...space.extendedCapabilities()]) {
    const group = capabilityGroups.find(({ kind, id }) => kind === entry.kind && id === entry.id);
    if (group !== undefined) addGroup(group, entry.offset, `${group.name}.`);
    const name = group?.name ?? capabilityName(entry) ?? `capability ${entry.id}`;
    table.add(`${name}.HEAD`, entry.offset, entry.kind === "standard" ? 2 : 4);
  }
  return table;
}

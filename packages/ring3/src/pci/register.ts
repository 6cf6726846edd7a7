// One declaration per configuration register, in the vocabulary of PCIe 6.0, table 7-2. It is plain data (`as const`), so
// that decoders, masks, reset values and the types of fields all derive from the one literal.
import { Field } from "../binary/field.ts";

/**
 * What a field is, as PCIe 6.0 table 7-2 spells it. The last three are sticky: a conventional or function-level reset
 * leaves their value.
 */
export type RegisterKind = "RO" | "RW" | "RW1C" | "HwInit" | "RsvdP" | "RsvdZ" | "ROS" | "RWS" | "RW1CS";
/** The kinds that software changes. */
export type WritableKind = "RW" | "RW1C" | "RWS" | "RW1CS";

/** Kind, lowest bit, number of bits (1 by default) and value after reset (0 by default). */
export type FieldDeclaration = readonly [kind: RegisterKind, offset: number, width?: number, reset?: number];
export type FieldDeclarations = Readonly<Record<string, FieldDeclaration>>;
/** Offset in bytes from the start of the group, and size in bits. */
export type RegisterPlace = readonly [offset: number, bits: 8 | 16 | 32];
/**
 * Where the register lies, and its fields. A register that is one number has the one field `VALUE`. Bits that no field
 * names are reserved: RsvdZ in a register that has bits to clear and none to write, else RsvdP. A 64-bit register is two of
 * 32 bits, as the specification also names them.
 */
export interface RegisterDeclaration {
  readonly at: RegisterPlace;
  readonly [field: string]: FieldDeclaration | RegisterPlace;
}
export type RegisterDeclarations = Readonly<Record<string, RegisterDeclaration>>;

/** A {@link Field} of a configuration register: also knows its kind and its value after reset. */
export class RegisterField<K extends RegisterKind = RegisterKind> extends Field {
  readonly kind: K;
  readonly reset: number;

  constructor(kind: K, offset: number, width = 1, reset = 0) {
    super(offset, width);
    this.kind = kind;
    this.reset = reset;
    this.of(reset);
  }
}

/** The registers of the header, of a capability or of an extended capability. Offsets count from its start. */
export interface RegisterGroup {
  readonly kind: "header" | "standard" | "extended";
  /** Short name: `PM`, `MSI-X`, `AER`. */
  readonly name: string;
  /** The capability id; for headers 0. */
  readonly id: number;
  /** All registers, in the order of their declaration. */
  readonly registers: Readonly<Record<string, Register>>;
}

/** A reference to one register: what `ConfigSpace.read` and `write` take. */
export interface Register<D extends FieldDeclarations = FieldDeclarations> {
  readonly name: string;
  readonly group: RegisterGroup;
  /** In bytes, from the start of the group. */
  readonly offset: number;
  /** Size in bytes. */
  readonly width: 1 | 2 | 4;
  readonly fields: { readonly [K in keyof D]: RegisterField<D[K][0]> };
}

/** A register's value, field by field. */
export type RegisterValues<D extends FieldDeclarations> = { -readonly [K in keyof D]: number };
/** The fields of a register that can be written. */
export type WritableValues<D extends FieldDeclarations> = {
  readonly [K in keyof D as Extract<D[K][0], WritableKind> extends never ? never : K]?: number;
};
/** The fields of a declared register. */
export type FieldsOf<R extends RegisterDeclaration> = {
  readonly [K in Exclude<keyof R, "at">]: Extract<R[K], FieldDeclaration>;
};
/** References to all registers of a group, by name. */
export type Registers<R extends RegisterDeclarations> = { readonly [K in keyof R]: Register<FieldsOf<R[K]>> };
/** A declared group: itself and its registers by name, `PowerManagement.PMCSR`. */
export type Declared<R extends RegisterDeclarations> = RegisterGroup & Registers<R>;

function declare<const R extends RegisterDeclarations>(
  kind: RegisterGroup["kind"],
  name: string,
  id: number,
  declarations: R,
): Declared<R> {
  const registers: Record<string, Register> = {};
  const group = { kind, name, id, registers };
  for (const [registerName, { at, ...fieldDeclarations }] of Object.entries<RegisterDeclaration>(declarations)) {
    const [offset, bits] = at;
    const path = `${name}.${registerName}`;
    const width = (bits / 8) as 1 | 2 | 4;
    if (offset % width !== 0)
      throw new RangeError(`${path} lies at 0x${offset.toString(16)}, not aligned to ${width} bytes`);
    const fields: Record<string, RegisterField> = {};
    let taken = 0;
    for (const [fieldName, declaration] of Object.entries(fieldDeclarations)) {
      const field = new RegisterField(...(declaration as FieldDeclaration));
      if (field.offset + field.width > bits) throw new RangeError(`${path}.${fieldName} does not fit in ${bits} bits`);
      if (field.test(taken)) throw new RangeError(`${path}.${fieldName} overlaps another field`);
      taken |= field.mask;
      fields[fieldName] = field;
    }
    registers[registerName] = { name: registerName, group, offset, width, fields };
  }
  return Object.assign(group, registers) as Declared<R>;
}

/**
 * Declares a standard capability: its short name, its id and its registers, at offsets from its first byte.
 *
 * @example run
 * import { capability, type Declared } from "ring3/pci";
 * const registers = { CONTROL: { at: [0x02, 16], ENABLE: ["RW", 0], COUNT: ["RO", 1, 3] } } as const;
 * export const Example: Declared<typeof registers> = capability("EXAMPLE", 0x7f, registers);
 */
export function capability<const R extends RegisterDeclarations>(name: string, id: number, registers: R): Declared<R> {
  return declare("standard", name, id, registers);
}

/** Declares an extended capability (from offset 0x100 on), as {@link capability} does a standard one. */
export function extendedCapability<const R extends RegisterDeclarations>(
  name: string,
  id: number,
  registers: R,
): Declared<R> {
  return declare("extended", name, id, registers);
}

/** Declares registers of the header: their offsets count from the start of config space. */
export function header<const R extends RegisterDeclarations>(name: string, registers: R): Declared<R> {
  return declare("header", name, 0, registers);
}

/** A register's name with its group's: `PM.PMCSR`. */
export function registerPath(register: Register): string {
  return `${register.group.name}.${register.name}`;
}

/** Splits a raw value into the register's fields. */
export function decodeRegister<D extends FieldDeclarations>(register: Register<D>, raw: number): RegisterValues<D> {
  const values: Record<string, number> = {};
  for (const [name, field] of Object.entries<RegisterField>(register.fields)) values[name] = field.get(raw);
  return values as RegisterValues<D>;
}

/** Bits of every kind, each bit of the register in exactly one of the first six masks. */
export interface RegisterMasks {
  /** RW and RWS: take what is written. */
  readonly writable: number;
  /** RW1C and RW1CS: cleared by writing one. */
  readonly oneToClear: number;
  /** RO and ROS: follow the function's state. */
  readonly readOnly: number;
  /** HwInit: fixed once firmware or hardware set them. */
  readonly hardwareInitialized: number;
  /** RsvdP, declared or not: written back as read. */
  readonly reservedPreserve: number;
  /** RsvdZ, declared or not: written as zero. */
  readonly reservedZero: number;
  /** ROS, RWS and RW1CS: kept over a reset. */
  readonly sticky: number;
  /** Value after reset of the fields that declare one. */
  readonly reset: number;
}

const maskOf = {
  RO: "readOnly",
  ROS: "readOnly",
  RW: "writable",
  RWS: "writable",
  RW1C: "oneToClear",
  RW1CS: "oneToClear",
  HwInit: "hardwareInitialized",
  RsvdP: "reservedPreserve",
  RsvdZ: "reservedZero",
} as const satisfies Record<RegisterKind, keyof RegisterMasks>;

/** The masks that follow from a register's declaration. */
export function registerMasks(register: Register): RegisterMasks {
  const masks = {
    writable: 0,
    oneToClear: 0,
    readOnly: 0,
    hardwareInitialized: 0,
    reservedPreserve: 0,
    reservedZero: 0,
    sticky: 0,
    reset: 0,
  };
  let rest = 2 ** (register.width * 8) - 1;
  for (const field of Object.values(register.fields)) {
    const name = maskOf[field.kind];
    masks[name] = (masks[name] | field.mask) >>> 0;
    rest = (rest & ~field.mask) >>> 0;
    if (field.kind === "ROS" || field.kind === "RWS" || field.kind === "RW1CS") {
      masks.sticky = (masks.sticky | field.mask) >>> 0;
    }
    masks.reset = (masks.reset | field.of(field.reset)) >>> 0;
  }
  const name = masks.oneToClear !== 0 && masks.writable === 0 ? "reservedZero" : "reservedPreserve";
  masks[name] = (masks[name] | rest) >>> 0;
  return masks;
}

/**
 * The word to write so that `values` take effect and nothing else changes: other fields and RsvdP as in `current`, bits
 * that clear by one and RsvdZ as 0 unless named. Throws `RangeError` for a field that is not there, cannot be written or
 * is too narrow.
 */
export function encodeWrite<D extends FieldDeclarations>(
  register: Register<D>,
  current: number,
  values: WritableValues<D>,
): number {
  const { oneToClear, reservedZero } = registerMasks(register);
  const fields: Readonly<Record<string, RegisterField>> = register.fields;
  let word = (current & ~oneToClear & ~reservedZero) >>> 0;
  for (const [name, value] of Object.entries<number | undefined>(values)) {
    if (value === undefined) continue;
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (field === undefined) {
      throw new RangeError(`${registerPath(register)} has no field ${name}; it has ${Object.keys(fields).join(", ")}`);
    }
    if (maskOf[field.kind] !== "writable" && maskOf[field.kind] !== "oneToClear") {
      throw new RangeError(`${registerPath(register)}.${name} is ${field.kind} and cannot be written`);
    }
    word = field.set(word, value);
  }
  return word;
}

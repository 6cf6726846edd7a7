// Config space over any access method: checked accesses, capabilities, registers by name. Every method says how many
// accesses it makes, since one may be a message to another process and some registers act when touched.
import { Ring3Error } from "../binary/error.ts";
import {
  answersNothing,
  type CapabilityEntry,
  type CapabilityWalk,
  walkCapabilities,
  walkExtendedCapabilities,
} from "./capability-walk.ts";
import {
  decodeRegister,
  encodeWrite,
  type FieldDeclarations,
  type Register,
  type RegisterGroup,
  type RegisterValues,
  registerPath,
  type WritableValues,
} from "./register.ts";

/** What a back end supplies. It is called with aligned offsets in range and with values that fit. */
export interface ConfigAccess {
  /** Bytes that can be accessed: 64 and 256 (conventional) or 4096 (PCI Express), or what a dump holds. */
  readonly size: number;
  read(offset: number, width: 1 | 2 | 4): number;
  write(offset: number, width: 1 | 2 | 4, value: number): void;
  /** A range at once, where that is cheaper than single accesses. */
  readBytes?(offset: number, size: number): Uint8Array;
}

/**
 * A function's configuration space.
 *
 * @example
 * import { Header, PowerManagement } from "ring3/pci";
 * const { config } = fn;
 * config.read(PowerManagement.PMCSR).POWER_STATE; // one read
 * config.write(Header.COMMAND, { BUS_MASTER: 1 }); // one read, one write
 */
export class ConfigSpace {
  readonly #access: ConfigAccess;
  #standard: CapabilityWalk | undefined;
  #extended: CapabilityWalk | undefined;

  constructor(access: ConfigAccess) {
    this.#access = access;
  }

  /** Size in bytes. */
  get size(): number {
    return this.#access.size;
  }

  #check(offset: number, width: number, call: string): void {
    if (!Number.isInteger(offset) || offset < 0 || offset + width > this.#access.size) {
      throw new Ring3Error(
        "CONFIG_RANGE",
        `${call} at ${offset} leaves the ${this.#access.size} bytes of config space; extended registers need 4096`,
      );
    }
    if (offset % width !== 0) {
      throw new Ring3Error("CONFIG_RANGE", `${call} at 0x${offset.toString(16)} is not aligned to its ${width} bytes`);
    }
  }

  #read(offset: number, width: 1 | 2 | 4): number {
    this.#check(offset, width, `read${width * 8}`);
    return this.#access.read(offset, width) >>> 0;
  }

  #write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#check(offset, width, `write${width * 8}`);
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (width * 8)) {
      const message = `write${width * 8} of ${value}: the value is no unsigned ${width * 8}-bit integer (after ~ or | use >>> 0)`;
      throw new Ring3Error("CONFIG_RANGE", message);
    }
    this.#access.write(offset, width, value);
  }

  /** One access. Throws `CONFIG_RANGE` outside {@link size} or where not aligned, as all six of these do. */
  read8(offset: number): number {
    return this.#read(offset, 1);
  }
  read16(offset: number): number {
    return this.#read(offset, 2);
  }
  read32(offset: number): number {
    return this.#read(offset, 4);
  }
  write8(offset: number, value: number): void {
    this.#write(offset, 1, value);
  }
  write16(offset: number, value: number): void {
    this.#write(offset, 2, value);
  }
  write32(offset: number, value: number): void {
    this.#write(offset, 4, value);
  }

  /** `size` bytes from `offset` on, by one access of the back end or by the widest aligned ones that stay in range. */
  readBytes(offset: number, size: number): Uint8Array {
    this.#checkRange(offset, size, "readBytes");
    if (this.#access.readBytes !== undefined) {
      const bytes = this.#access.readBytes(offset, size);
      if (bytes.length === size) return bytes;
    }
    const target = new Uint8Array(size);
    const view = new DataView(target.buffer);
    for (const { at, width } of pieces(offset, size)) {
      const value = this.#read(at, width);
      if (width === 4) view.setUint32(at - offset, value, true);
      else if (width === 2) view.setUint16(at - offset, value, true);
      else view.setUint8(at - offset, value);
    }
    return target;
  }

  /** Writes `bytes` from `offset` on, ascending, by the widest aligned accesses. */
  writeBytes(offset: number, bytes: Uint8Array): void {
    this.#checkRange(offset, bytes.length, "writeBytes");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (const { at, width } of pieces(offset, bytes.length)) {
      if (width === 4) this.#write(at, 4, view.getUint32(at - offset, true));
      else if (width === 2) this.#write(at, 2, view.getUint16(at - offset, true));
      else this.#write(at, 1, view.getUint8(at - offset));
    }
  }

  #checkRange(offset: number, size: number, call: string): void {
    if (!Number.isInteger(offset) || !Number.isInteger(size) || offset < 0 || size < 0 || offset + size > this.size) {
      throw new Ring3Error(
        "CONFIG_RANGE",
        `${call} of ${size} bytes at ${offset} leaves the ${this.size} of config space`,
      );
    }
  }

  /** Whether a function answers: false where ids, command and status all read as ones. At most two reads. */
  isPresent(): boolean {
    return !answersNothing(this.#access);
  }

  /** The standard capabilities in list order. The walk is kept unless something was wrong with it. */
  capabilities(): readonly CapabilityEntry[] {
    return this.walk("standard").entries;
  }

  /** The extended capabilities in list order. The walk is kept unless something was wrong with it. */
  extendedCapabilities(): readonly CapabilityEntry[] {
    return this.walk("extended").entries;
  }

  /** One of the two lists together with what is wrong with it. */
  walk(kind: CapabilityEntry["kind"]): CapabilityWalk {
    const kept = kind === "standard" ? this.#standard : this.#extended;
    if (kept !== undefined) return kept;
    const access = this.#access;
    const reader = { size: access.size, read: (at: number, width: 1 | 2 | 4) => access.read(at, width) >>> 0 };
    const walk = kind === "standard" ? walkCapabilities(reader) : walkExtendedCapabilities(reader);
    // A function that does not answer (yet), or that is in the middle of a reset, must not be remembered as empty.
    const keep = walk.problems.length === 0 && (walk.entries.length > 0 || !answersNothing(reader));
    if (kind === "standard") this.#standard = keep ? walk : undefined;
    else this.#extended = keep ? walk : undefined;
    return walk;
  }

  /** Forgets where the capabilities lie. Back ends call it after a reset or whatever else may change them. */
  invalidate(): void {
    this.#standard = undefined;
    this.#extended = undefined;
  }

  /** The first capability of a kind, by its declaration or by its id (standard unless `kind` says otherwise). */
  find(which: RegisterGroup | number, kind: CapabilityEntry["kind"] = "standard"): CapabilityEntry | undefined {
    return this.findAll(which, kind)[0];
  }

  /** All capabilities of a kind: vendor-specific ones and some others may repeat. */
  findAll(which: RegisterGroup | number, kind: CapabilityEntry["kind"] = "standard"): readonly CapabilityEntry[] {
    if (typeof which === "number") return this.walk(kind).entries.filter((entry) => entry.id === which);
    if (which.kind === "header") return [];
    return this.walk(which.kind).entries.filter((entry) => entry.id === which.id);
  }

  /**
   * Where a register lies in this config space. `within` picks one of several capabilities of the same kind.
   * Throws `CAPABILITY_ABSENT`.
   */
  offsetOf(register: Register, within?: CapabilityEntry): number {
    const { group } = register;
    if (group.kind === "header") return register.offset;
    const entry = within ?? this.find(group);
    if (entry === undefined) {
      const problems = this.walk(group.kind).problems;
      throw new Ring3Error(
        "CAPABILITY_ABSENT",
        `the function has no ${group.name} capability, which ${registerPath(register)} belongs to` +
          (problems.length > 0 ? ` (${problems.join("; ")})` : ""),
      );
    }
    if (entry.kind !== group.kind || entry.id !== group.id) {
      throw new RangeError(`the capability at 0x${entry.offset.toString(16)} is not ${group.name}`);
    }
    return entry.offset + register.offset;
  }

  /** Whether a register is there: its capability is present and config space does not end before it. */
  has(register: Register, within?: CapabilityEntry): boolean {
    const start = register.group.kind === "header" ? 0 : (within ?? this.find(register.group))?.offset;
    return start !== undefined && start + register.offset + register.width <= this.size;
  }

  /** A register's fields. One read. */
  read<D extends FieldDeclarations>(register: Register<D>, within?: CapabilityEntry): RegisterValues<D> {
    return decodeRegister(register, this.readRaw(register, within));
  }

  /** A register as one number. One read. */
  readRaw(register: Register, within?: CapabilityEntry): number {
    return this.#read(this.offsetOf(register, within), register.width);
  }

  /**
   * Changes the named fields: one read, one write. Fields that are not named keep their value; bits that clear by writing
   * one are written as 0 unless named, RsvdP as read, RsvdZ as 0.
   */
  write<D extends FieldDeclarations>(register: Register<D>, values: WritableValues<D>, within?: CapabilityEntry): void {
    const offset = this.offsetOf(register, within);
    this.#write(offset, register.width, encodeWrite(register, this.#read(offset, register.width), values));
  }

  /** Writes a register as one number. One write. */
  writeRaw(register: Register, value: number, within?: CapabilityEntry): void {
    this.#write(this.offsetOf(register, within), register.width, value);
  }
}

/** Splits a range into naturally aligned accesses, the widest possible. */
function* pieces(offset: number, size: number): Generator<{ at: number; width: 1 | 2 | 4 }> {
  const end = offset + size;
  for (let at = offset; at < end; ) {
    const width = at % 4 === 0 && end - at >= 4 ? 4 : at % 2 === 0 && end - at >= 2 ? 2 : 1;
    yield { at, width };
    at += width;
  }
}

/** Access to bytes in memory: a dump, or a test's function. Writes change the bytes and nothing else. */
export function bytesConfigAccess(bytes: Uint8Array): ConfigAccess {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    size: bytes.length,
    read(offset, width) {
      if (width === 4) return view.getUint32(offset, true);
      return width === 2 ? view.getUint16(offset, true) : view.getUint8(offset);
    },
    write(offset, width, value) {
      if (width === 4) view.setUint32(offset, value, true);
      else if (width === 2) view.setUint16(offset, value, true);
      else view.setUint8(offset, value);
    },
    readBytes: (offset, size) => bytes.slice(offset, offset + size),
  };
}

// Little-endian wire structures, declared member by member at the offsets that the specification gives.
// For control paths; hot paths use word indices into one typed array.
import { Ring3Error } from "./error.ts";

/** How one member of a structure is stored: its size in bytes and its two directions. */
export interface Member<T> {
  readonly size: number;
  decode(view: DataView, offset: number): T;
  encode(view: DataView, offset: number, value: T): void;
}

export const u8: Member<number> = {
  size: 1,
  decode: (view, offset) => view.getUint8(offset),
  encode: (view, offset, value) => view.setUint8(offset, value),
};
export const u16: Member<number> = {
  size: 2,
  decode: (view, offset) => view.getUint16(offset, true),
  encode: (view, offset, value) => view.setUint16(offset, value, true),
};
export const u32: Member<number> = {
  size: 4,
  decode: (view, offset) => view.getUint32(offset, true),
  encode: (view, offset, value) => view.setUint32(offset, value, true),
};
export const i32: Member<number> = {
  size: 4,
  decode: (view, offset) => view.getInt32(offset, true),
  encode: (view, offset, value) => view.setInt32(offset, value, true),
};
export const u64: Member<bigint> = {
  size: 8,
  decode: (view, offset) => view.getBigUint64(offset, true),
  encode: (view, offset, value) => view.setBigUint64(offset, value, true),
};
/** A 128-bit unsigned integer, as NVMe's counters are. */
export const u128: Member<bigint> = {
  size: 16,
  decode: (view, offset) => view.getBigUint64(offset, true) | (view.getBigUint64(offset + 8, true) << 64n),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value & 0xffff_ffff_ffff_ffffn, true);
    view.setBigUint64(offset + 8, value >> 64n, true);
  },
};

/** `size` raw bytes. Decoding copies them. */
export function bytes(size: number): Member<Uint8Array> {
  return {
    size,
    decode: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, size).slice(),
    encode: (view, offset, value) => {
      if (value.length > size) throw new RangeError(`${value.length} bytes do not fit in a member of ${size}`);
      new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0).set(value);
    },
  };
}

/**
 * ASCII text of fixed length, padded with `pad`; decoding cuts at the first NUL and trims trailing blanks. What is not
 * printable ASCII decodes as `?` and is refused when encoding.
 */
export function ascii(size: number, pad = " "): Member<string> {
  return {
    size,
    decode: (view, offset) => {
      let text = "";
      for (let i = 0; i < size; i++) {
        const code = view.getUint8(offset + i);
        if (code === 0) break;
        text += String.fromCharCode(code < 0x20 || code > 0x7e ? 0x3f : code);
      }
      return text.trimEnd();
    },
    encode: (view, offset, value) => {
      if (value.length > size) throw new RangeError(`"${value}" is longer than ${size} characters`);
      if (/[^\x20-\x7e]/.test(value)) throw new RangeError(`"${value}" is not printable ASCII`);
      const padded = value.padEnd(size, pad);
      for (let i = 0; i < size; i++) view.setUint8(offset + i, padded.charCodeAt(i));
    },
  };
}

/** `count` members of the same kind, one behind the other. */
export function array<T>(member: Member<T>, count: number): Member<readonly T[]> {
  return {
    size: member.size * count,
    decode: (view, offset) => Array.from({ length: count }, (_, i) => member.decode(view, offset + i * member.size)),
    encode: (view, offset, values) => {
      if (values.length > count) throw new RangeError(`${values.length} elements do not fit in an array of ${count}`);
      for (const [i, value] of values.entries()) member.encode(view, offset + i * member.size, value);
    },
  };
}

type Members = Readonly<Record<string, readonly [offset: number, member: Member<unknown>]>>;
/** The value of a structure with these members. */
export type StructValue<M extends Members> = {
  -readonly [K in keyof M]: M[K] extends readonly [number, Member<infer T>] ? T : never;
};

/** A declared structure: also a {@link Member}, so that structures nest. */
export interface Struct<T> extends Member<T> {
  readonly name: string;
  /** Offsets of the members, in bytes. */
  readonly offsets: Readonly<Record<keyof T, number>>;
  /** Decodes `size` bytes from the start of `source`; throws `STRUCT_TRUNCATED` where there are fewer. */
  from(source: Uint8Array, offset?: number): T;
  /** Encodes `value` into new bytes; members left out are zero. */
  bytes(value: Partial<T>): Uint8Array;
}

/**
 * Declares a little-endian structure of `size` bytes, the size that its specification gives.
 *
 * @example run
 * import { struct, u32 } from "ring3/binary";
 * const Header = struct("Header", 8, { argsz: [0, u32], flags: [4, u32] });
 * Header.from(Header.bytes({ argsz: 8, flags: 1 })).flags; // 1
 */
export function struct<const M extends Members>(name: string, size: number, members: M): Struct<StructValue<M>> {
  type Value = StructValue<M>;
  const list = Object.entries(members) as [keyof Value & string, readonly [number, Member<unknown>]][];
  for (const [key, [offset, member]] of list) {
    if (offset < 0 || offset + member.size > size)
      throw new RangeError(`${name}.${key} lies outside its ${size} bytes`);
  }
  const decode = (view: DataView, base: number): Value => {
    const value: Partial<Record<string, unknown>> = {};
    for (const [key, [offset, member]] of list) value[key] = member.decode(view, base + offset);
    return value as Value;
  };
  const encode = (view: DataView, base: number, value: Partial<Value>): void => {
    for (const [key, [offset, member]] of list) {
      if (value[key] !== undefined) member.encode(view, base + offset, value[key]);
    }
  };
  return {
    name,
    size,
    offsets: Object.fromEntries(list.map(([key, [offset]]) => [key, offset])) as Record<keyof Value, number>,
    decode,
    encode,
    from(source, offset = 0) {
      if (offset < 0 || source.length - offset < size) {
        throw new Ring3Error(
          "STRUCT_TRUNCATED",
          `${name} takes ${size} bytes, ${Math.max(0, source.length - offset)} are there`,
        );
      }
      return decode(new DataView(source.buffer, source.byteOffset + offset, size), 0);
    },
    bytes(value) {
      const target = new Uint8Array(size);
      encode(new DataView(target.buffer), 0, value);
      return target;
    },
  };
}

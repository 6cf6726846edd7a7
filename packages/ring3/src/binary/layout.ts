// Registers and structures of datasheets as plain literals (`as const`): the one literal gives the values and the types.
import { Field } from "./field.ts";
import { array, ascii, bytes, type Member, type Struct, struct, u8, u16, u32, u64, u128 } from "./struct.ts";

/** Lowest bit and number of bits (1 by default). */
export type BitRun = readonly [offset: number, width?: number];
/** Named fields of one register or word. */
export type Fields<B extends Readonly<Record<string, BitRun>>> = { readonly [K in keyof B]: Field };

/** Makes the fields of one register from its bits: `fields({ EN: [0], CSS: [4, 3] })`. */
export function fields<const B extends Readonly<Record<string, BitRun>>>(runs: B): Fields<B> {
  return Object.fromEntries(
    Object.entries(runs).map(([name, [offset, width]]) => [name, new Field(offset, width ?? 1)]),
  ) as Fields<B>;
}

type Width = "u8" | "u16" | "u32";
type WideWidth = "u64" | "u128";
/** Offset in bytes and kind; a count makes an array of numbers, a size the length of text or bytes. */
type LayoutMember =
  | readonly [offset: number, kind: Width | WideWidth]
  | readonly [offset: number, kind: Width, count: number]
  | readonly [offset: number, kind: "ascii" | "text" | "bytes", size: number];
type LayoutMembers = Readonly<Record<string, LayoutMember>>;

type LayoutMemberValue<M extends LayoutMember> = M extends readonly [number, Width]
  ? number
  : M extends readonly [number, WideWidth]
    ? bigint
    : M extends readonly [number, Width, number]
      ? readonly number[]
      : M extends readonly [number, "bytes", number]
        ? Uint8Array
        : string;
/** The decoded value of a structure with these members. */
export type LayoutValue<M extends LayoutMembers> = { -readonly [K in keyof M]: LayoutMemberValue<M[K]> };

const integers = { u8, u16, u32, u64, u128 } as const;

function member([, kind, count]: LayoutMember): Member<never> {
  switch (kind) {
    case "ascii":
      return ascii(count ?? 0) as Member<never>;
    case "text":
      return ascii(count ?? 0, "\0") as Member<never>;
    case "bytes":
      return bytes(count ?? 0) as Member<never>;
    default:
      return (count === undefined
        ? integers[kind]
        : array(integers[kind] as Member<unknown>, count)) as unknown as Member<never>;
  }
}

/** Declares a structure of `size` bytes from a literal: `ascii` is padded with blanks, `text` with NUL. */
export function layout<const M extends LayoutMembers>(name: string, size: number, members: M): Struct<LayoutValue<M>> {
  const list = Object.entries(members).map(([key, value]) => [key, [value[0], member(value)]] as const);
  return struct(name, size, Object.fromEntries(list)) as unknown as Struct<LayoutValue<M>>;
}

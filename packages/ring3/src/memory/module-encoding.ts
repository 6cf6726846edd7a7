// The binary format of a WebAssembly module (core specification, chapter 5) as far as emitted loops need it.
import type { NumberType } from "./emitter-value.ts";
import { unsigned } from "./leb128.ts";

const CODE = { i32: 0x7f, i64: 0x7e } as const;

/** A function to encode: it takes `params` numbers of 32 bits. */
export interface EncodedFunction {
  readonly params: number;
  readonly result: NumberType | undefined;
  readonly locals: readonly NumberType[];
  readonly code: readonly number[];
}

/** The module of `functions`, as bytes. It imports the arena's memory as `memory` of `ring3`. */
export function encodeModule(functions: Readonly<Record<string, EncodedFunction>>): Uint8Array {
  const list = Object.entries(functions);
  const types = list.map(([, { params, result }]) => {
    return [
      0x60,
      ...vector(Array.from({ length: params }, () => [CODE.i32])),
      ...vector(result === undefined ? [] : [[CODE[result]]]),
    ];
  });
  const memory = [...text("ring3"), ...text("memory"), 0x02, 0x03, ...unsigned(0), ...unsigned(65536)];
  const exports = list.map(([name], i) => [...text(name), 0x00, ...unsigned(i)]);
  const bodies = list.map(([, { locals, code }]) => {
    const content = [...vector(locals.map((type) => [1, CODE[type]])), ...code];
    return [...unsigned(content.length), ...content];
  });
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, types),
    ...section(2, [memory]),
    ...section(
      3,
      list.map((_, i) => unsigned(i)),
    ),
    ...section(7, exports),
    ...section(10, bodies),
  ]);
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function section(id: number, items: readonly (readonly number[])[]): number[] {
  const content = vector(items);
  return [id, ...unsigned(content.length), ...content];
}

function text(value: string): number[] {
  return [...unsigned(value.length), ...Array.from(value, (character) => character.charCodeAt(0))];
}

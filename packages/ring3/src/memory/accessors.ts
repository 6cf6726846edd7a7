// One atomic load of each width, by absolute arena offset: emitted where WebAssembly is, `Atomics.load` elsewhere. Both
// are always exactly one access; the emitted ones take half the time.
import type { Arena } from "./arena.ts";
import { emit, emitted } from "./emitter.ts";

/** Loads by arena offset. Bounds and alignment are the caller's job. */
export interface Accessors {
  load8(address: number): number;
  load16(address: number): number;
  /** With a sign: `>>> 0` gives the register's value. */
  load32(address: number): number;
  load64(address: number): bigint;
}

/** Accessors for `arena`, which keep on working when it grows. */
export function accessorsOf(arena: Arena): Accessors {
  return arena.memory === undefined ? plainAccessors(arena) : emittedAccessors(arena);
}

function emittedAccessors(arena: Arena): Accessors {
  return emit(arena, {
    load8: emitted(["address"], {}, (body, { address }) => body.load8(address)),
    load16: emitted(["address"], {}, (body, { address }) => body.load16(address)),
    load32: emitted(["address"], {}, (body, { address }) => body.load32(address)),
    load64: emitted(["address"], {}, (body, { address }) => body.load64(address)),
  }) as Accessors;
}

/** The reference for the emitted ones. */
export function plainAccessors(arena: Arena): Accessors {
  let bytes = new Uint8Array(arena.buffer);
  let halfwords = new Uint16Array(arena.buffer);
  let words = new Uint32Array(arena.buffer);
  let longwords = new BigUint64Array(arena.buffer);
  const renew = (): void => {
    bytes = new Uint8Array(arena.buffer);
    halfwords = new Uint16Array(arena.buffer);
    words = new Uint32Array(arena.buffer);
    longwords = new BigUint64Array(arena.buffer);
  };
  const reach = (address: number): void => {
    if (address >= bytes.length) renew();
  };
  return {
    load8: (address) => {
      reach(address);
      return Atomics.load(bytes, address);
    },
    load16: (address) => {
      reach(address);
      return Atomics.load(halfwords, address >>> 1);
    },
    load32: (address) => {
      reach(address);
      return Atomics.load(words, address >>> 2) | 0;
    },
    load64: (address) => {
      reach(address);
      return Atomics.load(longwords, Math.floor(address / 8));
    },
  };
}

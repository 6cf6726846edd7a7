// Emits burst loops as WebAssembly: a few typed verbs over i32 and i64. Memory that a device writes is read by atomic
// loads only, because the optimising tier duplicates and narrows plain ones (there is none here); stores are plain, exact
// and in order. Constant addresses are baked into the code.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "./arena.ts";
import { codeOf, Local, type NumberType, type Operand, Value } from "./emitter-value.ts";
import { unsigned } from "./leb128.ts";
import { type EncodedFunction, encodeModule } from "./module-encoding.ts";
import { instantiate } from "./webassembly.ts";

/** Names a loop for `again` and `leave`. */
export interface Loop {
  readonly depth: number;
}

/** The body of a function, written in the order in which it runs. */
export class Body {
  readonly code: number[] = [];
  readonly loads: Set<object> = new Set<object>();
  readonly #open = new Set<Loop>();
  #depth = 0;

  /** An atomic load of 8, 16 or 32 bits, zero-extended, at `address + offset` (in the arena, naturally aligned). */
  load8(address: Operand<"i32">, offset = 0): Value<"i32"> {
    return this.#load("i32", 0x12, 0, address, offset);
  }
  load16(address: Operand<"i32">, offset = 0): Value<"i32"> {
    return this.#load("i32", 0x13, 1, address, offset);
  }
  load32(address: Operand<"i32">, offset = 0): Value<"i32"> {
    return this.#load("i32", 0x10, 2, address, offset);
  }
  load64(address: Operand<"i32">, offset = 0): Value<"i64"> {
    return this.#load("i64", 0x11, 3, address, offset);
  }

  /**
   * A plain load of 32 bits of memory that nobody else writes while the loop runs: neither a device nor another thread. The
   * compiler may repeat or narrow it.
   */
  own32(address: Operand<"i32">, offset = 0): Value<"i32"> {
    return new Value("i32", [...codeOf("i32", address), 0x28, 2, ...unsigned(offset)], this.loads);
  }

  /** A plain store of 8, 16, 32 or 64 bits. */
  store8(address: Operand<"i32">, value: Operand<"i32">, offset = 0): void {
    this.#store("i32", 0x3a, 0, address, value, offset);
  }
  store16(address: Operand<"i32">, value: Operand<"i32">, offset = 0): void {
    this.#store("i32", 0x3b, 1, address, value, offset);
  }
  store32(address: Operand<"i32">, value: Operand<"i32">, offset = 0): void {
    this.#store("i32", 0x36, 2, address, value, offset);
  }
  store64(address: Operand<"i32">, value: Operand<"i64">, offset = 0): void {
    this.#store("i64", 0x37, 3, address, value, offset);
  }

  /**
   * An atomic store of 16 or 32 bits: whoever loads the value sees everything that was stored before, and no later load comes
   * before it. For memory, never for registers: on x86 it is an exchange.
   */
  publish16(address: Operand<"i32">, value: Operand<"i32">, offset = 0): void {
    this.code.push(...codeOf("i32", address), ...codeOf("i32", value), 0xfe, 0x1a, 1, ...unsigned(offset));
  }
  publish32(address: Operand<"i32">, value: Operand<"i32">, offset = 0): void {
    this.code.push(...codeOf("i32", address), ...codeOf("i32", value), 0xfe, 0x17, 2, ...unsigned(offset));
  }

  /** Copies `size` bytes inside the arena, which may overlap. For payload: the accesses are of any width and order. */
  copy(to: Operand<"i32">, from: Operand<"i32">, size: Operand<"i32">): void {
    this.code.push(...codeOf("i32", to), ...codeOf("i32", from), ...codeOf("i32", size), 0xfc, 0x0a, 0x00, 0x00);
  }

  /** Orders all earlier stores before all later loads. */
  fence(): void {
    this.code.push(0xfe, 0x03, 0x00);
  }

  set<T extends NumberType>(local: Local<T>, value: Operand<T>): void {
    this.code.push(...codeOf(local.type, value), 0x21, ...unsigned(local.index));
  }

  if(condition: Value<"i32">, then: () => void, otherwise?: () => void): void {
    this.code.push(...condition.take(), 0x04, 0x40);
    this.#inside(1, then);
    if (otherwise !== undefined) {
      this.code.push(0x05);
      this.#inside(1, otherwise);
    }
    this.code.push(0x0b);
  }

  /** Repeats `body` until it leaves: at its end it starts again. */
  loop(body: (loop: Loop) => void): void {
    this.code.push(0x02, 0x40, 0x03, 0x40);
    const loop = { depth: this.#depth + 2 };
    this.#open.add(loop);
    this.#inside(2, () => {
      body(loop);
      this.again(loop);
    });
    this.#open.delete(loop);
    this.code.push(0x0b, 0x0b);
  }

  /** Starts the loop's next round, where `condition` holds if one is given. */
  again(loop: Loop, condition?: Value<"i32">): void {
    this.#branch(loop, 0, condition);
  }
  /** Goes on behind the loop, where `condition` holds if one is given. */
  leave(loop: Loop, condition?: Value<"i32">): void {
    this.#branch(loop, 1, condition);
  }

  #inside(levels: number, body: () => void): void {
    this.#depth += levels;
    body();
    this.#depth -= levels;
  }

  #branch(loop: Loop, outwards: number, condition: Value<"i32"> | undefined): void {
    if (!this.#open.has(loop)) throw new Ring3Error("EMITTER_MISUSE", "branch to a loop that has ended");
    const target = unsigned(this.#depth - loop.depth + outwards);
    this.code.push(...(condition === undefined ? [0x0c] : [...condition.take(), 0x0d]), ...target);
  }

  #load<T extends NumberType>(
    type: T,
    opcode: number,
    align: number,
    address: Operand<"i32">,
    offset: number,
  ): Value<T> {
    return new Value(type, [...codeOf("i32", address), 0xfe, opcode, align, ...unsigned(offset)], this.loads);
  }

  #store<T extends NumberType>(
    type: T,
    opcode: number,
    align: number,
    address: Operand<"i32">,
    value: Operand<T>,
    offset: number,
  ): void {
    this.code.push(...codeOf("i32", address), ...codeOf(type, value), opcode, align, ...unsigned(offset));
  }
}

type Locals<P extends readonly string[], L extends Readonly<Record<string, NumberType>>> = {
  readonly [K in P[number]]: Local<"i32">;
} & { readonly [K in keyof L]: Local<L[K]> };

type Returned<R> = R extends Value<"i32"> ? number : R extends Value<"i64"> ? bigint : void;

/** A function to emit; `Call` is what calling it looks like. */
export interface Emitted<Call> extends EncodedFunction {
  /** Only a type. */
  readonly call?: Call;
}

/**
 * Writes a function: `params` are 32-bit numbers, `locals` are 0 at first, and the value that `write` returns is the
 * function's result (a number with 32 bits and a sign).
 *
 * @example run
 * import { Arena, emit, emitted } from "ring3/memory";
 * const arena = Arena.create();
 * const range = arena.reserve(4096);
 * range.words.fill(3);
 * const { sum } = emit(arena, {
 *   sum: emitted(["first", "count"], { total: "i32" }, (body, { first, count, total }) => {
 *     body.loop((loop) => {
 *       body.leave(loop, count.not());
 *       body.set(total, total.add(body.load32(first)));
 *       body.set(first, first.add(4));
 *       body.set(count, count.sub(1));
 *     });
 *     return total;
 *   }),
 * });
 * sum(range.offset, 16); // 48
 */
export function emitted<
  const P extends readonly string[],
  const L extends Readonly<Record<string, NumberType>>,
  R extends Value<NumberType> | undefined | void,
>(
  params: P,
  locals: L,
  write: (body: Body, locals: Locals<P, L>) => R,
): Emitted<(...values: { readonly [K in keyof P]: number }) => Returned<R>> {
  const types: NumberType[] = [...params.map(() => "i32" as const), ...Object.values(locals)];
  const named = [...params, ...Object.keys(locals)].map((name, i) => [name, new Local(types[i] ?? "i32", i)]);
  const body = new Body();
  const result = write(body, Object.fromEntries(named)) as Value<NumberType> | undefined;
  const code = [...body.code, ...(result?.take() ?? []), 0x0b];
  if (body.loads.size > 0)
    throw new Ring3Error("EMITTER_MISUSE", "a loaded value is never used: set a local for a bare read");
  return { params: params.length, result: result?.type, locals: types.slice(params.length), code };
}

/** Compiles `functions` for `arena`. Throws `NOT_SUPPORTED` over a plain buffer: use the TypeScript reference there. */
export function emit<const F extends Readonly<Record<string, Emitted<unknown>>>>(
  arena: Arena,
  functions: F,
): { readonly [K in keyof F]: F[K] extends Emitted<infer Call> ? Call : never } {
  if (arena.memory === undefined) {
    throw new Ring3Error("NOT_SUPPORTED", "this arena is not WebAssembly memory: use the loop's TypeScript reference");
  }
  return instantiate(encodeModule(functions), arena.memory) as never;
}

// Values of the emitter: expressions over i32 and i64 that know their code, and when they contain an access to memory.
import { Ring3Error } from "../binary/error.ts";
import { signed, unsigned } from "./leb128.ts";

export type NumberType = "i32" | "i64";

/** Opcodes, for i32 and i64. */
const OPERATORS = {
  eqz: [0x45, 0x50],
  eq: [0x46, 0x51],
  ne: [0x47, 0x52],
  lt: [0x49, 0x54],
  gt: [0x4b, 0x56],
  le: [0x4d, 0x58],
  ge: [0x4f, 0x5a],
  add: [0x6a, 0x7c],
  sub: [0x6b, 0x7d],
  mul: [0x6c, 0x7e],
  and: [0x71, 0x83],
  or: [0x72, 0x84],
  xor: [0x73, 0x85],
  shl: [0x74, 0x86],
  shr: [0x76, 0x88],
} as const;
type Operator = keyof typeof OPERATORS;
/** A value, or a constant of its type. */
export type Operand<T extends NumberType> = Value<T> | number;

/**
 * A value while the loop runs; comparisons and `shr` are unsigned. A value that contains a load is one access at the place
 * where it is used, so it can be used once: put it into a local to use it again.
 */
export class Value<T extends NumberType> {
  readonly type: T;
  readonly #code: readonly number[];
  readonly #loads: Set<object> | undefined;

  constructor(type: T, code: readonly number[], loads?: Set<object>) {
    this.type = type;
    this.#code = code;
    this.#loads = loads;
    loads?.add(this);
  }

  /** The code that computes it. */
  take(): readonly number[] {
    if (this.#loads !== undefined && !this.#loads.delete(this)) {
      throw new Ring3Error("EMITTER_MISUSE", "a loaded value is used twice, which would be two accesses: set a local");
    }
    return this.#code;
  }

  add(other: Operand<T>): Value<T> {
    return this.#binary("add", other);
  }
  sub(other: Operand<T>): Value<T> {
    return this.#binary("sub", other);
  }
  mul(other: Operand<T>): Value<T> {
    return this.#binary("mul", other);
  }
  and(other: Operand<T>): Value<T> {
    return this.#binary("and", other);
  }
  or(other: Operand<T>): Value<T> {
    return this.#binary("or", other);
  }
  xor(other: Operand<T>): Value<T> {
    return this.#binary("xor", other);
  }
  shl(other: Operand<T>): Value<T> {
    return this.#binary("shl", other);
  }
  shr(other: Operand<T>): Value<T> {
    return this.#binary("shr", other);
  }
  eq(other: Operand<T>): Value<"i32"> {
    return this.#binary("eq", other, "i32");
  }
  ne(other: Operand<T>): Value<"i32"> {
    return this.#binary("ne", other, "i32");
  }
  lt(other: Operand<T>): Value<"i32"> {
    return this.#binary("lt", other, "i32");
  }
  gt(other: Operand<T>): Value<"i32"> {
    return this.#binary("gt", other, "i32");
  }
  le(other: Operand<T>): Value<"i32"> {
    return this.#binary("le", other, "i32");
  }
  ge(other: Operand<T>): Value<"i32"> {
    return this.#binary("ge", other, "i32");
  }
  /** 1 where the value is 0, else 0. */
  not(): Value<"i32"> {
    return new Value("i32", [...this.take(), opcode("eqz", this.type)], this.#loads);
  }
  /** The value as 64 bits, unsigned. */
  wide(): Value<"i64"> {
    return new Value("i64", this.type === "i64" ? this.take() : [...this.take(), 0xad], this.#loads);
  }
  /** The low 32 bits. */
  low(): Value<"i32"> {
    return new Value("i32", this.type === "i32" ? this.take() : [...this.take(), 0xa7], this.#loads);
  }

  #binary<R extends NumberType = T>(operator: Operator, other: Operand<T>, result?: R): Value<R> {
    const right = typeof other === "number" ? constant(this.type, other) : other;
    const loads = this.#loads ?? right.#loads;
    const code = [...this.take(), ...right.take(), opcode(operator, this.type)];
    return new Value((result ?? this.type) as R, code, loads);
  }
}

/** A parameter or local: the one kind of value that can be set. */
export class Local<T extends NumberType> extends Value<T> {
  readonly index: number;

  constructor(type: T, index: number) {
    super(type, [0x20, ...unsigned(index)]);
    this.index = index;
  }
}

function opcode(operator: Operator, type: NumberType): number {
  return OPERATORS[operator][type === "i32" ? 0 : 1];
}

function constant<T extends NumberType>(type: T, value: number): Value<T> {
  const limit = type === "i32" ? 2 ** 32 : 2 ** 53;
  if (!(Number.isInteger(value) && value < limit && value >= -(2 ** 31))) {
    throw new Ring3Error("EMITTER_MISUSE", `${value} is not an ${type}`);
  }
  return new Value(type, type === "i32" ? [0x41, ...signed(BigInt(value | 0))] : [0x42, ...signed(BigInt(value))]);
}

/** The code of an operand that is expected to have `type`. */
export function codeOf<T extends NumberType>(type: T, operand: Operand<T>): readonly number[] {
  return (typeof operand === "number" ? constant(type, operand) : operand).take();
}

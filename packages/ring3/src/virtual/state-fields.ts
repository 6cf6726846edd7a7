// How a model reads back what it saved: one field at a time, each checked for its kind and its limits.
import { Ring3Error } from "../binary/error.ts";
import type { StateRecord, StateValue } from "./state.ts";

/**
 * Takes a record's fields, each checked for its kind. For models that restore: everything throws `STATE_INVALID` with the
 * path of what is wrong.
 */
export class StateFields {
  readonly #record: StateRecord;
  readonly #path: string;

  constructor(record: StateRecord, path = "state") {
    this.#record = record;
    this.#path = path;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#record, key);
  }

  /** A number from `minimum` to `maximum`; an integer unless said otherwise. */
  number(
    key: string,
    limits: { readonly minimum?: number; readonly maximum?: number; readonly fraction?: boolean } = {},
  ): number {
    const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER, fraction = false } = limits;
    const value = this.#get(key);
    if (typeof value !== "number" || !(value >= minimum && value <= maximum) || (!fraction && !Number.isInteger(value)))
      throw this.#wrong(key, `is no ${fraction ? "number" : "integer"} from ${minimum} to ${maximum}`);
    return value;
  }

  bigint(key: string, maximum: bigint = 2n ** 64n - 1n): bigint {
    const value = this.#get(key);
    if (typeof value !== "bigint" || value < 0n || value > maximum) throw this.#wrong(key, `is none to ${maximum}`);
    return value;
  }

  string(key: string): string {
    const value = this.#get(key);
    if (typeof value !== "string") throw this.#wrong(key, "is no text");
    return value;
  }

  boolean(key: string): boolean {
    const value = this.#get(key);
    if (typeof value !== "boolean") throw this.#wrong(key, "is no boolean");
    return value;
  }

  /** Bytes, of exactly `size` where it is given. A view of the encoded state: copy what is kept. */
  bytes(key: string, size?: number): Uint8Array {
    const value = this.#get(key);
    if (!(value instanceof Uint8Array)) throw this.#wrong(key, "is no bytes");
    if (size !== undefined && value.length !== size) throw this.#wrong(key, `has ${value.length} bytes, not ${size}`);
    return value;
  }

  record(key: string): StateFields {
    return new StateFields(this.raw(key), `${this.#path}.${key}`);
  }

  /** A record as it is. */
  raw(key: string): StateRecord {
    const value = this.#get(key);
    if (!isRecord(value)) throw this.#wrong(key, "is no record");
    return value;
  }

  /** A list of records, of at most `maximum`. */
  records(key: string, maximum = 65_536): StateFields[] {
    return this.list(key, maximum).map((element, i) => {
      if (!isRecord(element)) throw this.#wrong(`${key}[${i}]`, "is no record");
      return new StateFields(element, `${this.#path}.${key}[${i}]`);
    });
  }

  /** A list of integers from 0 to `limit`, of at most `maximum`. */
  numbers(key: string, limit: number = Number.MAX_SAFE_INTEGER, maximum = 65_536): number[] {
    return this.list(key, maximum).map((element, i) => {
      if (typeof element !== "number" || !Number.isInteger(element) || element < 0 || element > limit) {
        throw this.#wrong(`${key}[${i}]`, `is no integer from 0 to ${limit}`);
      }
      return element;
    });
  }

  list(key: string, maximum = 65_536): readonly StateValue[] {
    const value = this.#get(key);
    if (!Array.isArray(value)) throw this.#wrong(key, "is no list");
    if (value.length > maximum) throw this.#wrong(key, `has ${value.length} elements, more than ${maximum}`);
    return value as readonly StateValue[];
  }

  #get(key: string): StateValue | undefined {
    return Object.hasOwn(this.#record, key) ? this.#record[key] : undefined;
  }

  #wrong(key: string, what: string): Ring3Error {
    return new Ring3Error("STATE_INVALID", `${this.#path}.${key} ${this.has(key) ? what : "is missing"}`);
  }
}

function isRecord(value: StateValue | undefined): value is StateRecord {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Uint8Array);
}

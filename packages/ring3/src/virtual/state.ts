// Saved state as bytes: a record of plain values, tagged and with lengths, so that a function moves between processes and
// over time. Hard about it: whoever restores did not write it, so every length and kind is checked before it is believed.
import { Ring3Error } from "../binary/error.ts";

export type StateValue = number | bigint | string | boolean | Uint8Array | StateRecord | readonly StateValue[];
/** What a model saves and restores. Keys are any strings but `__proto__`. */
export interface StateRecord {
  readonly [key: string]: StateValue;
}

/** The first bytes of an encoded state: "r3st" and the version of this encoding. */
const MAGIC = [0x72, 0x33, 0x73, 0x74, 1] as const;
/** Nesting beyond this is refused: no state needs it, and a hostile one must not exhaust the stack. */
const MAXIMUM_DEPTH = 32;

const Tag = { NUMBER: 1, BIGINT: 2, STRING: 3, FALSE: 4, TRUE: 5, BYTES: 6, RECORD: 7, LIST: 8, NEGATIVE: 9 } as const;

/** Encodes a record. Throws `STATE_INVALID` for what no state can hold. */
export function encodeState(record: StateRecord): Uint8Array {
  const writer = new StateWriter();
  for (const byte of MAGIC) writer.byte(byte);
  writer.record(record, 0);
  return writer.finish();
}

/**
 * Decodes what {@link encodeState} made. Byte arrays in the result are views of `bytes`. Throws `STATE_INVALID` for
 * anything else: truncated, trailing bytes, unknown tags, duplicate keys.
 */
export function decodeState(bytes: Uint8Array): StateRecord {
  const reader = new StateReader(bytes);
  for (const byte of MAGIC) {
    if (reader.byte() !== byte) throw invalid("it does not begin as a state of this version of ring3 does");
  }
  const record = reader.record(0);
  if (reader.left > 0) throw invalid(`${reader.left} bytes follow its end`);
  return record;
}

class StateWriter {
  #bytes = new Uint8Array(1024);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#length++] = value;
  }

  record(record: StateRecord, depth: number): void {
    const entries = Object.entries(record);
    this.#count(entries.length);
    for (const [key, value] of entries) {
      if (key === "__proto__") throw invalid("a record has the key __proto__");
      this.#string(key);
      this.#value(value, depth + 1);
    }
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #value(value: StateValue, depth: number): void {
    if (depth > MAXIMUM_DEPTH) throw invalid(`it is nested deeper than ${MAXIMUM_DEPTH}`);
    switch (typeof value) {
      case "number":
        this.byte(Tag.NUMBER);
        this.#room(8);
        this.#view.setFloat64(this.#length, value, true);
        this.#length += 8;
        return;
      case "bigint":
        this.byte(value < 0n ? Tag.NEGATIVE : Tag.BIGINT);
        this.#magnitude(value < 0n ? -value : value);
        return;
      case "string":
        this.byte(Tag.STRING);
        this.#string(value);
        return;
      case "boolean":
        this.byte(value ? Tag.TRUE : Tag.FALSE);
        return;
      case "object":
        if (value === null) break;
        if (value instanceof Uint8Array) {
          this.byte(Tag.BYTES);
          this.#blob(value);
        } else if (Array.isArray(value)) {
          this.byte(Tag.LIST);
          this.#count(value.length);
          for (const element of value as readonly StateValue[]) this.#value(element, depth + 1);
        } else {
          this.byte(Tag.RECORD);
          this.record(value as StateRecord, depth);
        }
        return;
    }
    throw invalid(`a ${value === null ? "null" : typeof value} is no part of a state`);
  }

  #magnitude(value: bigint): void {
    const digits = value.toString(16);
    const bytes = new Uint8Array(Math.ceil(digits.length / 2));
    for (let i = 0; i < bytes.length; i++) {
      const end = digits.length - 2 * i;
      bytes[i] = Number.parseInt(digits.slice(Math.max(end - 2, 0), end), 16);
    }
    this.#blob(bytes);
  }

  #string(text: string): void {
    this.#blob(new TextEncoder().encode(text));
  }

  #blob(bytes: Uint8Array): void {
    this.#count(bytes.length);
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #count(count: number): void {
    this.#room(8);
    this.#view.setFloat64(this.#length, count, true);
    this.#length += 8;
  }

  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + more));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

class StateReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  byte(): number {
    return this.#bytes[this.#take(1)] ?? 0;
  }

  record(depth: number): StateRecord {
    const count = this.#count(9);
    const record: Record<string, StateValue> = {};
    for (let i = 0; i < count; i++) {
      const key = this.#string();
      if (key === "__proto__" || Object.hasOwn(record, key)) throw invalid(`the key ${JSON.stringify(key)} is refused`);
      record[key] = this.#value(depth + 1);
    }
    return record;
  }

  #value(depth: number): StateValue {
    if (depth > MAXIMUM_DEPTH) throw invalid(`it is nested deeper than ${MAXIMUM_DEPTH}`);
    const tag = this.byte();
    switch (tag) {
      case Tag.NUMBER:
        return this.#view.getFloat64(this.#take(8), true);
      case Tag.BIGINT:
        return this.#magnitude();
      case Tag.NEGATIVE:
        return -this.#magnitude();
      case Tag.STRING:
        return this.#string();
      case Tag.FALSE:
      case Tag.TRUE:
        return tag === Tag.TRUE;
      case Tag.BYTES:
        return this.#blob();
      case Tag.RECORD:
        return this.record(depth);
      case Tag.LIST:
        return Array.from({ length: this.#count(1) }, () => this.#value(depth + 1));
      default:
        throw invalid(`the tag ${tag} is unknown`);
    }
  }

  #magnitude(): bigint {
    const bytes = this.#blob();
    if (bytes.length > 4096) throw invalid(`an integer has ${bytes.length} bytes`);
    let digits = "";
    for (const byte of bytes) digits = byte.toString(16).padStart(2, "0") + digits;
    return digits === "" ? 0n : BigInt(`0x${digits}`);
  }

  #string(): string {
    const bytes = this.#blob();
    try {
      // A decoder refuses views of shared memory, so this one gets a copy.
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.slice());
    } catch {
      throw invalid("a text is not UTF-8");
    }
  }

  #blob(): Uint8Array {
    const size = this.#count(1);
    const start = this.#take(size);
    return this.#bytes.subarray(start, start + size);
  }

  /** A number of things that take at least `least` bytes each: more than the rest can hold is a lie. */
  #count(least: number): number {
    const count = this.#view.getFloat64(this.#take(8), true);
    if (!(Number.isSafeInteger(count) && count >= 0 && count * least <= this.left)) {
      throw invalid(`a length of ${count} does not fit in the ${this.left} bytes left`);
    }
    return count;
  }

  #take(size: number): number {
    if (size > this.left) throw invalid("it ends too early");
    const start = this.#at;
    this.#at += size;
    return start;
  }
}

function invalid(why: string): Ring3Error {
  return new Ring3Error("STATE_INVALID", `this is no state of a function: ${why}`);
}

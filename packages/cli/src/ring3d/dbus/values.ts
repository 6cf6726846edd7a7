// Values of D-Bus in its wire format (D-Bus Specification 0.43, "Marshaling"), little endian: the basic types, variants, and
// the array of header fields; nothing else goes between ring3d and logind.

/** `y` byte, `b` boolean, `u` 32 bits, `t` 64 bits, `s` text, `o` object path, `g` signature, `h` index of a descriptor. */
export type DbusValue = number | bigint | boolean | string;

const SIZES: Readonly<Record<string, number>> = { y: 1, b: 4, u: 4, h: 4, t: 8 };
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** What the other side sent is not in the format, or not of a type that is known here. */
export class DbusFormatError extends Error {
  override readonly name = "DbusFormatError";
}

/** Alignment of a type's values, counted from the start of the message. */
export function alignment(type: string): number {
  return type === "s" || type === "o" ? 4 : (SIZES[type] ?? 1);
}

export class DbusWriter {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  align(to: number): void {
    this.#take(-this.#length & (to - 1));
  }

  /** Writes a value of a basic type, or a variant of the type that the value suggests: `t`, `b`, `u` or `s`. */
  put(type: string, value: DbusValue): void {
    if (type === "v") {
      const inner = { bigint: "t", boolean: "b", number: "u", string: "s" }[typeof value as "bigint"];
      this.put("g", inner);
      this.put(inner, value);
      return;
    }
    this.align(alignment(type));
    if (type === "s" || type === "o" || type === "g") {
      const text = encoder.encode(String(value));
      if (type === "g") this.#view.setUint8(this.#take(1), text.length);
      else this.#set("u", text.length);
      const at = this.#take(text.length + 1);
      this.#bytes.set(text, at);
    } else this.#set(type, value);
  }

  /** Overwrites a 32-bit number, such as a length that was not known before. */
  patch(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  #set(type: string, value: DbusValue): void {
    const at = this.#take(SIZES[type] ?? 0);
    if (type === "y") this.#view.setUint8(at, Number(value));
    else if (type === "t") this.#view.setBigUint64(at, BigInt(value), true);
    else if (type === "b" || type === "u" || type === "h") this.#view.setUint32(at, Number(value), true);
    else throw new RangeError(`values of type "${type}" are not written here`);
  }

  /** Room for `size` bytes, zero; where it begins. */
  #take(size: number): number {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(2 * this.#length);
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}

export class DbusReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #littleEndian: boolean;
  #at = 0;

  constructor(bytes: Uint8Array, littleEndian: boolean) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#littleEndian = littleEndian;
  }

  get at(): number {
    return this.#at;
  }

  align(to: number): void {
    this.#take(-this.#at & (to - 1));
  }

  /** Reads a value of a basic type, or what is in a variant (`v`). Throws {@link DbusFormatError}. */
  get(type: string): DbusValue {
    if (type === "v") {
      const inner = String(this.get("g"));
      // A variant in a variant could go on for ever.
      if (inner.length !== 1 || inner === "v") throw new DbusFormatError(`a variant of "${inner}" is not known here`);
      return this.get(inner);
    }
    this.align(alignment(type));
    if (type === "s" || type === "o") return this.#text(this.#number("u"));
    if (type === "g") return this.#text(this.#number("y"));
    if (type === "t") return this.#view.getBigUint64(this.#take(8), this.#littleEndian);
    if (type !== "b") return this.#number(type);
    const value = this.#number("u");
    if (value > 1) throw new DbusFormatError(`${value} is no boolean`);
    return value === 1;
  }

  #number(type: string): number {
    if (type === "y") return this.#view.getUint8(this.#take(1));
    if (type === "u" || type === "h") return this.#view.getUint32(this.#take(4), this.#littleEndian);
    throw new DbusFormatError(`values of type "${type}" are not known here`);
  }

  #text(length: number): string {
    const at = this.#take(length + 1);
    try {
      return decoder.decode(this.#bytes.subarray(at, at + length));
    } catch (error) {
      throw new DbusFormatError("a text is no UTF-8", { cause: error });
    }
  }

  #take(size: number): number {
    const at = this.#at;
    if (at + size > this.#bytes.length) throw new DbusFormatError("a message ends in the middle of a value");
    this.#at += size;
    return at;
  }
}

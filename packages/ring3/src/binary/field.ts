// A field is a run of bits inside a register or a word. All arithmetic is unsigned and stays exact to 32 bits.

/** A run of bits: `offset` is its lowest bit, `width` its length, `mask` its bits in place (unsigned 32-bit). */
export class Field {
  readonly offset: number;
  readonly width: number;
  readonly mask: number;

  constructor(offset: number, width: number) {
    if (!(Number.isInteger(offset) && Number.isInteger(width) && offset >= 0 && width >= 1 && offset + width <= 32)) {
      throw new RangeError(`a field of ${width} bits at bit ${offset} does not fit in 32 bits`);
    }
    this.offset = offset;
    this.width = width;
    this.mask = ((2 ** width - 1) << offset) >>> 0;
  }

  /** The field's value in `word`, shifted down to bit 0. */
  get(word: number): number {
    return (word & this.mask) >>> this.offset;
  }

  /** `value` shifted to its place, for joining with `|`. Throws `RangeError` where it does not fit. */
  of(value: number): number {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** this.width) {
      throw new RangeError(`${value} does not fit in a field of ${this.width} bits`);
    }
    return (value << this.offset) >>> 0;
  }

  /** `word` with this field replaced by `value`. */
  set(word: number, value: number): number {
    return ((word & ~this.mask) | this.of(value)) >>> 0;
  }

  /** Whether any bit of the field is set in `word`. */
  test(word: number): boolean {
    return (word & this.mask) !== 0;
  }
}

/** A field of `width` bits whose lowest is `offset`. */
export function bits(offset: number, width: number): Field {
  return new Field(offset, width);
}

/** A field of one bit. */
export function bit(offset: number): Field {
  return new Field(offset, 1);
}

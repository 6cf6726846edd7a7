// Random numbers that a seed repeats (xorshift32), for what is too frequent for fast-check.

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e37_79b9) | 1;
    for (let i = 0; i < 8; i++) this.word();
  }

  /** 32 bits. */
  word(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** From 0 to `end`, without `end`. */
  below(end: number): number {
    return this.word() % end;
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.word() % times === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.word() % from.length] as T;
  }
}

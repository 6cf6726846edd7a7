// When a fault strikes: occasions are counted, and chance comes from a seed, so that what happened once happens again.
import type { FaultTiming } from "./plan.ts";

export class Occasions {
  readonly #first: number;
  readonly #last: number;
  readonly #probability: number;
  readonly #random: () => number;
  #seen = 0;

  /** `times` is how often where the plan does not say. */
  constructor({ at = 1, times, probability = 1 }: FaultTiming, random: () => number, usual = 1) {
    const count = times ?? usual;
    this.#first = at;
    this.#last = count === 0 ? Number.POSITIVE_INFINITY : at + count - 1;
    this.#probability = probability;
    this.#random = random;
  }

  /** Counts an occasion, and says whether the fault strikes. */
  strike(): boolean {
    this.#seen++;
    if (this.#seen < this.#first || this.#seen > this.#last) return false;
    return this.#probability === 1 || this.#random() < this.#probability;
  }
}

/** Random numbers from 0 to 1 (excluded) that follow from a seed: a counter through a 32-bit mixing function. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e37_79b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

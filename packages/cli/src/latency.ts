// Latencies in buckets whose width grows with the value (64 to an octave): a sample costs one increment, a quantile is
// exact to 1.6 percent, and nothing is allocated while measuring.

const SUB_BITS = 6;
const SUB_BUCKETS = 2 ** SUB_BITS;
const OCTAVES = 36;

export interface LatencySummary {
  readonly minimum: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly maximum: number;
}

export class Latencies {
  readonly #buckets: Uint32Array = new Uint32Array(SUB_BUCKETS * OCTAVES);
  #count = 0;
  #sumNs = 0;
  #minimumNs = Number.POSITIVE_INFINITY;
  #maximumNs = 0;

  get count(): number {
    return this.#count;
  }

  /** Adds one sample, in nanoseconds. */
  add(nanoseconds: number): void {
    const value = nanoseconds < 0 ? 0 : nanoseconds;
    this.#count++;
    this.#sumNs += value;
    if (value < this.#minimumNs) this.#minimumNs = value;
    if (value > this.#maximumNs) this.#maximumNs = value;
    const index = bucketOf(value);
    this.#buckets[index] = (this.#buckets[index] ?? 0) + 1;
  }

  /** The value below which the share `quantile` (0 to 1) of the samples lies, in nanoseconds; 0 without samples. */
  quantile(quantile: number): number {
    if (this.#count === 0) return 0;
    const wanted = Math.max(1, Math.ceil(quantile * this.#count));
    let seen = 0;
    for (const [index, samples] of this.#buckets.entries()) {
      seen += samples;
      if (seen >= wanted) return Math.min(this.#maximumNs, Math.max(this.#minimumNs, upperBound(index)));
    }
    return this.#maximumNs;
  }

  /** Samples by powers of two, from the first to the last that has any; bounds in microseconds. */
  histogram(): { readonly belowUs: number; readonly count: number }[] {
    const bars: { belowUs: number; count: number }[] = [];
    for (let octave = 0; octave < OCTAVES; octave++) {
      const buckets = this.#buckets.subarray(octave * SUB_BUCKETS, (octave + 1) * SUB_BUCKETS);
      const count = buckets.reduce((sum, samples) => sum + samples, 0);
      if (count > 0 || bars.length > 0) bars.push({ belowUs: (SUB_BUCKETS * 2 ** octave) / 1000, count });
    }
    while (bars.at(-1)?.count === 0) bars.pop();
    return bars;
  }

  /** In microseconds. */
  summary(): LatencySummary {
    const us = (nanoseconds: number): number => Math.round(nanoseconds) / 1000;
    return {
      minimum: us(this.#count === 0 ? 0 : this.#minimumNs),
      mean: us(this.#count === 0 ? 0 : this.#sumNs / this.#count),
      p50: us(this.quantile(0.5)),
      p90: us(this.quantile(0.9)),
      p99: us(this.quantile(0.99)),
      p999: us(this.quantile(0.999)),
      maximum: us(this.#maximumNs),
    };
  }
}

/** Values below 64 ns have a bucket each; above, the top 7 bits decide. */
function bucketOf(nanoseconds: number): number {
  if (nanoseconds < SUB_BUCKETS) return Math.floor(nanoseconds);
  const octave = Math.floor(Math.log2(nanoseconds)) - SUB_BITS;
  const index = (octave + 1) * SUB_BUCKETS + Math.floor(nanoseconds / 2 ** octave) - SUB_BUCKETS;
  return Math.min(index, SUB_BUCKETS * OCTAVES - 1);
}

function upperBound(index: number): number {
  if (index < SUB_BUCKETS) return index + 1;
  const octave = Math.floor(index / SUB_BUCKETS) - 1;
  return ((index % SUB_BUCKETS) + SUB_BUCKETS + 1) * 2 ** octave;
}

// Rates while something runs: one sample a second, shown on the terminal as they come and kept for a plot.
import type { Context } from "../context.ts";
import { Latencies } from "../latency.ts";
import type { PlotPoint } from "./plot.ts";

const SAMPLE_MS = 1000;
/** Samples that are kept; beyond them every second one is left out, and samples become twice as long. */
const KEPT = 3600;

/** Quantiles of the latencies of a sample, in microseconds. */
export interface SampleLatency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** What a sample says, by name: packets a second, or microseconds. */
export interface Sample {
  readonly seconds: number;
  readonly rates: Readonly<Record<string, number>>;
  readonly latencyUs: SampleLatency | undefined;
}

export class Meter {
  readonly latencies: Latencies = new Latencies();
  readonly #context: Context;
  readonly #counters: () => Readonly<Record<string, number>>;
  readonly #now: () => number;
  readonly #startMs: number;
  readonly #samples: Sample[] = [];
  #last: Readonly<Record<string, number>>;
  #lastMs: number;
  #sampleMs: number = SAMPLE_MS;
  #interval: Latencies = new Latencies();

  /** `counters` gives totals by name. */
  constructor(
    context: Context,
    counters: () => Readonly<Record<string, number>>,
    now: () => number = () => performance.now(),
  ) {
    this.#context = context;
    this.#counters = counters;
    this.#now = now;
    this.#startMs = now();
    this.#lastMs = this.#startMs;
    this.#last = counters();
  }

  get seconds(): number {
    return (this.#now() - this.#startMs) / 1000;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Counts one latency. */
  add(nanoseconds: number): void {
    this.latencies.add(nanoseconds);
    this.#interval.add(nanoseconds);
  }

  /** Takes a sample where it is time to, and shows it. Call it as often as you like. */
  look(): void {
    const nowMs = this.#now();
    if (nowMs - this.#lastMs < this.#sampleMs) return;
    this.#sample(nowMs);
    const sample = this.#samples.at(-1);
    if (sample !== undefined) this.#context.progress.update(() => describe(sample));
  }

  /** The last sample, of whatever is left. */
  finish(): void {
    const nowMs = this.#now();
    if (nowMs > this.#lastMs) this.#sample(nowMs);
    this.#context.progress.clear();
  }

  #sample(nowMs: number): void {
    const seconds = (nowMs - this.#lastMs) / 1000;
    const counters = this.#counters();
    const rates = Object.fromEntries(
      Object.entries(counters).map(([name, value]) => [name, (value - (this.#last[name] ?? 0)) / seconds]),
    );
    const us = (quantile: number): number => this.#interval.quantile(quantile) / 1000;
    const latencyUs = this.#interval.count === 0 ? undefined : { p50: us(0.5), p99: us(0.99), p999: us(0.999) };
    this.#samples.push({ seconds: (nowMs - this.#startMs) / 1000, rates, latencyUs });
    this.#interval = new Latencies();
    this.#last = counters;
    this.#lastMs = nowMs;
    if (this.#samples.length < KEPT) return;
    for (let i = this.#samples.length - 1; i > 0; i -= 2) this.#samples.splice(i, 1);
    this.#sampleMs *= 2;
  }

  /** One curve of the rates, by name. */
  rates(name: string): PlotPoint[] {
    return this.#samples.map(({ seconds, rates }) => [seconds, rates[name] ?? 0]);
  }

  /** One curve of the latencies, in microseconds. */
  latency(which: keyof SampleLatency): PlotPoint[] {
    return this.#samples.flatMap(({ seconds, latencyUs }): PlotPoint[] =>
      latencyUs === undefined ? [] : [[seconds, latencyUs[which]]],
    );
  }
}

function describe({ seconds, rates, latencyUs }: Sample): string {
  const parts = Object.entries(rates).map(([name, rate]) => `${name} ${amount(rate)}/s`);
  const us = (value: number): string => `${value.toFixed(1)} us`;
  const latency =
    latencyUs === undefined ? "" : `, p50 ${us(latencyUs.p50)}, p99 ${us(latencyUs.p99)}, p99.9 ${us(latencyUs.p999)}`;
  return `${seconds.toFixed(0)} s: ${parts.join(", ")}${latency}`;
}

/** `1.23 M`, `45.6 k`, `789`. */
export function amount(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return value.toFixed(0);
}

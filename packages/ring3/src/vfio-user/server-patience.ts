// How long a client may keep its server waiting. While the server asks a client for memory nobody else is served: so a
// single answer is bounded, and so is what many slow ones add up to.

/** An answer that takes no longer costs nothing: an emulated machine needs some hundred microseconds. */
const FREE_MS = 5;
/** Part of the time that goes by which is given back. */
const REFILL = 0.1;

/** A supply of waiting time that refills slowly. */
export class Patience {
  readonly #mostMs: number;
  #leftMs: number;
  #atMs: number;

  constructor(mostMs: number, nowMs: number) {
    this.#mostMs = mostMs;
    this.#leftMs = mostMs;
    this.#atMs = nowMs;
  }

  /** How long the next answer may take; 0 where there is no patience left. */
  at(nowMs: number): number {
    this.#leftMs = Math.min(this.#mostMs, this.#leftMs + Math.max(0, nowMs - this.#atMs) * REFILL);
    this.#atMs = nowMs;
    return Math.ceil(this.#leftMs);
  }

  /** In this time the server did not look for the answer, but was busy; answers that were {@link spent} in it were. */
  excuse(fromMs: number, untilMs: number): void {
    this.#atMs += Math.max(0, untilMs - Math.max(fromMs, this.#atMs));
  }

  /** An answer took from the last {@link at} until now. */
  spent(nowMs: number): void {
    this.#leftMs = Math.max(0, this.#leftMs - Math.max(0, nowMs - this.#atMs - FREE_MS));
    this.#atMs = nowMs;
  }
}

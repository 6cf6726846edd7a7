// Another attempt at what failed, after pauses that double.

/** The first pause and the longest, in milliseconds. */
const FIRST_MS = 1000;
const LAST_MS = 60_000;

export class Retry {
  readonly #attempt: () => void;
  #pauseMs = FIRST_MS;
  #timer: NodeJS.Timeout | undefined;

  constructor(attempt: () => void) {
    this.#attempt = attempt;
  }

  /** Whether an attempt waits for its time. */
  get waiting(): boolean {
    return this.#timer !== undefined;
  }

  /** Makes the attempt after the pause, which is twice as long the next time. */
  later(): void {
    this.cancel();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#attempt();
    }, this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LAST_MS);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The next pause is the first one again. */
  shorten(): void {
    this.#pauseMs = FIRST_MS;
  }
}

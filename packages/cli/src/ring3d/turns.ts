// Work that must not overlap, done in the order in which it was asked for.

export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does `work` once everything before it has ended, well or not; gives what it comes to. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Resolves once everything that was asked for so far has ended. */
  async ended(): Promise<void> {
    await this.#last;
  }
}

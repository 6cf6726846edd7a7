// Progress of long work, on stderr: one line that is rewritten on a terminal, a plain line now and then elsewhere.
import type { Writable } from "node:stream";

export interface ProgressOptions {
  readonly stream: Writable;
  readonly isTerminal: boolean;
  readonly quiet: boolean;
  /** Milliseconds; passed in for tests. */
  readonly now?: () => number;
}

const TERMINAL_INTERVAL_MS = 100;
const PLAIN_INTERVAL_MS = 5_000;

export class Progress {
  readonly #options: ProgressOptions;
  readonly #now: () => number;
  #shown = false;
  #last: number | undefined;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** One line that stays: a step of something that has several. */
  step(text: string): void {
    if (this.#options.quiet) return;
    this.clear();
    this.#options.stream.write(`${text}\n`);
  }

  /** The state of something that goes on; shown as often as it makes sense, so call it as often as you like. */
  update(text: () => string): void {
    const { stream, isTerminal, quiet } = this.#options;
    if (quiet) return;
    const now = this.#now();
    this.#last ??= now;
    if (now - this.#last < (isTerminal ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS)) return;
    this.#last = now;
    if (isTerminal) {
      stream.write(`\r\u001b[K${text()}`);
      this.#shown = true;
    } else {
      stream.write(`${text()}\n`);
    }
  }

  /** Takes the rewritten line away before anything else is printed. */
  clear(): void {
    if (!this.#shown) return;
    this.#shown = false;
    this.#options.stream.write("\r\u001b[K");
  }
}

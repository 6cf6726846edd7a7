// All or nothing: steps run in order, each with the way back known before it starts; when one fails, or the caller aborts,
// the ways back run in reverse. A step's undo must therefore cope with a step that did nothing or only half.
import { messageOf, Ring3Error } from "../binary/error.ts";

/** One change to the machine. */
export interface Step {
  /** What it does, in words for the user. */
  readonly text: string;
  /** The same as a shell command, where there is one. */
  readonly command: string | undefined;
  run(): Promise<void>;
  /** Brings the old state back; absent where there is nothing to bring back. */
  readonly undo?: (() => Promise<void>) | undefined;
}

export class Journal {
  readonly #done: Step[] = [];
  readonly #signal: AbortSignal | undefined;
  readonly #progress: ((text: string) => void) | undefined;

  constructor(signal?: AbortSignal, progress?: (text: string) => void) {
    this.#signal = signal;
    this.#progress = progress;
  }

  /** Runs `steps`; throws the first failure and leaves rolling back to {@link attempt}. */
  async run(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      this.#throwIfAborted();
      this.#progress?.(step.text);
      this.#done.push(step);
      await step.run();
    }
    this.#throwIfAborted();
  }

  /** Runs `action`; when it throws, undoes every step that it ran and throws its error, with what could not be undone. */
  async attempt<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      const left = await this.#rollBack();
      if (left.length === 0) throw error;
      const message = messageOf(error);
      throw new Ring3Error(
        "ROLLBACK_INCOMPLETE",
        `${message}; going back failed as well: ${left.join("; ")}. Try: sudo ring3 unbind`,
        { cause: error },
      );
    }
  }

  async #rollBack(): Promise<string[]> {
    const problems: string[] = [];
    for (const step of this.#done.splice(0).toReversed()) {
      if (step.undo === undefined) continue;
      this.#progress?.(`going back: ${step.text}`);
      try {
        await step.undo();
      } catch (error) {
        problems.push(`"${step.text}": ${messageOf(error)}`);
      }
    }
    return problems;
  }

  #throwIfAborted(): void {
    if (this.#signal?.aborted !== true) return;
    throw new Ring3Error("INTERRUPTED", "stopped before everything was done, and everything was put back", {
      cause: this.#signal.reason,
    });
  }
}

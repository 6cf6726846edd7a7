// What the users of one function are told about it, and what their replies come to: an error goes through the stages of the
// kernel's recovery, a removal through its grace time.
import { type ErrorStage, type ErrorVote, type NoticeBroker, outcomeText } from "ring3/notices";
import type { FunctionEvent } from "./function-needs.ts";

/** What notices lead to. */
export interface NoticeActions {
  readonly emit: (event: FunctionEvent) => void;
  /** Resets the function under its users. */
  readonly reset: () => Promise<unknown>;
  /** Takes it from its users. */
  readonly disconnect: (reason: string) => Promise<unknown>;
}

/** How long the platform may take to deal with an error; then users go on without its word. */
const PLATFORM_MS = 10_000;

export class FunctionNotices {
  readonly #name: string;
  readonly #broker: NoticeBroker;
  readonly #actions: NoticeActions;
  /** An error that users vote on, until the platform has dealt with it. */
  #handling: PromiseWithResolvers<void> | undefined;

  constructor(name: string, broker: NoticeBroker, actions: NoticeActions) {
    this.#name = name;
    this.#broker = broker;
    this.#actions = actions;
  }

  /** Throws `FUNCTION_REMOVED` from the beginning of a removal on. */
  checkOpenable(): void {
    this.#broker.checkOpenable(this.#name);
  }

  /** Somebody has opened the function; disposal is its closing. */
  opened(user: { readonly pid: number; readonly uid: number }): Disposable {
    return this.#broker.opened(this.#name, user, (reason) => void this.#actions.disconnect(reason));
  }

  /** Tells of an error; one that comes while users vote on another is a part of that. */
  error(description: string): void {
    if (this.#broker.users(this.#name).length === 0) return;
    if (this.#handling !== undefined) return;
    const handling = Promise.withResolvers<void>();
    this.#handling = handling;
    void this.#recover(description, handling.promise);
  }

  /** The kernel has dealt with an error. */
  recovered(description: string): void {
    if (this.#handling === undefined) this.#broker.errorResumed(this.#name, description);
    else this.#handling.resolve();
  }

  /** Resolves once nobody has the function any more: all have let go, or it was taken from them. */
  async removal(graceMs: number, description: string): Promise<void> {
    const outcome = await this.#broker.remove(this.#name, graceMs, description);
    this.#actions.emit({ type: "notice", notice: "remove", outcome: outcomeText(outcome) });
  }

  /** The function is there again. */
  returned(): void {
    this.#broker.returned(this.#name);
  }

  async #recover(description: string, dealtWith: Promise<void>): Promise<void> {
    try {
      let vote = await this.#vote("error-detected", description);
      // Until then its link may be down, and a reset would find nothing, or keep what is wrong.
      if (vote !== "disconnect") await inTime(dealtWith, PLATFORM_MS);
      if (vote === "can-recover") vote = await this.#vote("mmio-enabled", description);
      if (vote === "need-reset") {
        await this.#actions.reset();
        vote = await this.#vote("slot-reset", description);
      }
      if (vote === "disconnect" || vote === "need-reset") {
        await this.#actions.disconnect(`it cannot go on after an error: ${description}`);
      } else this.#broker.errorResumed(this.#name, description);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#actions.emit({ type: "fault", description: `after an error it was not reset: ${why}` });
      await this.#actions.disconnect(`it could not be reset after an error: ${why}`);
    } finally {
      this.#handling = undefined;
    }
  }

  async #vote(stage: ErrorStage, description: string): Promise<ErrorVote> {
    const outcome = await this.#broker.error(this.#name, stage, description);
    this.#actions.emit({ type: "notice", notice: stage, outcome: outcomeText(outcome) });
    return outcome.vote;
  }
}

/** Resolves with `promise`, or without it when the time is over. */
async function inTime(promise: Promise<void>, ms: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise, late]);
  clearTimeout(timer);
}

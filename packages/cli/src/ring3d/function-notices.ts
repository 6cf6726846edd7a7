// What the users of one function are told about it, and what their replies come to: an error goes through the stages of the
// kernel's recovery, a removal through its grace time.
import { messageOf } from "ring3/binary";
import type { ResetMethod } from "ring3";
import { type ErrorStage, type ErrorVote, type NoticeBroker, outcomeText, worstVote } from "ring3/notices";
import type { FunctionEvent } from "./function-needs.ts";

/** What notices lead to. */
export interface NoticeActions {
  readonly emit: (event: FunctionEvent) => void;
  /** Resets the function under its users. */
  readonly reset: () => Promise<ResetMethod>;
  /** Resets its bus, and with it the link and everybody who is there. */
  readonly resetBus: (reason: string) => Promise<ResetMethod>;
  /** Takes it from its users. */
  readonly disconnect: (reason: string) => Promise<unknown>;
}

/** What goes through the link: a reset of the function alone leaves that as it is (PCIe 6.0, section 6.6.2). */
const LINK_RESETS: ReadonlySet<ResetMethod | undefined> = new Set(["bus", "cxl_bus"]);

/** How long the platform may take to deal with an error; then users go on without its word. */
const PLATFORM_MS = 10_000;

export class FunctionNotices {
  readonly #name: string;
  readonly #broker: NoticeBroker;
  readonly #actions: NoticeActions;
  /** An error that users vote on; resolves when the platform has dealt with it, with how it reset the function. */
  #handling: PromiseWithResolvers<ResetMethod | undefined> | undefined;
  /** It is handled because another function's recovery resets the bus. */
  #forNeighbour = false;

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
    const handling = Promise.withResolvers<ResetMethod | undefined>();
    this.#handling = handling;
    void this.#recover(description, handling.promise);
  }

  /** The kernel has dealt with an error; `reset` is how it reset the function, if it did. */
  recovered(description: string, reset?: ResetMethod): void {
    if (this.#handling === undefined) this.#broker.errorResumed(this.#name, description);
    else this.#handling.resolve(reset);
  }

  /** Its bus is about to be reset for another function: resolves once its users have said what they think of it. */
  async beforeBusReset(description: string): Promise<void> {
    // Whoever votes on an error already has heard of it.
    if (this.#handling !== undefined || this.#broker.users(this.#name).length === 0) return;
    this.#handling = Promise.withResolvers();
    this.#forNeighbour = true;
    const vote = await this.#vote("error-detected", description);
    if (vote === "disconnect") await this.#actions.disconnect(`it cannot go on after this: ${description}`);
  }

  /** Its bus is being reset for another function; `reset` resolves when that is done. */
  async afterBusReset(reset: Promise<ResetMethod>, description: string): Promise<void> {
    const forNeighbour = this.#forNeighbour;
    this.#forNeighbour = false;
    try {
      const vote = await this.#afterReset(await reset, description);
      if (!forNeighbour && vote !== "disconnect" && vote !== "need-reset") return;
      await this.#conclude(vote, description);
    } catch (error) {
      await this.#giveUp(error);
    } finally {
      if (forNeighbour) this.#handling = undefined;
    }
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

  async #recover(description: string, dealtWith: Promise<ResetMethod | undefined>): Promise<void> {
    try {
      let vote = await this.#vote("error-detected", description);
      if (vote !== "disconnect") {
        // Until then its link may be down, and a reset would find nothing, or keep what is wrong.
        const reset = await inTime(dealtWith, PLATFORM_MS);
        // What could have been read out of the function is lost with the link: `mmio-enabled` would come too late.
        if (LINK_RESETS.has(reset)) vote = worstVote([vote, await this.#vote("link-reset", description)]);
        else if (vote === "can-recover") vote = await this.#vote("mmio-enabled", description);
      }
      if (vote === "need-reset") vote = await this.#reset(description);
      await this.#conclude(vote, description);
    } catch (error) {
      await this.#giveUp(error);
    } finally {
      this.#handling = undefined;
    }
  }

  /** Resets the function, and where that fails or does not help the bus, which takes the link along. */
  async #reset(description: string): Promise<ErrorVote> {
    try {
      const method = await this.#actions.reset();
      const vote = await this.#afterReset(method, description);
      if (vote !== "need-reset" || LINK_RESETS.has(method)) return vote;
    } catch (error) {
      this.#actions.emit({ type: "fault", description: `after an error its own reset failed: ${messageOf(error)}` });
    }
    return await this.#afterReset(await this.#actions.resetBus(description), description);
  }

  /** The votes on a reset. Who needs one when the link was reset gets it: the function was reset with the link. */
  async #afterReset(method: ResetMethod, description: string): Promise<ErrorVote> {
    if (LINK_RESETS.has(method) && (await this.#vote("link-reset", description)) === "disconnect") return "disconnect";
    return await this.#vote("slot-reset", description);
  }

  async #conclude(vote: ErrorVote, description: string): Promise<void> {
    if (vote === "disconnect" || vote === "need-reset") {
      await this.#actions.disconnect(`it cannot go on after an error: ${description}`);
    } else this.#broker.errorResumed(this.#name, description);
  }

  async #giveUp(error: unknown): Promise<void> {
    const why = messageOf(error);
    this.#actions.emit({ type: "fault", description: `after an error it was not reset: ${why}` });
    await this.#actions.disconnect(`it could not be reset after an error: ${why}`);
  }

  async #vote(stage: ErrorStage, description: string): Promise<ErrorVote> {
    const outcome = await this.#broker.error(this.#name, stage, description);
    this.#actions.emit({ type: "notice", notice: stage, outcome: outcomeText(outcome) });
    return outcome.vote;
  }
}

/** Resolves with `promise`, or with nothing when the time is over. */
async function inTime<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  const first = await Promise.race([promise, late]);
  clearTimeout(timer);
  return first;
}

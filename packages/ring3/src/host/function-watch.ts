// What happens to functions: the kernel's events as they come, and between them what only a look shows.
import { setTimeout as delay } from "node:timers/promises";
import type { FunctionLook, Observation } from "./function-look.ts";
import type { HostEvent, HostEvents } from "./uevents.ts";

export type WatchEvent = HostEvent | Observation;

export interface FunctionWatchOptions {
  readonly look: FunctionLook;
  /** The kernel's events: what `watchHost` gives. They end with the watch. */
  readonly events: HostEvents;
  /** Between two looks; 1000 by default. */
  readonly intervalMs?: number;
  /** Ends the watch; what was seen until then has been given. */
  readonly signal?: AbortSignal;
  /** Resolves when it is time for the next look. */
  readonly wait?: (intervalMs: number, signal: AbortSignal) => Promise<unknown>;
}

/**
 * Gives what happens, until the signal aborts or the loop is left. An error report of the kernel leads to a look at once.
 *
 * @example
 * import { FunctionLook, watchFunctions, watchHost } from "ring3/host";
 * const events = await watchHost({ keepsAlive: true });
 * using look = new FunctionLook();
 * for await (const event of watchFunctions({ look, events })) {
 *   if (event.type === "aer") console.log(event.address, event.severity, event.errors, event.packet?.header);
 * }
 */
export async function* watchFunctions(options: FunctionWatchOptions): AsyncGenerator<WatchEvent, void> {
  const { look, intervalMs = 1000, signal } = options;
  using events = options.events;
  using ending = new Ending(signal);
  const { wait = (ms, until) => delay(ms, undefined, { signal: until }) } = options;
  const tick = (): Promise<"tick" | "end"> =>
    wait(intervalMs, ending.signal).then(
      () => "tick",
      () => "end",
    );
  let next = events.next();
  let timer = tick();
  for (;;) {
    const happened = await Promise.race([next, timer]);
    if (happened === "end") return;
    if (happened === "tick") {
      yield* look.observe();
      timer = tick();
    } else if (happened.done === true) {
      return;
    } else {
      const event = happened.value;
      if (watched(event, look)) yield event;
      yield* follow(event, look);
      next = events.next();
    }
  }
}

function watched(event: HostEvent, look: FunctionLook): boolean {
  return event.type === "overflow" || (event.address === undefined ? !look.chosen : look.watches(event.address));
}

function follow(event: HostEvent, look: FunctionLook): Observation[] {
  if (event.type === "added") look.adopt(event.address);
  else if (event.type === "removed") look.forget(event.address);
  else if (event.type === "overflow") return look.observe();
  else if (event.type === "error" && look.watches(event.address)) return look.observe([event.address]);
  return [];
}

/** Aborts with the caller's signal, and when the watch is left. */
class Ending implements Disposable {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #abort = (): void => this.#controller.abort();

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    if (outer?.aborted === true) this.#abort();
    outer?.addEventListener("abort", this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    this.#outer?.removeEventListener("abort", this.#abort);
    this.#abort();
  }
}

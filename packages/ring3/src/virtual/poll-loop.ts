// Looks at a device whose doorbells are plain memory, from the driver's own thread: each turn of the event loop while there
// is work, then less and less often. A waiting driver keeps the process alive; an idle device does not.
import type { VirtualFunction } from "./function.ts";
import { inLaterTurn, keepAlive } from "./turns.ts";

/** Turns without work before the loop falls back to timers. */
const IDLE_TURNS = 64;
const LONGEST_PAUSE_MS = 8;

export class PollLoop implements Disposable {
  readonly #device: VirtualFunction;
  readonly #isAwaited: () => boolean;
  #idle = 0;
  #state: "off" | "turn" | "timer" = "off";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #disposed = false;

  /** `isAwaited` says whether somebody waits for the device. */
  constructor(device: VirtualFunction, isAwaited: () => boolean) {
    this.#device = device;
    this.#isAwaited = isAwaited;
  }

  /** Something happened that may have changed whether there is work: looks again soon. */
  wake(): void {
    if (this.#disposed || !this.#device.polled) return;
    this.#idle = 0;
    if (this.#state === "turn") return;
    this.#stopTimer();
    this.#schedule();
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#stopTimer();
  }

  #look(): void {
    this.#state = "off";
    if (this.#disposed || !this.#device.polled) return;
    this.#idle = this.#device.runPoll() > 0 ? 0 : this.#idle + 1;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#idle < IDLE_TURNS) {
      this.#state = "turn";
      inLaterTurn(() => this.#look());
      return;
    }
    this.#state = "timer";
    const pauseMs = Math.min(2 ** Math.floor(this.#idle / IDLE_TURNS - 1), LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#look(), pauseMs);
    keepAlive(this.#timer, this.#isAwaited());
  }

  /** Somebody began or ceased to wait. */
  follow(): void {
    if (this.#timer !== undefined && this.#state === "timer") keepAlive(this.#timer, this.#isAwaited());
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#state === "timer") this.#state = "off";
  }
}

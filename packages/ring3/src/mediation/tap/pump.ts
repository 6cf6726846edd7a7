// Something to be done again and again while there is reason to expect anything of it: in each turn of the event loop for a
// while after it was kicked, then now and then, which keeps no program alive.
import { inLaterTurn, keepAlive } from "../../virtual/turns.ts";

const BUSY_TURNS = 500;
const IDLE_MS = 1;

export class Pump {
  /** Does the work, and says whether there was any. */
  readonly #work: () => boolean;
  #turns = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #scheduled = false;
  #stopped = false;

  constructor(work: () => boolean) {
    this.#work = work;
  }

  /** There may be work from now on. */
  kick(): void {
    this.#turns = BUSY_TURNS;
    this.#soon();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #soon(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    clearTimeout(this.#timer);
    inLaterTurn(() => {
      this.#scheduled = false;
      this.#run();
    });
  }

  #run(): void {
    if (this.#stopped) return;
    if (this.#work()) this.#turns = BUSY_TURNS;
    if (this.#turns-- > 0) {
      this.#soon();
      return;
    }
    this.#timer = setTimeout(() => this.#run(), IDLE_MS);
    keepAlive(this.#timer, false);
  }
}

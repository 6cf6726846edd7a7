// A sleep of the machine, as the users of functions hear of it. Hard part: logind announces a sleep, and then the unit
// ring3d-sleep.service, which can still keep it from happening, asks for the same one: users are to hear one question. Where
// nobody has announced it each one who asks puts a question of its own.
import type { FunctionUser, NoticeBroker, SuspendOutcome } from "ring3/notices";

export interface MachineSleepOptions {
  readonly notices: NoticeBroker;
  /** The functions whose users are asked. */
  readonly functions: () => readonly string[];
  /** Each question's outcome, once. */
  readonly onOutcome: (outcome: SuspendOutcome) => void;
}

export class MachineSleep {
  readonly #options: MachineSleepOptions;
  /** The question that has been put for the present sleep, while it is under way or announced. */
  #asked: Promise<SuspendOutcome> | undefined;
  #announced = false;
  /** Whether users are to hear of an end. */
  #begun = false;

  constructor(options: MachineSleepOptions) {
    this.#options = options;
  }

  /** The machine says that it is about to sleep; users are asked. */
  announced(): Promise<SuspendOutcome> {
    this.#announced = true;
    this.#begun = true;
    return this.ask();
  }

  /**
   * What users say to the sleep. The answer to one that was announced stands: a veto to its end, consent for as long as nobody
   * else has opened a function.
   */
  async ask(): Promise<SuspendOutcome> {
    for (let former = this.#asked; former !== undefined; former = this.#asked) {
      const outcome = await former;
      if (!outcome.allowed || this.#isAllOf(outcome.consented)) return outcome;
      if (this.#asked === former) this.#asked = undefined;
    }
    const asked = this.#put();
    this.#asked = asked;
    const outcome = await asked;
    if (!this.#announced) {
      if (this.#asked === asked) this.#asked = undefined;
      this.#begun ||= outcome.allowed;
    }
    return outcome;
  }

  /** The sleep is over, or does not come after all: who made ready for it goes on. Whoever says so second tells nobody. */
  over(): void {
    if (!this.#begun) return;
    const { notices, functions } = this.#options;
    this.#begun = false;
    this.#announced = false;
    this.#asked = undefined;
    notices.powerResumed(functions(), "the machine is awake");
  }

  async #put(): Promise<SuspendOutcome> {
    const { notices, functions, onOutcome } = this.#options;
    const outcome = await notices.suspend(functions(), "the machine is about to sleep");
    onOutcome(outcome);
    return outcome;
  }

  #isAllOf(consented: readonly FunctionUser[]): boolean {
    const { notices, functions } = this.#options;
    return functions()
      .flatMap((name) => notices.users(name))
      .every((user) => {
        return consented.some((one) => one.pid === user.pid && one.uid === user.uid && one.function === user.function);
      });
  }
}

// Between logind and the users of functions: they are asked before the machine sleeps and told when it has slept. Hard part:
// logind tells of a sleep only once it is settled, and waits then, but for a few seconds and for no refusal. So whoever could
// not be asked forbids it beforehand, by a lock that blocks, who is asked has as long as the lock that delays lasts, and a
// refusal is made to count by ring3d-sleep.service, whose failure takes the job of the sleep away.
import { messageOf } from "ring3/binary";
import type { NoticeBroker } from "ring3/notices";
import type { Logind, SleepLockMode } from "./logind.ts";
import type { MachineSleep } from "./machine-sleep.ts";
import { Retry } from "./retry.ts";

export type SleepEvent =
  /** Without logind nobody is asked. Told once, until it was there. */
  | { readonly type: "logind-missing"; readonly reason: string }
  | { readonly type: "logind-connected"; readonly delayMs: number }
  | { readonly type: "awake" };

export interface SleepGuardOptions {
  readonly notices: NoticeBroker;
  readonly sleep: Pick<MachineSleep, "announced" | "over">;
  /** See `connectLogind`. */
  readonly connect: (onSleep: (begins: boolean) => void) => Promise<Logind>;
  readonly onEvent: (event: SleepEvent) => void;
}

export class SleepGuard implements Disposable {
  readonly #options: SleepGuardOptions;
  readonly #changes: Disposable;
  readonly #locks: Map<SleepLockMode, Disposable> = new Map();
  readonly #retry: Retry = new Retry(() => void this.#connect());
  #logind: Logind | undefined;
  #missing = false;
  #consented = false;
  /** Between logind's two words. */
  #sleeping = false;
  /** Counts the beginnings and ends of sleeps. */
  #sleeps = 0;
  #settling = false;
  #unsettled = false;
  #closed = false;

  constructor(options: SleepGuardOptions) {
    this.#options = options;
    this.#changes = options.notices.onChange(() => void this.#settle());
    void this.#connect();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#retry.cancel();
    this.#changes[Symbol.dispose]();
    this.#logind?.[Symbol.dispose]();
    this.#release();
  }

  async #connect(): Promise<void> {
    let logind: Logind;
    try {
      logind = await this.#options.connect((begins) => void this.#sleep(begins));
    } catch (error) {
      this.#lost(messageOf(error));
      return;
    }
    if (this.#closed) return logind[Symbol.dispose]();
    this.#logind = logind;
    const ended = (): void => {
      this.#logind = undefined;
      this.#release();
      // Its end of the sleep will not be heard.
      if (this.#sleeping) void this.#sleep(false);
      this.#lost(String(logind.ended.reason));
    };
    logind.ended.addEventListener("abort", ended, { once: true });
    await this.#settle();
    if (this.#logind !== logind) return;
    this.#missing = false;
    this.#retry.shorten();
    this.#options.onEvent({ type: "logind-connected", delayMs: logind.delayMs });
  }

  #lost(reason: string): void {
    if (this.#closed) return;
    if (!this.#missing) this.#options.onEvent({ type: "logind-missing", reason });
    this.#missing = true;
    this.#retry.later();
  }

  async #sleep(begins: boolean): Promise<void> {
    const { sleep, onEvent } = this.#options;
    const count = ++this.#sleeps;
    this.#sleeping = begins;
    if (begins) {
      const { allowed } = await sleep.announced();
      // It may be over before all have answered.
      if (count === this.#sleeps) this.#consented = allowed;
    } else {
      this.#consented = false;
      sleep.over();
      onEvent({ type: "awake" });
    }
    await this.#settle();
  }

  /** Takes and gives up locks until they are what they should be; what changes meanwhile counts, too. */
  async #settle(): Promise<void> {
    this.#unsettled = true;
    if (this.#settling) return;
    this.#settling = true;
    while (this.#unsettled) {
      this.#unsettled = false;
      await this.#hold("delay", !this.#consented, "asks the users of PCI functions before a sleep");
      const [user] = this.#options.notices.unregistered("suspend");
      await this.#hold(
        "block",
        user !== undefined,
        `process ${user?.pid} drives ${user?.function} and cannot be asked`,
      );
    }
    this.#settling = false;
  }

  async #hold(mode: SleepLockMode, wanted: boolean, why: string): Promise<void> {
    const logind = this.#logind;
    const held = this.#locks.get(mode);
    if (logind === undefined || wanted === (held !== undefined)) return;
    if (held !== undefined) {
      this.#locks.delete(mode);
      held[Symbol.dispose]();
      return;
    }
    try {
      const lock = await logind.lock(mode, why);
      if (this.#logind === logind && !this.#closed) this.#locks.set(mode, lock);
      else lock[Symbol.dispose]();
      this.#unsettled = true;
    } catch (error) {
      // Too many locks, or a policy that forbids them: without its locks this is no guard.
      if (this.#logind === logind) logind[Symbol.dispose]();
      if (!(error instanceof Error)) throw error;
    }
  }

  #release(): void {
    for (const lock of this.#locks.values()) lock[Symbol.dispose]();
    this.#locks.clear();
  }
}

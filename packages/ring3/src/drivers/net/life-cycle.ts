// A driver's life at its function: the start, the watch over the device, the way back after a reset, and the end, which comes
// once, whatever brings it. Hard about it: all of them may happen while another is under way.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import type { Clock } from "../clock.ts";
import { removedError, watchFunction } from "./function-watch.ts";
import { asRing3Error, Recovery } from "./recovery.ts";

/** How often the device is looked at. */
const WATCH_MS = 200;

/** What a driver does at the turns of its life. */
export interface LifeSteps {
  /** Whether to try for as long as it takes where the device does not come back: somebody else has to let it. */
  readonly patient: boolean;
  /** What has to be there before the function is touched. */
  prepare(): void;
  /** Resets the device and sets up everything as the program had it. */
  bringUp(): Promise<void>;
  /** It works for the first time; throws where it is not what the program wanted. */
  started(): void;
  /** Stops the device and every queue. */
  quiesce(): Promise<void>;
  /** Looks at the device: what is wrong with it, if something is. */
  inspect(): string | undefined;
  /** The device is being brought back from now on. */
  lost(): void;
  /** It works again. */
  recovered(reason: string): void;
  /** Gives everything back; nothing else is called any more. */
  finish(error: Ring3Error): Promise<void>;
}

export class LifeCycle {
  readonly #fn: PciFunction;
  readonly #clock: Clock;
  readonly #steps: LifeSteps;
  readonly #recovery: Recovery;
  #listening: Disposable | undefined;
  #watch: Disposable | undefined;
  #failure: Ring3Error | undefined;
  #ended: Promise<void> | undefined;
  #resets = 0;

  constructor(fn: PciFunction, clock: Clock, steps: LifeSteps) {
    this.#fn = fn;
    this.#clock = clock;
    this.#steps = steps;
    const over = (): boolean => this.#failure !== undefined;
    this.#recovery = new Recovery({
      patient: steps.patient,
      clock,
      gone: fn.gone,
      get over(): boolean {
        return over();
      },
      quiesce: () => steps.quiesce(),
      bringUp: () => steps.bringUp(),
      failed: (error) => this.end(error),
      recovered: (reason) => {
        this.#resets++;
        steps.recovered(reason);
      },
    });
  }

  /** Why the driver has ended. */
  get failure(): Ring3Error | undefined {
    return this.#failure;
  }

  /** Whether the device is there for its driver: not being brought back, and not at its end. */
  get well(): boolean {
    return this.#recovery.running === undefined && this.#failure === undefined;
  }

  /** Times that the device was brought back. */
  get resets(): number {
    return this.#resets;
  }

  /** Takes the function over. Where that fails everything is given back, and it rejects with the reason. */
  async start(): Promise<void> {
    const fn = this.#fn;
    try {
      this.#steps.prepare();
      this.#listening = watchFunction(fn, {
        recover: (reason) => void this.recover(reason),
        end: (error) => void this.end(error),
        letGo: () => void this.#letGo(),
      });
      fn.busMaster = true;
      await this.#steps.bringUp();
      this.#steps.started();
      this.#keepWatch();
    } catch (error) {
      await this.end(asRing3Error(error));
      throw fn.gone.aborted && isRing3Error(fn.gone.reason) ? fn.gone.reason : error;
    }
  }

  /** Looks at the device now, and brings it back where something is wrong with it. */
  look(): void {
    if (!this.well) return;
    const problem = this.#steps.inspect();
    if (problem !== undefined) void this.recover(problem);
  }

  #keepWatch(): void {
    this.#watch = this.#clock.after(WATCH_MS, () => {
      this.look();
      if (this.#failure === undefined) this.#keepWatch();
    });
  }

  /** Resolves once the device is not being brought back. Rejects where the driver has ended. */
  async settled(): Promise<void> {
    await this.#recovery.running;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Brings the device back. Resolves when it works, or the driver has ended. */
  recover(reason: string): Promise<void> {
    if (this.well) this.#steps.lost();
    return this.#recovery.start(reason);
  }

  /** As `recover`, and rejects where the driver has ended. */
  async restart(reason: string): Promise<void> {
    await this.recover(reason);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #letGo(): Promise<void> {
    await this.end(removedError(this.#fn, "it was requested back"));
    await this.#fn[Symbol.asyncDispose]();
  }

  /** Ends the driver, with the first reason that it gets. */
  end(error: Ring3Error): Promise<void> {
    this.#ended ??= this.#finish(error);
    return this.#ended;
  }

  #finish(error: Ring3Error): Promise<void> {
    this.#failure = error;
    this.#listening?.[Symbol.dispose]();
    this.#watch?.[Symbol.dispose]();
    return this.#steps.finish(error);
  }
}

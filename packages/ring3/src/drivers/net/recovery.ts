// The way back after a reset, whoever made it: stop, set up anew, and again where that fails or something else happens meanwhile.
// Hard about it: a virtual function's parent may stay away for as long as it likes, so for it there is no last attempt.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { type Clock, sleep } from "../clock.ts";

const RETRY_MS = 500;
/** Failed attempts of a device that nobody else has to let, before its driver ends. */
const RETRIES = 5;

export interface Recoverable {
  /** Whether to try for as long as it takes. */
  readonly patient: boolean;
  readonly clock: Clock;
  readonly gone: AbortSignal;
  /** Whether the driver has ended. */
  readonly over: boolean;
  /** Stops the device and every queue. */
  quiesce(): Promise<void>;
  /** Sets everything up. */
  bringUp(): Promise<void>;
  recovered(reason: string): void;
  failed(error: Ring3Error): Promise<void>;
}

export class Recovery {
  readonly #device: Recoverable;
  #running: Promise<void> | undefined;
  #again = false;

  constructor(device: Recoverable) {
    this.#device = device;
  }

  /** Resolves when what is under way has ended; `undefined` where nothing is. */
  get running(): Promise<void> | undefined {
    return this.#running;
  }

  /** Brings the device back; another reason meanwhile does it once more. Resolves when it works, or has ended. */
  start(reason: string): Promise<void> {
    if (this.#device.over) return Promise.resolve();
    if (this.#running !== undefined) {
      this.#again = true;
      return this.#running;
    }
    this.#running = this.#run().then((well) => {
      this.#running = undefined;
      if (well) this.#device.recovered(reason);
    });
    return this.#running;
  }

  async #run(): Promise<boolean> {
    const device = this.#device;
    for (let failed = 0; ; ) {
      this.#again = false;
      try {
        await device.quiesce();
        await device.bringUp();
        if (device.over) return false;
        if (!this.#again) return true;
      } catch (error) {
        if (device.over) return false;
        if (!device.patient && ++failed > RETRIES) {
          await device.failed(asRing3Error(error));
          return false;
        }
        try {
          await sleep(device.clock, RETRY_MS, device.gone);
        } catch {
          return false;
        }
      }
      if (device.over) return false;
    }
  }
}

/** What a driver ends with: errors that are no `Ring3Error` as `NET_FAILED`. */
export function asRing3Error(error: unknown): Ring3Error {
  return isRing3Error(error) ? error : new Ring3Error("NET_FAILED", String(error), { cause: error });
}

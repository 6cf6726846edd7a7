// When frames that wait for the device leave: in one burst after a burst that was received, once the program lets go of the
// thread, or a moment later where the ring was full.
import { isRing3Error } from "../../binary/error.ts";
import type { Clock } from "../clock.ts";
import type { StackLife } from "./stack-life.ts";
import type { TransmitQueue } from "./transmit-queue.ts";

const RETRY_MS = 1;

export class TransmitTurns {
  readonly #transmit: TransmitQueue;
  readonly #clock: Clock;
  readonly #life: StackLife;
  #scheduled = false;
  #gathering = false;

  constructor(transmit: TransmitQueue, clock: Clock, life: StackLife) {
    this.#transmit = transmit;
    this.#clock = clock;
    this.#life = life;
  }

  /** What is sent meanwhile leaves at the end. Throws what the device's ring throws. */
  gather(work: () => void): void {
    this.#gathering = true;
    try {
      work();
    } finally {
      this.#gathering = false;
      this.#flush();
    }
  }

  /** Sends what waits; that the device has ended is heard of, and not thrown. */
  now(): void {
    try {
      this.#flush();
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      this.#life.hearEnd();
    }
  }

  /** Sends what waits once the program lets go of the thread. */
  later(): void {
    if (this.#gathering || this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#due());
  }

  #flush(): void {
    const transmit = this.#transmit;
    transmit.flush();
    if (transmit.waiting === 0 || this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.after(RETRY_MS, () => this.#due());
  }

  #due(): void {
    this.#scheduled = false;
    if (this.#life.working) this.now();
  }
}

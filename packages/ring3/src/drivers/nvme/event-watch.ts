// Asynchronous events: asks for them, keeps a request with the controller, and reads the page that each points to, which
// lets the controller send the next. NVMe base 2.0, section 5.2.
import { Ring3Error } from "../../binary/error.ts";
import { AsynchronousEvent } from "../../specs/nvme/commands.ts";
import { AsynchronousEvents, Feature } from "../../specs/nvme/features.ts";
import { Oaes } from "../../specs/nvme/structs.ts";
import { type Clock, sleep } from "../clock.ts";
import type { Admin } from "./admin.ts";
import type { NvmeEvents } from "./driver-events.ts";

/** Events within a second after which the watch takes a second's rest: a controller may not keep us busy. */
const BURST = 32;
const REST_MS = 1000;

export class EventWatch {
  readonly #admin: Admin;
  readonly #events: NvmeEvents;
  readonly #clock: Clock;
  readonly #gone: AbortSignal;
  #current = 0;

  constructor(admin: Admin, events: NvmeEvents, clock: Clock, gone: AbortSignal) {
    this.#admin = admin;
    this.#events = events;
    this.#clock = clock;
    this.#gone = gone;
  }

  /** Asks for what `offered` (OAES) has and watches in place of an earlier watch, whose request a reset has dropped. */
  async start(offered: number): Promise<void> {
    let value: number = AsynchronousEvents.HEALTH.mask;
    if (Oaes.NAMESPACE_ATTRIBUTES.test(offered)) value |= AsynchronousEvents.NAMESPACE_ATTRIBUTES.mask;
    if (Oaes.FIRMWARE_ACTIVATION.test(offered)) value |= AsynchronousEvents.FIRMWARE_ACTIVATION.mask;
    const current = ++this.#current;
    try {
      await this.#admin.setFeature(Feature.ASYNCHRONOUS_EVENTS, value);
    } catch (error) {
      // A controller need not have the feature; the events of its defaults come all the same.
      if (!(error instanceof Ring3Error && error.code === "NVME_STATUS")) throw error;
    }
    void this.#watch(current);
  }

  /** Ends with the driver, a reset, or the controller's refusal. */
  async #watch(current: number): Promise<void> {
    let count = 0;
    let sinceMs = this.#clock.now();
    try {
      while (current === this.#current) {
        const answer = await this.#admin.asynchronousEvent();
        const type = AsynchronousEvent.TYPE.get(answer);
        const information = AsynchronousEvent.INFORMATION.get(answer);
        const logPage = AsynchronousEvent.LOG_PAGE.get(answer);
        this.#events.emit("asynchronous-event", { type, information, logPage });
        if (logPage !== 0) await this.#admin.log(logPage, 512, { retainEvent: false });
        const nowMs = this.#clock.now();
        if (nowMs - sinceMs > REST_MS) {
          count = 0;
          sinceMs = nowMs;
        }
        if (++count >= BURST) await sleep(this.#clock, REST_MS, this.#gone);
      }
    } catch (error) {
      if (!(error instanceof Ring3Error)) throw error;
    }
  }
}

// Asynchronous events: NVMe base 2.0, section 5.2. An event waits for a request of the host and then silences its kind
// until the host has read the log page that tells more.
import {
  AsynchronousEvent,
  AsynchronousEventType,
  HealthEvent,
  LogPage,
  NoticeEvent,
} from "../../specs/nvme/commands.ts";
import { AsynchronousEvents } from "../../specs/nvme/features.ts";
import { Status } from "../../specs/nvme/status.ts";
import { PENDING } from "./queue-set.ts";

/** Requests that the host may leave with the controller at once (AERL is one less). */
export const EVENT_REQUESTS_MAX = 8;
/** Events that wait for a request; an error beyond is dropped, as section 5.2.1 allows. */
const EVENTS_MAX = 32;

export class Events {
  /** Feature 0Bh, as the host set it. */
  configuration = 0;
  readonly #complete: (identifier: number, status: number, dw0: number) => void;
  readonly #requests: number[] = [];
  readonly #waiting: number[] = [];
  /** Kinds that wait for their log page to be read. */
  readonly #silenced = new Set<number>();

  constructor(complete: (identifier: number, status: number, dw0: number) => void) {
    this.#complete = complete;
  }

  /** The host leaves a request. */
  request(identifier: number): number {
    if (this.#requests.length >= EVENT_REQUESTS_MAX) return Status.ASYNCHRONOUS_EVENT_LIMIT;
    this.#requests.push(identifier);
    this.#deliver();
    return PENDING;
  }

  /** Gives a request up; whether there was one. */
  abort(identifier: number): boolean {
    const at = this.#requests.indexOf(identifier);
    if (at < 0) return false;
    this.#requests.splice(at, 1);
    this.#complete(identifier, Status.ABORT_REQUESTED, 0);
    return true;
  }

  /** The host did something wrong with a doorbell. */
  error(information: number): void {
    this.#add(AsynchronousEventType.ERROR, information, LogPage.ERROR_INFORMATION);
  }

  temperature(): void {
    if ((AsynchronousEvents.HEALTH.get(this.configuration) & 2) === 0) return;
    this.#add(AsynchronousEventType.HEALTH, HealthEvent.TEMPERATURE, LogPage.HEALTH);
  }

  namespacesChanged(): void {
    if (!AsynchronousEvents.NAMESPACE_ATTRIBUTES.test(this.configuration)) return;
    this.#add(AsynchronousEventType.NOTICE, NoticeEvent.NAMESPACE_ATTRIBUTES_CHANGED, LogPage.CHANGED_NAMESPACES);
  }

  /** The host read a log page without RAE: the kind of event that points to it may come again. */
  pageRead(page: number): void {
    const types: Readonly<Record<number, number>> = {
      [LogPage.ERROR_INFORMATION]: AsynchronousEventType.ERROR,
      [LogPage.HEALTH]: AsynchronousEventType.HEALTH,
      [LogPage.CHANGED_NAMESPACES]: AsynchronousEventType.NOTICE,
    };
    const type = types[page];
    if (type === undefined || !this.#silenced.delete(type)) return;
    this.#deliver();
  }

  reset(): void {
    this.configuration = 0;
    this.#requests.length = 0;
    this.#waiting.length = 0;
    this.#silenced.clear();
  }

  save(): { readonly requests: number[]; readonly waiting: number[]; readonly silenced: number[] } {
    return { requests: [...this.#requests], waiting: [...this.#waiting], silenced: [...this.#silenced] };
  }

  restore(state: { readonly requests: number[]; readonly waiting: number[]; readonly silenced: number[] }): void {
    this.#requests.push(...state.requests);
    this.#waiting.push(...state.waiting);
    for (const type of state.silenced) this.#silenced.add(type);
  }

  #add(type: number, information: number, page: number): void {
    const dw0 =
      AsynchronousEvent.TYPE.of(type) |
      AsynchronousEvent.INFORMATION.of(information) |
      AsynchronousEvent.LOG_PAGE.of(page);
    if (this.#waiting.includes(dw0) || this.#waiting.length >= EVENTS_MAX) return;
    this.#waiting.push(dw0);
    this.#deliver();
  }

  #deliver(): void {
    while (this.#requests.length > 0) {
      const at = this.#waiting.findIndex((dw0) => !this.#silenced.has(AsynchronousEvent.TYPE.get(dw0)));
      if (at < 0) return;
      const [dw0] = this.#waiting.splice(at, 1) as [number];
      this.#silenced.add(AsynchronousEvent.TYPE.get(dw0));
      this.#complete(this.#requests.shift() as number, Status.SUCCESS, dw0);
    }
  }
}

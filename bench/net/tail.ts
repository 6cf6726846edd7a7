// Where the tail of latencies comes from: what else happened during each of the slow ones. Looked into only for those, so that the
// looking costs the others nothing.
import { PerformanceObserver } from "node:perf_hooks";
import { readFileSync } from "node:fs";

/**
 * Why round trips were slow: how many of them each cause was seen with. A slow one may have several causes. Preemptions are counted
 * from one slow trip to the next, so that one that made a trip between them a little longer is put down to the next.
 */
export interface TailCauses {
  /** Round trips that took longer than the limit. */
  readonly slow: number;
  /** V8 collected garbage meanwhile. */
  readonly collection: number;
  /** The scheduler took the processor from this process, or from the device's. */
  readonly preempted: number;
  readonly devicePreempted: number;
  /** None of these: the event loop's other work, the hypervisor, caches. */
  readonly other: number;
}

interface SlowTrip {
  readonly startMs: number;
  readonly endMs: number;
  readonly preempted: boolean;
  readonly devicePreempted: boolean;
}

/** Watches one run. Dispose it after `causes`. */
export class TailWatch implements Disposable {
  readonly #limitMs: number;
  readonly #devicePid: number;
  readonly #slow: SlowTrip[] = [];
  readonly #collections: { readonly startMs: number; readonly endMs: number }[] = [];
  readonly #observer: PerformanceObserver;
  #switches: number;
  #deviceSwitches: number;

  constructor(limitMs: number, devicePid: number) {
    this.#limitMs = limitMs;
    this.#devicePid = devicePid;
    this.#switches = ownSwitches();
    this.#deviceSwitches = switchesOf(devicePid);
    this.#observer = new PerformanceObserver((list) => this.#note(list.getEntries()));
    this.#observer.observe({ entryTypes: ["gc"] });
  }

  #note(entries: readonly { readonly startTime: number; readonly duration: number }[]): void {
    for (const { startTime, duration } of entries) {
      this.#collections.push({ startMs: startTime, endMs: startTime + duration });
    }
  }

  /** Looks into a round trip where it was slow. */
  look(startMs: number, endMs: number): void {
    if (endMs - startMs < this.#limitMs) return;
    const [own, device] = [ownSwitches(), switchesOf(this.#devicePid)];
    this.#slow.push({
      startMs,
      endMs,
      preempted: own > this.#switches,
      devicePreempted: device > this.#deviceSwitches,
    });
    this.#switches = own;
    this.#deviceSwitches = device;
  }

  /** V8 tells of collections on the event loop, so after a turn of it. */
  async causes(): Promise<TailCauses> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#note(this.#observer.takeRecords());
    const collected = ({ startMs, endMs }: SlowTrip): boolean =>
      this.#collections.some((collection) => collection.startMs < endMs && collection.endMs > startMs);
    const count = (is: (trip: SlowTrip) => boolean): number => this.#slow.filter(is).length;
    return {
      slow: this.#slow.length,
      collection: count(collected),
      preempted: count(({ preempted }) => preempted),
      devicePreempted: count(({ devicePreempted }) => devicePreempted),
      other: count((trip) => !collected(trip) && !trip.preempted && !trip.devicePreempted),
    };
  }

  [Symbol.dispose](): void {
    this.#observer.disconnect();
  }
}

function ownSwitches(): number {
  return process.resourceUsage().involuntaryContextSwitches;
}

/** proc(5), /proc/pid/status. */
function switchesOf(pid: number): number {
  const found = /^nonvoluntary_ctxt_switches:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1] ?? 0);
}

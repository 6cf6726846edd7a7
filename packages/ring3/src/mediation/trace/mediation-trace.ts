// The trace of a mediated function, taken where the rules are: it begins and ends while a user works, and until it begins
// nothing is paid for it. With it every interrupt goes through this process.
import type { MediatedFunction } from "../mediated-function.ts";
import type { BarObservation, ConfigObservation, InterruptObservation, MediationObserver } from "../observer.ts";
import { ClientTrace, type DeviceTraceOptions } from "./client-trace.ts";
import type { TraceSink } from "./event.ts";

/**
 * Records what the users of a mediated function do, from now on: config space register by register, BARs wherever they are
 * trapped, interrupts, maps and resets. Disposal ends it.
 *
 * @example
 * import { open } from "ring3";
 * import { mediate } from "ring3/mediation";
 * import { JsonLines, MediationTrace } from "ring3/trace";
 * await using fn = await open("0000:01:00.0");
 * await using mediated = await mediate(fn, { trap: true });
 * using _trace = new MediationTrace(mediated, new JsonLines((text) => process.stdout.write(text)));
 */
export class MediationTrace extends ClientTrace implements MediationObserver {
  readonly #observing: Disposable;

  constructor(fn: MediatedFunction, sink: TraceSink, options: DeviceTraceOptions = {}) {
    super(fn, sink, options);
    this.#observing = fn.observe(this);
  }

  config({ kind, offset, width, value }: ConfigObservation): void {
    if (!this.attended) return;
    const decoded = this.decoder?.config(offset, width, value);
    const named = decoded === undefined ? {} : { decoded };
    this.now({ type: "config", op: kind, offset, width, value, ...named, took: 0 });
  }

  bar({ kind, bar, offset, width, value }: BarObservation): void {
    if (!this.attended) return;
    const decoded = typeof value === "bigint" ? undefined : this.decoder?.bar(bar, offset, width, value);
    const named = decoded === undefined ? {} : { decoded };
    this.now({ type: "bar", op: kind, bar, offset, width, value, ...named, took: 0 });
  }

  interrupt({ kind, interrupt, vector, count }: InterruptObservation): void {
    if (kind !== "raised" || interrupt === "error" || interrupt === "request") return;
    this.now({ type: "interrupt", kind: interrupt, vector, count });
  }

  override [Symbol.dispose](): void {
    this.#observing[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

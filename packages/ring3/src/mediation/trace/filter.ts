// Which events somebody wants: by kind, BAR, register and range.
import { Ring3Error } from "../../binary/error.ts";
import { namePattern } from "./decoder.ts";
import { isAccess, TRACE_EVENT_TYPES, type TraceEvent, type TraceSink } from "./event.ts";

export interface TraceFilter {
  /** Types of events; all by default. */
  readonly types?: readonly string[];
  /** BAR accesses of these BARs only; accesses of other spaces are left out. */
  readonly bars?: readonly number[];
  /** Accesses to these registers only, by name; `*` stands for any characters. */
  readonly registers?: readonly string[];
  /** Accesses that touch these offsets only. */
  readonly ranges?: readonly { readonly offset: number; readonly size: number }[];
  readonly op?: "read" | "write" | undefined;
}

/** Whether an event passes. Throws `TRACE_FILTER` for a type that no event has. */
export function traceFilter(filter: TraceFilter): (event: TraceEvent) => boolean {
  const wanted = filter.types ?? [];
  const unknown = wanted.find((type) => !TRACE_EVENT_TYPES.some((known) => known === type));
  if (unknown !== undefined) {
    throw new Ring3Error(
      "TRACE_FILTER",
      `no event has the type "${unknown}"; there are ${TRACE_EVENT_TYPES.join(", ")}`,
    );
  }
  const names = filter.registers?.map(namePattern);
  const { bars, ranges, op } = filter;
  const ofAccesses = bars !== undefined || names !== undefined || ranges !== undefined || op !== undefined;
  return (event) => {
    if (wanted.length > 0 && !wanted.includes(event.type)) return false;
    if (!isAccess(event)) return !ofAccesses;
    if (op !== undefined && event.op !== op) return false;
    if (bars !== undefined && !(event.bar !== undefined && bars.includes(event.bar))) return false;
    if (names !== undefined) {
      const register = event.decoded?.register;
      if (register === undefined || !names.some((name) => name.test(register))) return false;
    }
    const end = event.offset + (event.bytes?.length ?? event.width);
    return ranges?.some(({ offset, size }) => event.offset < offset + size && offset < end) ?? true;
  };
}

/** A sink that lets through what passes. */
export function filtered(sink: TraceSink, filter: TraceFilter): TraceSink {
  const passes = traceFilter(filter);
  return {
    write(event) {
      if (event.type === "open" || passes(event)) sink.write(event);
    },
  };
}

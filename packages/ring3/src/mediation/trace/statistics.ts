// What a trace comes to: how often each register was touched and how long that took, and how interrupts followed each other.
import { type AccessEvent, isAccess, type TraceEvent } from "./event.ts";

export interface LatencyNs {
  readonly count: number;
  readonly minimum: number;
  readonly median: number;
  readonly p99: number;
  readonly maximum: number;
}

export interface RegisterStatistics {
  readonly fn: number;
  /** `bar0`, `config` or `rom`. */
  readonly area: string;
  /** Offset of the register, or of the block in which accesses without a name lie. */
  readonly offset: number;
  readonly register: string | undefined;
  readonly reads: number;
  readonly writes: number;
  readonly errors: number;
  readonly took: LatencyNs;
}

export interface InterruptStatistics {
  readonly fn: number;
  readonly kind: string;
  readonly vector: number;
  readonly signals: number;
  /** Times at which the driver was told. */
  readonly deliveries: number;
  /** Between one delivery and the next; absent where there was one. */
  readonly interval: LatencyNs | undefined;
}

export interface TraceStatistics {
  readonly events: number;
  readonly spanNs: number;
  /** Events of each type. */
  readonly types: Readonly<Record<string, number>>;
  /** By area and offset. */
  readonly registers: readonly RegisterStatistics[];
  readonly interrupts: readonly InterruptStatistics[];
  readonly maps: { readonly made: number; readonly mostBytes: number };
}

/** Accesses without a name are counted by blocks of this many bytes. */
const BLOCK_BYTES = 256;

interface RegisterCount {
  readonly fn: number;
  readonly area: string;
  readonly offset: number;
  readonly register: string | undefined;
  reads: number;
  writes: number;
  errors: number;
  readonly took: number[];
}

/** Adds events up, one after the other. */
export class TraceSummary {
  readonly #types: Map<string, number> = new Map();
  readonly #registers: Map<string, RegisterCount> = new Map();
  readonly #interrupts: Map<string, { fn: number; kind: string; vector: number; signals: number; times: number[] }> =
    new Map();
  #events = 0;
  #firstNs = Number.POSITIVE_INFINITY;
  #lastNs = 0;
  #maps = 0;
  #mapped = 0;
  #mostMapped = 0;

  add(event: TraceEvent): void {
    this.#events++;
    this.#firstNs = Math.min(this.#firstNs, event.t);
    this.#lastNs = Math.max(this.#lastNs, event.t);
    this.#types.set(event.type, (this.#types.get(event.type) ?? 0) + 1);
    if (isAccess(event)) this.#access(event);
    else if (event.type === "interrupt") {
      const key = `${event.fn} ${event.kind} ${event.vector}`;
      const { fn, kind, vector } = event;
      const found = this.#interrupts.get(key) ?? { fn, kind, vector, signals: 0, times: [] };
      found.signals += event.count;
      found.times.push(event.t);
      this.#interrupts.set(key, found);
    } else if (event.type === "map") {
      this.#maps++;
      this.#mapped += event.size;
      this.#mostMapped = Math.max(this.#mostMapped, this.#mapped);
    } else if (event.type === "unmap") this.#mapped -= event.size;
  }

  statistics(): TraceStatistics {
    return {
      events: this.#events,
      spanNs: this.#events === 0 ? 0 : this.#lastNs - this.#firstNs,
      types: Object.fromEntries([...this.#types].sort(([a], [b]) => a.localeCompare(b))),
      registers: [...this.#registers.values()]
        .sort((a, b) => a.fn - b.fn || a.area.localeCompare(b.area) || a.offset - b.offset)
        .map((count) => ({ ...count, took: latencyOf(count.took) })),
      interrupts: [...this.#interrupts.values()].map(({ times, ...rest }) => ({
        ...rest,
        deliveries: times.length,
        interval: times.length < 2 ? undefined : latencyOf(times.slice(1).map((at, i) => at - (times[i] ?? 0))),
      })),
      maps: { made: this.#maps, mostBytes: this.#mostMapped },
    };
  }

  #access(event: AccessEvent): void {
    const { fn, bar, decoded } = event;
    const area = bar === undefined ? event.type : `bar${bar}`;
    const offset = decoded === undefined ? event.offset - (event.offset % BLOCK_BYTES) : event.offset;
    const register = decoded?.register;
    const key = `${fn} ${area} ${register ?? offset}`;
    const found = this.#registers.get(key) ?? { fn, area, offset, register, reads: 0, writes: 0, errors: 0, took: [] };
    if (event.op === "read") found.reads++;
    else found.writes++;
    if (event.error !== undefined) found.errors++;
    found.took.push(event.took);
    this.#registers.set(key, found);
  }
}

function latencyOf(values: readonly number[]): LatencyNs {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { count: sorted.length, minimum: at(0), median: at(0.5), p99: at(0.99), maximum: at(1) };
}

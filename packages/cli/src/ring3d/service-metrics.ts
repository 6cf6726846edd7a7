// What the whole service counts, for Prometheus. States and users are looked at when somebody asks; what happens is counted as it
// happens, and costs no more than that however often it does.
import { type Metric, prometheusText, type Sample } from "../serve/prometheus-text.ts";
import { statisticsMetrics } from "../serve/server-metrics.ts";
import { version } from "../run.ts";
import type { FunctionState, FunctionStatus, Service, ServiceEvent } from "./service-interface.ts";

/** Events of the service since the listener began. Disposal ends it. */
export interface ServiceMetrics extends Disposable {
  /** Everything as it is now, in the text format of Prometheus. */
  text(): string;
}

const STATES: { readonly [S in FunctionState]: true } = {
  starting: true,
  ready: true,
  used: true,
  resetting: true,
  failed: true,
  removed: true,
  stopping: true,
};

type FunctionEvent = Extract<ServiceEvent, { readonly function: string }>;
interface Counted<E extends ServiceEvent> {
  readonly name: string;
  readonly help: string;
  /** What it is counted by besides the function; the values are few, whoever causes the events. */
  readonly labels?: (event: E) => Readonly<Record<string, string>>;
}

/** Counters by event. */
const COUNTED: { readonly [T in FunctionEvent["type"]]?: Counted<Extract<FunctionEvent, { readonly type: T }>> } = {
  opened: { name: "opens", help: "Users that got the function." },
  refused: { name: "refused", help: "Users that were turned away." },
  rule: {
    name: "rule_hits",
    help: "Times that a rule kept a user from something, by rule.",
    labels: ({ rule }) => ({ rule }),
  },
  "dma-refused": { name: "dma_refused", help: "Maps of users' memory that were refused." },
  reset: {
    name: "resets",
    help: "Resets of the function: by its user, or before the next one.",
    labels: ({ cause }) => ({ cause }),
  },
  fault: { name: "user_faults", help: "Things that users did and cannot: accesses outside their memory, say." },
  failed: { name: "failures", help: "Times that the function could not be given to anybody." },
  kicked: { name: "kicks", help: "Times that an administrator took the function from its users." },
  "fds-handed": { name: "fds_handed", help: "Users that got the kernel's own descriptors." },
  notice: { name: "notices", help: "Notices that users were told, by notice.", labels: ({ notice }) => ({ notice }) },
};

/** Counts what happens in `service` from now on. */
export function serviceMetrics(service: Pick<Service, "functions" | "on">): ServiceMetrics {
  const counters = new Counters();
  const reloads = { reloaded: 0, "reload-refused": 0 };
  const listening = service.on((event) => {
    if (event.type === "reloaded" || event.type === "reload-refused") reloads[event.type]++;
    else if ("function" in event) counters.count(event);
  });
  return {
    text: () => {
      const functions = service.functions();
      const reloadMetric = metric("reloads", "counter", "Reloads of the configuration, by what came of them.", [
        { labels: { outcome: "applied" }, value: reloads.reloaded },
        { labels: { outcome: "refused" }, value: reloads["reload-refused"] },
      ]);
      const information = metric("info", "gauge", "The service's version.", [
        { labels: { version: version() }, value: 1 },
      ]);
      const served = functions.flatMap(({ name, statistics }) => {
        return statistics === undefined ? [] : [{ labels: { function: name }, statistics }];
      });
      return prometheusText([
        information,
        ...gauges(functions),
        ...counters.metrics(functions.map(({ name }) => name)),
        reloadMetric,
        ...statisticsMetrics(served),
      ]);
    },
    [Symbol.dispose]: () => listening[Symbol.dispose](),
  };
}

function metric(name: string, kind: Metric["kind"], help: string, samples: readonly Sample[]): Metric {
  return { name: `ring3d_${name}${kind === "counter" ? "_total" : ""}`, kind, help, samples };
}

function gauges(functions: readonly FunctionStatus[]): Metric[] {
  const each = (name: string, help: string, value: (fn: FunctionStatus) => number | undefined): Metric => {
    const samples = functions.flatMap((fn) => {
      const now = value(fn);
      return now === undefined ? [] : [{ labels: { function: fn.name }, value: now }];
    });
    return metric(name, "gauge", help, samples);
  };
  const states = functions.flatMap(({ name, state }) => {
    return Object.keys(STATES).map((each) => ({
      labels: { function: name, state: each },
      value: each === state ? 1 : 0,
    }));
  });
  const information = functions.map(({ name, address, rules }) => ({
    labels: { function: name, address, rules },
    value: 1,
  }));
  return [
    metric("function_info", "gauge", "The functions, with their addresses and rules.", information),
    metric("function_state", "gauge", "1 for the state that the function is in, 0 for the others.", states),
    each("users", "Users that have the function now.", ({ users }) => users.length),
    each("waiting", "Users that wait for the function.", ({ waiting }) => waiting),
    each("locked_bytes", "Bytes of users' memory that are locked now.", ({ lockedBytes }) => lockedBytes),
    each("lock_limit_bytes", "Bytes of users' memory that may be locked.", ({ lockLimit }) => lockLimit),
    each("traced", "Whether a trace of the function is being written.", ({ trace }) => (trace === undefined ? 0 : 1)),
  ];
}

/** Numbers by event, function and further labels. */
class Counters {
  readonly #byEvent = new Map<string, Map<string, Sample & { value: number }>>();

  count(event: FunctionEvent): void {
    const counted = COUNTED[event.type] as Counted<FunctionEvent> | undefined;
    if (counted === undefined) return;
    const labels = { function: event.function, ...counted.labels?.(event) };
    const key = JSON.stringify(labels);
    const samples = this.#byEvent.get(event.type) ?? new Map<string, Sample & { value: number }>();
    this.#byEvent.set(event.type, samples);
    const sample = samples.get(key) ?? { labels, value: 0 };
    samples.set(key, sample);
    sample.value++;
  }

  /** Of these functions; one that a reload took out of the service is not shown any more. */
  metrics(functions: readonly string[]): Metric[] {
    return Object.entries(COUNTED).map(([type, { name, help, labels }]) => {
      const found = [...(this.#byEvent.get(type)?.values() ?? [])];
      const shown = found.filter((sample) => functions.includes(sample.labels["function"] ?? ""));
      // A counter that is there before it counts is seen to rise; of further labels nobody knows the values before.
      const unseen = functions.filter((fn) => !shown.some((sample) => sample.labels["function"] === fn));
      const zeros = labels === undefined ? unseen.map((fn) => ({ labels: { function: fn }, value: 0 })) : [];
      return metric(name, "counter", help, [...shown, ...zeros]);
    });
  }
}

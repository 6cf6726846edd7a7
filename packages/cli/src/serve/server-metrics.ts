// The counters of servers, and of devices that count, as metrics for Prometheus; the socket is each one's label.
import type { FunctionServer, ServerStatistics } from "ring3/vfio-user";
import { type Metric, prometheusText, type Sample } from "./prometheus-text.ts";

type NumberKey = {
  [K in keyof ServerStatistics]: ServerStatistics[K] extends number ? K : never;
}[keyof ServerStatistics];

/** Name, type and help by the statistics' key. A counter's name gets `_total`. */
const NUMBERS: { readonly [K in NumberKey]: readonly [name: string, kind: Metric["kind"], help: string] } = {
  bytesReceived: ["received_bytes", "counter", "Bytes of messages from clients."],
  bytesSent: ["sent_bytes", "counter", "Bytes of messages to clients."],
  errorReplies: ["error_replies", "counter", "Commands of clients that were answered with an error."],
  clients: ["clients", "gauge", "Clients that have the function now."],
  waiting: ["waiting", "gauge", "Clients that wait for the function."],
  connections: ["connections", "counter", "Clients that got the function."],
  refusals: ["refusals", "counter", "Clients that were turned away: busy, not allowed, or not understood."],
  dmaMaps: ["dma_maps", "gauge", "Ranges of client memory that are mapped now."],
  dmaMappedBytes: ["dma_mapped_bytes", "gauge", "Bytes of client memory that are mapped now."],
  dmaMapsMade: ["dma_maps_made", "counter", "Ranges of client memory that were mapped."],
  interrupts: ["interrupts", "counter", "Interrupts signalled to clients."],
  faults: ["faults", "counter", "Accesses outside the client's memory, and failures of the device model."],
  polls: ["polls", "counter", "Looks at doorbells in shared memory."],
  polledWork: ["polled_work", "counter", "Pieces of work that those looks found."],
  stateSaves: ["state_saves", "counter", "Times that the device's state was written to its file."],
};

const BY_COMMAND = {
  messages: ["messages", "Commands received from clients, by name."],
  commandsSent: ["commands_sent", "Commands sent to clients, by name."],
} as const;

export type MeteredServer = Pick<FunctionServer, "path" | "client" | "statistics"> & { readonly fn: object };

/** Everything that the servers count, as it is now. */
export function metricsText(servers: readonly MeteredServer[]): string {
  const now = servers.map(({ path, client, statistics }) => ({ labels: { socket: path }, client, statistics }));
  const connected: Metric = {
    name: "ring3_connected",
    help: "Whether a client has the function.",
    kind: "gauge",
    samples: now.map(({ labels, client }) => ({ labels, value: client === undefined ? 0 : 1 })),
  };
  return prometheusText([connected, ...statisticsMetrics(now), ...deviceMetrics(servers)]);
}

/** What one server counts, and how it is told from others. */
export interface LabelledStatistics {
  readonly labels: Readonly<Record<string, string>>;
  readonly statistics: ServerStatistics;
}

/** The counters of servers. */
export function statisticsMetrics(servers: readonly LabelledStatistics[]): Metric[] {
  const metrics: Metric[] = [];
  for (const key of Object.keys(BY_COMMAND) as (keyof typeof BY_COMMAND)[]) {
    const [name, help] = BY_COMMAND[key];
    const samples = servers.flatMap(({ labels, statistics }): Sample[] => {
      return Object.entries(statistics[key]).map(([command, value]) => {
        return { labels: { ...labels, command: command.toLowerCase() }, value };
      });
    });
    metrics.push({ name: `ring3_${name}_total`, help, kind: "counter", samples });
  }
  for (const key of Object.keys(NUMBERS) as NumberKey[]) {
    const [name, kind, help] = NUMBERS[key];
    const samples = servers.map(({ labels, statistics }) => ({ labels, value: statistics[key] }));
    metrics.push({ name: `ring3_${name}${kind === "counter" ? "_total" : ""}`, help, kind, samples });
  }
  return metrics;
}

/** The numbers of a device's `statistics`, where it has any: `readCommands` is `ring3_device_read_commands_total`. */
function deviceMetrics(servers: readonly MeteredServer[]): Metric[] {
  const samples = new Map<string, Sample[]>();
  for (const { path, fn } of servers) {
    const counted = "statistics" in fn ? fn.statistics : undefined;
    if (typeof counted !== "object" || counted === null) continue;
    for (const [key, value] of Object.entries(counted)) {
      if (typeof value !== "number" || !/^[A-Za-z]\w*$/.test(key)) continue;
      const name = key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      const list = samples.get(name) ?? [];
      list.push({ labels: { socket: path }, value });
      samples.set(name, list);
    }
  }
  return [...samples].map(([name, list]) => {
    const help = `${name.replaceAll("_", " ")}, as the device counts.`;
    return { name: `ring3_device_${name}_total`, help, kind: "counter", samples: list };
  });
}

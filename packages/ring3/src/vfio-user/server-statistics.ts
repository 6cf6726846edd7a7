// The server's counters: plain numbers while serving, named when somebody asks.
import { Command, commandName } from "./messages.ts";
import type { ServerStatistics } from "./server-options.ts";

const COMMANDS = 32;

/** Counters that everything in a server adds to. */
export class Counters {
  /** By command number; whatever is none is counted at 0. */
  readonly received: Float64Array = new Float64Array(COMMANDS);
  readonly sent: Float64Array = new Float64Array(COMMANDS);
  bytesReceived = 0;
  bytesSent = 0;
  errorReplies = 0;
  connections = 0;
  refusals = 0;
  dmaMapsMade = 0;
  interrupts = 0;
  faults = 0;
  polls = 0;
  polledWork = 0;
  stateSaves = 0;

  countReceived(command: number, bytes: number): void {
    const index = command < COMMANDS ? command : 0;
    this.received[index] = (this.received[index] as number) + 1;
    this.bytesReceived += bytes;
  }

  countSent(command: number, bytes: number): void {
    const index = command < COMMANDS ? command : 0;
    this.sent[index] = (this.sent[index] as number) + 1;
    this.bytesSent += bytes;
  }

  snapshot(
    memory: { readonly count: number; readonly mappedBytes: number },
    { occupancy, waiting }: { readonly occupancy: { readonly count: number }; readonly waiting: number },
  ): ServerStatistics {
    return {
      clients: occupancy.count,
      waiting,
      messages: named(this.received),
      commandsSent: named(this.sent),
      bytesReceived: this.bytesReceived,
      bytesSent: this.bytesSent,
      errorReplies: this.errorReplies,
      connections: this.connections,
      refusals: this.refusals,
      dmaMaps: memory.count,
      dmaMappedBytes: memory.mappedBytes,
      dmaMapsMade: this.dmaMapsMade,
      interrupts: this.interrupts,
      faults: this.faults,
      polls: this.polls,
      polledWork: this.polledWork,
      stateSaves: this.stateSaves,
    };
  }
}

const KNOWN: ReadonlySet<number> = new Set(Object.values(Command));

function named(counts: Float64Array): Record<string, number> {
  const record: Record<string, number> = {};
  for (const [command, count] of counts.entries()) {
    if (count === 0) continue;
    const name = KNOWN.has(command) ? commandName(command) : "unknown";
    record[name] = (record[name] ?? 0) + count;
  }
  return record;
}

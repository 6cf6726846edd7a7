// What a trace consists of. Version 1 of the format: docs/trace-format.md says how each event is written as a line of JSON.
import type { BarIndex, DmaPermission, FunctionIdentity, PowerState, ResetMethod } from "../../pci/function.ts";

export const TRACE_VERSION = 1;

type TraceSpace = "config" | "bar" | "rom";

/** What every event has. */
interface Common {
  /** Nanoseconds since the trace began. */
  readonly t: number;
  /** Which function of the trace, counted from 0. */
  readonly fn: number;
  /** Who did it, where that is known. */
  readonly user?: string | undefined;
}

/** The name of a register, and its fields that are not 0. */
export interface DecodedValue {
  readonly register: string;
  readonly fields: Readonly<Record<string, number>>;
  /** Both as members of JSON, with a comma before each, where somebody has made that text already. */
  readonly json?: string;
}

/** One access: of `width` bytes, or of a run of bytes (`width` 0). */
export interface AccessEvent extends Common {
  readonly type: TraceSpace;
  readonly op: "read" | "write";
  /** Of BAR accesses. */
  readonly bar?: BarIndex | undefined;
  readonly offset: number;
  readonly width: 0 | 1 | 2 | 4 | 8;
  /** What was read or written; absent for runs, and where the access failed. A bigint where `width` is 8. */
  readonly value?: number | bigint | undefined;
  /** Of runs. */
  readonly bytes?: Uint8Array | undefined;
  readonly decoded?: DecodedValue | undefined;
  /** How long it took, in nanoseconds. */
  readonly took: number;
  /** The code of the error with which the access ended. */
  readonly error?: string | undefined;
}

/** A BAR, as replay needs to know it. */
export interface TracedBarShape {
  readonly index: BarIndex;
  readonly kind: "io" | "memory32" | "memory64";
  readonly size: number;
  readonly prefetchable: boolean;
}

/** How a function was when its trace began. */
export interface OpenEvent extends Common {
  readonly type: "open";
  readonly identity: FunctionIdentity;
  /** On which side accesses were seen: the driver's, or the device's behind a socket. */
  readonly side: "driver" | "device";
  readonly bars: readonly TracedBarShape[];
  readonly interrupts: { readonly intx: number; readonly msi: number; readonly msix: number };
  /** All of config space. */
  readonly config: Uint8Array;
  /** The register map from which names come. */
  readonly registers?: string;
  /** Whether memory is in the trace. */
  readonly memory: boolean;
  readonly passthrough: readonly BarIndex[];
}

export type TraceEvent =
  | OpenEvent
  | AccessEvent
  /** Vectors were switched on, or with a count of 0 all of the kind off. */
  | (Common & {
      readonly type: "interrupts";
      readonly kind: "intx" | "msi" | "msix";
      readonly first: number;
      readonly count: number;
    })
  /** Signals of a vector reached the driver (or were sent by the device). */
  | (Common & {
      readonly type: "interrupt";
      readonly kind: "intx" | "msi" | "msix";
      readonly vector: number;
      readonly count: number;
    })
  | (Common & {
      readonly type: "map";
      readonly map: number;
      readonly iova: number;
      readonly size: number;
      readonly permission: DmaPermission;
    })
  | (Common & { readonly type: "unmap"; readonly map: number; readonly iova: number; readonly size: number })
  /** A run of bytes of a mapping that the driver or the device changed. */
  | (Common & {
      readonly type: "memory";
      readonly by: "driver" | "device";
      readonly map: number;
      readonly offset: number;
      readonly bytes: Uint8Array;
    })
  | (Common & { readonly type: "reset"; readonly method?: ResetMethod; readonly took: number; readonly error?: string })
  | (Common & { readonly type: "power"; readonly state: PowerState; readonly took: number; readonly error?: string })
  /** What the function told its driver, or what happened to a device: its name and what else is known. */
  | (Common & {
      readonly type: "event";
      readonly name: string;
      readonly detail: Readonly<Record<string, string | number>>;
    })
  /** A fault was injected. */
  | (Common & { readonly type: "fault"; readonly fault: string; readonly description: string })
  | (Common & { readonly type: "close"; readonly reason: string });

/** An event without what every event has. */
export type EventBody = TraceEvent extends infer E ? (E extends TraceEvent ? Omit<E, keyof Common> : never) : never;

export type TraceEventType = TraceEvent["type"];
/** In the order of their numbers in a pcapng record (docs/trace-format.md): a new one goes to the end. */
export const TRACE_EVENT_TYPES: readonly TraceEventType[] = [
  "open",
  "config",
  "bar",
  "rom",
  "interrupts",
  "interrupt",
  "map",
  "unmap",
  "memory",
  "reset",
  "power",
  "event",
  "fault",
  "close",
];

export type TraceEventOf<T extends TraceEventType> = Extract<TraceEvent, { readonly type: T }>;

/** Takes events as they come. It must not throw: whoever records them is in the middle of an access. */
export interface TraceSink {
  write(event: TraceEvent): void;
}

export function isAccess(event: TraceEvent): event is AccessEvent {
  return event.type === "bar" || event.type === "config" || event.type === "rom";
}

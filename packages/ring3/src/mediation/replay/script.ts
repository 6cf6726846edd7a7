// A recording as a script: what the driver is expected to do, in order, and what the device did in between.
import { Ring3Error } from "../../binary/error.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { InterruptKind } from "../../virtual/interrupts.ts";
import type { DecodedValue, OpenEvent, TraceEvent } from "../trace/event.ts";
import type { Trace } from "../trace/json-lines.ts";

/** An access of the driver that is to come. */
export interface AccessStep {
  readonly kind: "read" | "write";
  readonly bar: BarIndex;
  readonly offset: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value: number | bigint;
  readonly decoded: DecodedValue | undefined;
  /** Which access of the recording it is, from 1 on, and when it came. */
  readonly number: number;
  readonly t: number;
  /** It was made, or is not to be made any more. */
  done: boolean;
}

/** Signals of a vector. */
export interface SignalStep {
  readonly kind: "signal";
  readonly interrupt: InterruptKind;
  readonly vector: number;
  readonly count: number;
  /** Those that were not sent yet. */
  left: number;
}

export type Step =
  | AccessStep
  /** The device wrote to a mapping. */
  | { readonly kind: "device"; readonly map: number; readonly offset: number; readonly bytes: Uint8Array }
  /** The driver wrote to a mapping, before its next access. */
  | { readonly kind: "driver"; readonly map: number; readonly offset: number; readonly bytes: Uint8Array }
  | SignalStep
  | { readonly kind: "map"; readonly map: number; readonly iova: number; readonly size: number }
  | { readonly kind: "unmap"; readonly map: number }
  | { readonly kind: "reset" };

/** Of one event at most. */
const MOST_SIGNALS = 65536;

export interface Script {
  readonly open: OpenEvent;
  readonly steps: readonly Step[];
  /** Accesses in all. */
  readonly accesses: number;
}

/**
 * The script of function `fn` of a trace. Accesses that failed left no trace on the device and are left out; so are accesses
 * to config space, which the replayed function answers by its own state. Throws `REPLAY_INVALID` where there is no such
 * function, or nothing of it to replay.
 */
export function scriptOf({ events }: Trace, fn = 0): Script {
  const own = events.filter((event) => event.fn === fn);
  const open = own.find((event) => event.type === "open");
  if (open === undefined)
    throw new Ring3Error("REPLAY_INVALID", `the trace does not tell how function ${fn} was opened`);
  let number = 0;
  const steps = own.flatMap((event): Step[] => {
    if (event.type !== "bar") return stepsOf(event);
    if (event.error !== undefined) return [];
    const pieces = event.bytes === undefined ? [event] : piecesOf(event.offset, event.bytes);
    return pieces.flatMap(({ offset, width, value }): Step[] => {
      if (value === undefined || width === 0 || event.bar === undefined) return [];
      const { op: kind, bar, decoded, t } = event;
      return [{ kind, bar, offset, width, value, decoded, number: ++number, t, done: false }];
    });
  });
  if (number === 0) {
    throw new Ring3Error(
      "REPLAY_INVALID",
      "the trace has no access to a BAR: record one without --register and --bar filters",
    );
  }
  return { open, steps, accesses: number };
}

function stepsOf(event: TraceEvent): Step[] {
  switch (event.type) {
    case "interrupt":
      return [signalStep(event.kind, event.vector, Math.min(event.count, MOST_SIGNALS))];
    case "map":
      return [{ kind: "map", map: event.map, iova: event.iova, size: event.size }];
    case "unmap":
      return [{ kind: "unmap", map: event.map }];
    case "memory":
      return [{ kind: event.by, map: event.map, offset: event.offset, bytes: event.bytes }];
    case "reset":
      return event.error === undefined ? [{ kind: "reset" }] : [];
    default:
      return [];
  }
}

function signalStep(interrupt: InterruptKind, vector: number, count: number): SignalStep {
  return { kind: "signal", interrupt, vector, count, left: count };
}

/** A run as the accesses that a device sees of it: aligned, the widest of up to 4 bytes. */
function piecesOf(start: number, bytes: Uint8Array): { offset: number; width: 1 | 2 | 4; value: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const pieces: { offset: number; width: 1 | 2 | 4; value: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const offset = start + at;
    const left = bytes.length - at;
    const width = offset % 4 === 0 && left >= 4 ? 4 : offset % 2 === 0 && left >= 2 ? 2 : 1;
    const value = width === 4 ? view.getUint32(at, true) : width === 2 ? view.getUint16(at, true) : view.getUint8(at);
    pieces.push({ offset, width, value });
    at += width;
  }
  return pieces;
}

// The tap that records: each access and each happening becomes an event for a sink. Hard about it: it is in the path of every
// register access, so it reads the clock twice and makes one object, and nothing more.
import type { DeviceRegisters } from "../../binary/register-map.ts";
import type { BarIndex, PciFunction } from "../../pci/function.ts";
import { codeOf, systemNowNs, TappedFunction } from "../tap/function.ts";
import { PassingTap } from "../tap/pass.ts";
import {
  type Area,
  type BytesTarget,
  type Happening,
  type InterruptKind,
  readFrom,
  type Target,
  type Width,
  type WideTarget,
  writeTo,
} from "../tap/tap.ts";
import { AccessDecoder } from "./decoder.ts";
import type { EventBody, OpenEvent, TraceSink } from "./event.ts";

export interface TraceOptions {
  /** Names and fields of BAR registers: `nvmeRegisters()`, `knownRegisters(fn)`, or a map of your own. */
  readonly registers?: DeviceRegisters | undefined;
  /** BARs that stay mapped, whose accesses are not seen. None by default. */
  readonly passthrough?: readonly BarIndex[];
  /**
   * Whether what driver and device write to DMA memory is recorded, for replay. Driver and device then work on memory of
   * their own, which is brought in step at each access and interrupt and in each turn of the event loop; workers cannot
   * attach. It costs time in proportion to the mapped memory.
   */
  readonly memory?: boolean;
  /** Number of the function in the trace; 0 by default. */
  readonly fn?: number;
  /** Who drives the function. */
  readonly user?: string;
  /** Nanoseconds on a monotonic clock, and what they were when the trace began. */
  readonly nowNs?: () => number;
  readonly startNs?: number;
}

/**
 * `fn` with every access, interrupt, mapping, reset and event recorded in `sink`. BARs cannot be mapped, so that nothing is
 * missed; emitted loops fall back to registers. Disposal closes `fn`.
 *
 * @example
 * import { JsonLines, traced } from "ring3/trace";
 * import { nvmeRegisters } from "ring3/specs/nvme";
 * import { NvmeDriver } from "ring3/nvme";
 * const lines = new JsonLines((text) => process.stdout.write(text));
 * await using watched = traced(fn, lines, { registers: nvmeRegisters() });
 * await using nvme = await NvmeDriver.start(watched);
 * lines.flush();
 */
export function traced(fn: PciFunction, sink: TraceSink, options: TraceOptions = {}): PciFunction {
  const nowNs = options.nowNs ?? systemNowNs;
  const tap = new TracingTap(sink, describe(fn, options), nowNs, options);
  return new TappedFunction(fn, tap, {
    passthrough: options.passthrough ?? [],
    bounced: options.memory === true,
    nowNs,
  });
}

/** How the function is now. */
function describe(fn: PciFunction, options: TraceOptions): Omit<OpenEvent, "t"> {
  const indexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];
  return {
    type: "open",
    fn: options.fn ?? 0,
    ...(options.user === undefined ? {} : { user: options.user }),
    identity: fn.identity,
    side: "driver",
    bars: indexes.flatMap((index) => {
      const { kind, size, prefetchable } = fn.bar(index);
      return kind === "none" ? [] : [{ index, kind, size, prefetchable }];
    }),
    interrupts: fn.interrupts.available,
    config: fn.config.readBytes(0, fn.config.size),
    ...(options.registers === undefined ? {} : { registers: options.registers.name }),
    memory: options.memory === true,
    passthrough: options.passthrough ?? [],
  };
}

class TracingTap extends PassingTap {
  readonly #sink: TraceSink;
  readonly #decoder: AccessDecoder;
  readonly #nowNs: () => number;
  readonly #startNs: number;
  readonly #fn: number;
  readonly #user: string | undefined;

  constructor(sink: TraceSink, open: Omit<OpenEvent, "t">, nowNs: () => number, options: TraceOptions) {
    super();
    this.#sink = sink;
    this.#decoder = new AccessDecoder(open.config, options.registers);
    this.#nowNs = nowNs;
    this.#startNs = options.startNs ?? nowNs();
    this.#fn = open.fn;
    this.#user = options.user;
    sink.write({ ...open, t: this.#since(nowNs()) });
  }

  override read(area: Area, target: Target, offset: number, width: Width): number {
    const startedNs = this.#nowNs();
    let value: number;
    try {
      value = readFrom(target, offset, width);
    } catch (error) {
      this.#access("read", area, offset, width, undefined, startedNs, codeOf(error));
      throw error;
    }
    this.#access("read", area, offset, width, value, startedNs);
    return value;
  }

  override write(area: Area, target: Target, offset: number, width: Width, value: number): void {
    const startedNs = this.#nowNs();
    try {
      writeTo(target, offset, width, value);
    } catch (error) {
      this.#access("write", area, offset, width, value, startedNs, codeOf(error));
      throw error;
    }
    this.#access("write", area, offset, width, value, startedNs);
  }

  override read64(area: Area, target: WideTarget, offset: number): bigint {
    const startedNs = this.#nowNs();
    try {
      const value = target.read64(offset);
      this.#access("read", area, offset, 8, value, startedNs);
      return value;
    } catch (error) {
      this.#access("read", area, offset, 8, undefined, startedNs, codeOf(error));
      throw error;
    }
  }

  override write64(area: Area, target: WideTarget, offset: number, value: bigint): void {
    const startedNs = this.#nowNs();
    try {
      target.write64(offset, value);
    } catch (error) {
      this.#access("write", area, offset, 8, value, startedNs, codeOf(error));
      throw error;
    }
    this.#access("write", area, offset, 8, value, startedNs);
  }

  override readBytes(area: Area, target: BytesTarget, offset: number, size: number): Uint8Array {
    const startedNs = this.#nowNs();
    try {
      const bytes = target.readBytes(offset, size);
      this.#run("read", area, offset, bytes.slice(), startedNs);
      return bytes;
    } catch (error) {
      this.#run("read", area, offset, new Uint8Array(), startedNs, codeOf(error));
      throw error;
    }
  }

  override writeBytes(area: Area, target: BytesTarget, offset: number, bytes: Uint8Array): void {
    const startedNs = this.#nowNs();
    try {
      target.writeBytes(offset, bytes);
    } catch (error) {
      this.#run("write", area, offset, bytes.slice(), startedNs, codeOf(error));
      throw error;
    }
    this.#run("write", area, offset, bytes.slice(), startedNs);
  }

  override interrupt(kind: InterruptKind, vector: number, count: number): number {
    this.#write({ type: "interrupt", kind, vector, count });
    return count;
  }

  override happened(what: Happening): void {
    if (what.type === "event") {
      const { type: name, ...detail } = what.event;
      this.#write({ type: "event", name, detail });
    } else if (what.type === "reset" || what.type === "power") {
      const { startedNs, ...rest } = what;
      this.#write({ ...rest, took: this.#took(startedNs, this.#nowNs()) });
    } else if (what.type === "memory") {
      this.#write({ ...what, bytes: what.bytes.slice() });
    } else this.#write(what);
  }

  override ended(reason: Error): void {
    this.#write({ type: "close", reason: reason.message });
  }

  #since(nowNs: number): number {
    return Math.max(0, Math.round(nowNs - this.#startNs));
  }

  #took(startedNs: number, endedNs: number): number {
    return Math.max(0, Math.round(endedNs - startedNs));
  }

  #access(
    op: "read" | "write",
    area: Area,
    offset: number,
    width: 1 | 2 | 4 | 8,
    value: number | bigint | undefined,
    startedNs: number,
    error?: string,
  ): void {
    const took = this.#took(startedNs, this.#nowNs());
    const at = area.base + offset;
    const isBar = area.space === "bar";
    const decoded = isBar
      ? this.#decoder.bar(area.bar, at, width, value)
      : this.#decoder.config(at, width, value as number | undefined);
    // One shape for all, which is what makes it quick.
    this.#sink.write({
      t: this.#since(startedNs),
      fn: this.#fn,
      user: this.#user,
      type: area.space,
      op,
      bar: isBar ? area.bar : undefined,
      offset: at,
      width,
      value,
      bytes: undefined,
      decoded,
      took,
      error,
    });
  }

  #run(op: "read" | "write", area: Area, offset: number, bytes: Uint8Array, startedNs: number, error?: string): void {
    this.#sink.write({
      t: this.#since(startedNs),
      fn: this.#fn,
      user: this.#user,
      type: area.space,
      op,
      bar: area.space === "bar" ? area.bar : undefined,
      offset: area.base + offset,
      width: 0,
      value: undefined,
      bytes,
      decoded: undefined,
      took: this.#took(startedNs, this.#nowNs()),
      error,
    });
  }

  #write(event: EventBody): void {
    this.#sink.write({ t: this.#since(this.#nowNs()), fn: this.#fn, user: this.#user, ...event });
  }
}
